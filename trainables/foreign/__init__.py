"""Trainers that are not ours: a command or function as a trial. Floor 2 of trainables."""
