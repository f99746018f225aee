"""Learning rate and batch size: optima, laws, published rules. Floor 3 of fitting."""
