"""Start the run that a forecast recommends, and hold its losses against the predicted intervals.

    isoskill predict sweeps/demo --flops 6e11 --spec sweeps/demo --json \\
        | python examples/10_big_run.py

The forecast's ``run.trial`` is a whole training as `trainables` takes it: shape, tokens, mix,
batch, rate and schedule. Here it is small enough for one CPU core.
"""

import json
import sys
import tempfile
from pathlib import Path

from trainables.config import TrialConfig
from trainables.trainer import run_trial


def main() -> None:
    run = json.load(sys.stdin)["run"]
    config = TrialConfig.from_dict(run["trial"])
    print(
        f"{config.params:.3g} params on {config.tokens:.3g} tokens, for {run['skill']}: "
        f"{run['steps']} steps of {run['batch_tokens']} tokens, rate {run['learning_rate']:.3g}"
    )
    with tempfile.TemporaryDirectory() as directory:
        record = run_trial(config, directory=Path(directory))
    print(f"{record['status']} after {record['wall_s']:.0f} s")
    for skill, expected in run["losses"].items():
        if skill not in record["losses"]:  # a weighting of skills is not measured by itself
            continue
        loss = record["losses"][skill]["nll"] / record["losses"][skill]["tokens"]
        low, high = expected["interval"]
        verdict = "inside" if low < loss < high else "OUTSIDE"
        print(f"  {skill:<14} {loss:.4f}, predicted {low:.4f} to {high:.4f}: {verdict}")


if __name__ == "__main__":
    main()
