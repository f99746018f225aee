"""Results for readers: HTML, Markdown, JSON, the Hub. Floor 8 of sweeper."""
