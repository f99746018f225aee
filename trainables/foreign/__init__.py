"""Trainers that are not ours: a user's command or function as a trial. Beside engine/."""
