"""Optima against the data mix: shares, composition, joint fits, design. Floor 6 of fitting."""
