"""What a sweep will cost and find, before it runs. Floor 5 of sweeper."""
