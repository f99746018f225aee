"""What starts next, what ended, and who is told. Floor 5 of sweeper."""
