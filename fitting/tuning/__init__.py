"""Learning rate and batch size: optima, laws, published rules. Floor 4 of fitting."""
