"""One training in plain torch: model, step, loss, checkpoints, loop. Floor 5 of trainables."""
