"""What a sweep will cost and find, before it runs. Floor 6 of sweeper."""
