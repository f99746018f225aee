"""Optima against the data mix: shares, composition, joint fits, design. Floor 4 of fitting."""
