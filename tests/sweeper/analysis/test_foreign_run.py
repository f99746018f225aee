"""The big run in the words of its trainer."""

import numpy as np
import pandas as pd
import pytest

from fitting import fit_skills
from sweeper import Sweep
from sweeper.analysis.foreign_run import recommend

BUDGETS = (1e18, 3e18, 1e19)


@pytest.fixture(scope="module")
def fits():
    rows = []
    for c in BUDGETS:
        for p in np.geomspace(4e7, 1.2e9, 9):
            t = c / 6 / p
            for k, name in ((1.0, "code"), (1.3, "validation")):
                loss = 1.5 + 400 / p**0.34 + k * 410 / t**0.28
                rows.append((c, p, t, name, loss))
    return fit_skills(pd.DataFrame(rows, columns=["flops", "params", "tokens", "skill", "loss"]))


def make(**changes):
    ladder = [{"params": round(12 * d * (64 * d) ** 2), "layers": d} for d in range(6, 30)]
    return Sweep.from_dict(
        {
            "budgets": BUDGETS,
            "allowance": 1e21,
            "trainer": {
                "command": ["train", "--layers={layers}", "--t={tokens}", "{learning_rate:.1e}"],
                "skills": {"code": "code", "validation": "aggregate"},
            },
            "train": {"rule": "steplaw"},
            "sizes": {"ladder": ladder},
            "cluster": {"device": "h100", "resources": [{"gpus": 8}], "price_per_hour": 2.0},
            **changes,
        }
    )  # fmt: skip


def test_the_command_is_filled_within_the_ladder(fits, tmp_path):
    run = recommend(fits["validation"], make(), 1e19, losses=dict(fits))
    best = fits["validation"].at(1e19)
    assert run.params == pytest.approx(best.params, rel=0.2)
    assert run.command[1].startswith("--layers=") and run.command[1][9:].isdigit()
    assert run.command[2] == f"--t={run.tokens}"
    assert run.devices == 8 and run.price == pytest.approx(2 * run.device_hours)
    assert set(run.losses) == {"code", "validation"}
    files = run.save(tmp_path / "big.yaml")
    assert files[1].read_text().startswith("train --layers=")
    assert "command   train" in str(run)


def test_beyond_the_ladder_sizes_are_left_open_and_said(fits):
    run = recommend(fits["validation"], make(), 1e22, losses={})
    assert run.command[1] == "--layers={layers}"
    assert run.command[2] == f"--t={run.tokens}"
    assert run.flops / run.tokens / run.params == pytest.approx(6, rel=1e-3)
    assert any("sizes.ladder ends before" in warning for warning in run.warnings)
    assert any("beyond the largest trained" in warning for warning in run.warnings)


def test_shapes_of_ours_fill_it_at_any_size(fits):
    trainer = {"command": ["train", "{width}", "{heads}"], "skills": {"validation": "aggregate"}}
    sweep = make(sizes={}, trainer=trainer, cluster={"device": "h100"})
    run = recommend(fits["validation"], sweep, 1e20, losses={})
    width, heads = int(run.command[1]), int(run.command[2])
    assert width % heads == 0
