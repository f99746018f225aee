"""From fits to decisions: weightings, wrong sizes, serving, sampling. Floor 6 of fitting."""
