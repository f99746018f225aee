"""Laws as formulas, fitted: power laws and loss surfaces. Floor 4 of fitting."""
