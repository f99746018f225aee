"""The model average of all skills' losses: optima and intervals. Floor 5 of fitting."""
