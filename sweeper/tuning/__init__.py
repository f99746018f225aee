"""Hyperparameters tuned before a sweep, and the laws through them. Floor 7 of sweeper."""
