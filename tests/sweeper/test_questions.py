"""The loss of every question is kept, read back, and feeds the laws of repeated sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from benchmarks.checkpoints import QUESTIONS, checkpoint_grid
from fitting import Status, fit_nll_law, fit_pass_law, pass_curves
from sweeper import Allocation, Results, Sizes, SpecError, Sweep
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine.loop import train
from trainables.trainer import keep_questions
from trainables.training import Train

SWEEP = Sweep(
    [4e8],
    1e11,
    skills=("code", "knowledge"),
    sizes=Sizes(3e3, 1.2e4),
    data=Data(evaluation_documents=32),
    train=Train(batch_tokens=240, checkpoint_every_s=0),
)


def _directory(root: Path, records: list[tuple[Allocation, dict[str, Any]]]) -> Results:
    """A sweep directory with these ended trials."""
    directory = Directory(root)
    directory.claim(SWEEP)
    ledger = Ledger(directory.ledger)
    for number, (allocation, record) in enumerate(records):
        plain = keep_questions(record, directory.trials / str(number))
        json.dumps(plain)
        ledger.reserve(str(number), allocation)
        ledger.settle(str(number), plain, spent_flops=allocation.flops)
    ledger.close()
    return Results(root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two small trainings, and one that kept no questions."""
    records = []
    for seed in range(3):
        allocation = SWEEP.space.allocation(4e8, 3e3, seed=seed)
        record = train(SWEEP.trial(allocation), LocalContext(device="cpu"))
        if seed == 2:
            del record["questions"]
        records.append((allocation, record))
    return _directory(tmp_path_factory.mktemp("trained"), records)


def test_questions_sum_to_the_observations(trained: Results) -> None:
    found = trained.questions()
    assert set(found["trial_id"]) == set("01")
    sums = found.groupby(["trial_id", "skill"])[["nll", "target_tokens"]].sum()
    table = trained.table.set_index(["trial_id", "skill"])
    for key, row in sums.iterrows():
        assert row["nll"] == pytest.approx(table.loc[key, "nll"])
        assert row["target_tokens"] == table.loc[key, "target_tokens"]
    counts = found.groupby(["trial_id", "skill"]).size()
    assert (counts == table.loc[counts.index, "examples"]).all()
    assert set(found["skill"]) == {"code", "knowledge"}  # the aggregate has no questions
    assert not found.duplicated(["trial_id", "skill", "example"]).any()


def test_questions_lead_to_the_best_allocation_for_many_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    params, tokens, _ = checkpoint_grid()
    records = []
    for p, t in zip(params, tokens, strict=True):
        a, b = QUESTIONS.shape(QUESTIONS.surface.loss(p, t))
        nll = -np.log(np.maximum(beta.rvs(a, b, size=2000, random_state=rng), 1e-300))
        columns = {
            "example": [str(i) for i in range(2000)],
            "nll": nll.tolist(),
            "target_tokens": [1] * 2000,
        }
        sums = {"nll": nll.sum(), "tokens": 2000, "bytes": 2000, "examples": 2000, "class": "k"}
        record = {"status": "finished", "losses": {"k": sums}, "questions": {"k": columns}}
        records.append((Allocation(6 * p * t, int(p), int(t)), record))
    curves = pass_curves(_directory(tmp_path, records).questions("k"))
    truth = QUESTIONS.optimum(1e20, 2e9)
    passes, losses = fit_pass_law(curves), fit_nll_law(curves)
    assert passes.ok
    assert passes.optimum(1e20, 2e9).params == pytest.approx(truth.params, rel=0.5)
    # The additive law of -ln pass@k is of another form than this truth, and says so.
    assert losses.status is Status.MISFIT


def test_an_unknown_skill_or_a_sweep_without_questions_is_said(trained: Results, tmp_path) -> None:
    with pytest.raises(SpecError, match=r"'cod' was not measured \(did you mean 'code'\?\)"):
        trained.questions("cod")
    directory = Directory(tmp_path)
    directory.claim(SWEEP)
    Ledger(directory.ledger).close()
    with pytest.raises(SpecError, match=r"no finished trial has kept its questions"):
        Results(tmp_path).questions()
