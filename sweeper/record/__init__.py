"""What happened: ledger, directory, live file. Floor 4 of sweeper."""
