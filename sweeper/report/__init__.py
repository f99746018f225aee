"""Results for readers: HTML, Markdown, JSON, the Hub. Floor 7 of sweeper."""
