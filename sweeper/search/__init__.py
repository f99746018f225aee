"""Which trial next: policies as pure functions of the ledger. Floor 3 of sweeper."""
