"""From fits to decisions: weightings, wrong sizes, serving, sampling. Floor 9 of fitting."""
