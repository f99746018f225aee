"""Hyperparameters tuned before a sweep, and the laws through them. Floor 6 of sweeper."""
