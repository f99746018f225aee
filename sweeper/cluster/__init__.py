"""Everything that trains through Ray. Floor 7 of sweeper."""
