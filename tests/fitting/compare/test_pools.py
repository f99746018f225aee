"""Mixes of real runs against each other: what the cheap half says of budgets ten times larger."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fitting import prepare, read_runs
from fitting.compare.joint import VariantTrials
from fitting.compare.multipliers import compare_trials

SKILLS = ["c4_val", "starcoder_val", "proof_pile_2_val", "hellaswag"]


def test_differences_of_data_mixes_are_predicted_ten_times_beyond(shared_data: Path) -> None:
    files = {mix: shared_data / "pools" / f"l2l_{mix}.parquet" for mix in ("slim", "star")}
    if not all(path.exists() for path in files.values()):
        pytest.skip("the public runs of this test are not here")
    frames = {mix: prepare(read_runs(path).table).frame for mix, path in files.items()}
    every = VariantTrials.of(frames, SKILLS)
    top = float(np.exp(every.log_flops.max()))
    cheap = every.take(every.log_flops < math.log(top / 8))
    told, found = (
        compare_trials(trials, flops=[top], examined=False, others=False)
        for trials in (cheap, every)
    )
    inside = []
    for skill in SKILLS:
        one, true = told[skill], found[skill]
        assert one.beyond > 8
        assert one.verdict == true.verdict != "undecided"
        assert abs(one.loss[0] - true.loss[0]) < 0.2 * abs(true.loss[0])
        inside += [one.low < true.multiplier < one.high, one.loss[1] < true.loss[0] < one.loss[2]]
    assert sum(inside) >= 6  # of eight intervals of 90 %
