"""One training in plain torch: model, step, loss, checkpoints, the loop. Floor 4 of trainables."""
