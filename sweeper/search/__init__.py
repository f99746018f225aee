"""Which trial next: policies as pure functions of the ledger. Floor 4 of sweeper."""
