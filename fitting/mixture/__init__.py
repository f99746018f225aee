"""The model average of all skills' losses: optima and intervals. Floor 3 of fitting."""
