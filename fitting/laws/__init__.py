"""Laws as formulas, fitted: power laws and loss surfaces. Floor 2 of fitting."""
