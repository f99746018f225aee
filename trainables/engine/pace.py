"""How fast this machine trains some models: a moment of each, in a process of its own.

``python -m trainables.engine.pace SECONDS`` reads a JSON list of trial configs and prints what
`pace` says of each, as a list.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.engine.loop import train

FEW_STEPS = 2
"""Steps of the training whose rest is timed."""


def pace(config: TrialConfig, seconds: float) -> dict[str, float]:
    """Train a model for this many seconds, and time what else a trial of it takes.

    Returns:
        ``tokens_per_s``; ``aside_s``, seconds of a trial beside its steps (building, opening,
        scoring); and ``core``, the share of a core that training got.
    """
    config = replace(config, train=replace(config.train, checkpoint_every_s=0.0))
    batch = config.recipe.batch * config.shape.context
    short = replace(config, tokens=min(config.tokens, FEW_STEPS * batch))
    began = time.monotonic()
    train(short, LocalContext())
    whole_s, began = time.monotonic() - began, time.monotonic()
    worked = time.process_time()
    ran = train(config, LocalContext(stop=lambda: time.monotonic() > began + seconds))
    core = (time.process_time() - worked) / (time.monotonic() - began)
    speed = float(ran["tokens_per_s"])
    aside_s = max(whole_s - short.tokens / speed, 0.0)
    return {"tokens_per_s": speed, "aside_s": aside_s, "core": core}


def main(configs: list[Mapping[str, Any]], seconds: float) -> None:
    """Print the pace of every config as JSON."""
    print(json.dumps([pace(TrialConfig.from_dict(dict(config)), seconds) for config in configs]))


if __name__ == "__main__":
    main(json.load(sys.stdin), float(sys.argv[1]))
