"""One training in plain torch: model, step, loss, checkpoints, the loop. Floor 8 of 9."""
