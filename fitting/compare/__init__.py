"""Comparisons: of skills, and of variants of a training. Floor 7 of fitting."""
