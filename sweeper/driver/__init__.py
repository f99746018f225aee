"""What starts next, what ended, and who is told. Floor 6 of sweeper."""
