"""Laws as formulas, fitted: power laws, loss surfaces, over-training. Floor 2 of fitting."""
