"""What happened: ledger, directory, live file. Floor 5 of sweeper."""
