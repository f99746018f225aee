"""The console commands, a module for each group. Floor 10 of sweeper."""
