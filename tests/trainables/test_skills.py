"""Skills are found by name and scored on their target tokens only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trainables.corpora import evaluation_sets
from trainables.corpora import vocabulary as v
from trainables.data import Data
from trainables.skills import catalog, resolve
from trainables.skills.scoring import Score, score_skills

DATA = Data(evaluation_documents=64)
SETS = evaluation_sets(DATA, 60)


def test_names_are_pinned() -> None:
    assert [skill.name for skill in catalog() if skill.default] == [
        "knowledge",
        "knowledge-qa",
        "code",
        "validation",
    ]
    assert {skill.name for skill in catalog() if not skill.default} == {
        *(f"code-{grade}" for grade in range(1, 7)),
        *(f"validation/{name}" for name in ("knowledge", "code", "other")),
    }


def test_an_unknown_skill_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'knowledge'"):
        resolve(["knowlege"])
    assert [skill.name for skill in resolve(["code", "knowledge"])] == ["code", "knowledge"]
    assert len(resolve([])) == 4


def _losses(score: Score, data: Data) -> dict[str, dict[str, Any]]:
    return score_skills(score, catalog(), SETS, data, token_bytes=v.TOKEN_BYTES)[0]


def _uniform(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.full(tokens.shape, math.log(256))


def test_a_uniform_model_scores_the_entropy_on_every_skill() -> None:
    record = _losses(_uniform, DATA)
    assert set(record) == {skill.name for skill in catalog()}
    for entry in record.values():
        assert entry["nll"] / entry["tokens"] == pytest.approx(math.log(256))
        assert entry["bytes"] > entry["tokens"] >= entry["examples"] > 0


def _knows_digits(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.where((tokens >= v.DIGIT) & (tokens < v.DIGIT + 10), 0.0, 5.0)


def test_only_target_tokens_count() -> None:
    record = _losses(_knows_digits, DATA)
    assert record["code"]["nll"] == 0
    assert record["code"]["tokens"] == sum(record[f"code-{g}"]["tokens"] for g in range(1, 7))
    assert record["knowledge"]["nll"] / record["knowledge"]["tokens"] == 5
    assert 0 < record["validation/code"]["nll"] / record["validation/code"]["tokens"] < 5


def test_the_aggregate_weighs_classes_by_the_reference_shares() -> None:
    data = Data(evaluation_documents=64, shares={"code": 0.25, "other": 0.75})
    record = _losses(_knows_digits, data)
    means = {
        name: record[f"validation/{name}"]["nll"] / record[f"validation/{name}"]["tokens"]
        for name in ("code", "other")
    }
    aggregate = record["validation"]["nll"] / record["validation"]["tokens"]
    assert aggregate == pytest.approx(0.25 * means["code"] + 0.75 * means["other"])
