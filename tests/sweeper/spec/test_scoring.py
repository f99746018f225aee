"""Measuring the skills stays below 3 % of every trial, and the plan says what it comes to."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sweeper import SearchSettings, Sizes, Sweep
from sweeper.spec.scoring import FEWEST, SHARE
from trainables.corpora import evaluation_sets
from trainables.data import DOCUMENTS, Data
from trainables.families import Model
from trainables.manifest import ClassCounts, Corpus, SkillCounts
from trainables.skills import resolve
from trainables.skills.scoring import score_skills


def _sweep(low: float, **changes) -> Sweep:
    return Sweep([low, 2 * low, 4 * low], 60 * low, **changes)


@pytest.mark.parametrize("low", [1e11, 3e11, 1e12, 1e14])
def test_no_trial_spends_more_than_three_percent_on_scoring(low: float) -> None:
    sweep = _sweep(low)
    cost, space = sweep.scoring, sweep.space
    assert cost.most <= SHARE and FEWEST < cost.documents <= DOCUMENTS
    for flops in space.budgets:
        for i in space.allowed(flops):
            forward = 2 * space.params[i] * cost.tokens
            share = forward / (6 * space.params[i] * space.tokens(flops, i))
            assert cost.least <= share * (1 + 1e-9) and share <= cost.most * (1 + 1e-9)
    assert low < 1e14 or cost.documents == DOCUMENTS
    few = replace(sweep, data=Data(evaluation_documents=cost.documents + 1))
    assert cost.documents == DOCUMENTS or few.scoring.most > SHARE


def test_the_tokens_promised_are_the_tokens_scored() -> None:
    sweep = _sweep(1e11, skills=("code", "knowledge-qa"))
    allocation = sweep.space.allocation(1e11, 2e4)
    data = sweep.trial(allocation).data
    assert data.evaluation_documents == sweep.scoring.documents
    scored = []

    def count(tokens):
        scored.append(tokens.size)
        return np.ones(tokens.shape)

    score_skills(
        count, resolve(sweep.measured), evaluation_sets(data, sweep.model.context), data,
        token_bytes=np.ones(256, dtype=np.int64),
    )  # fmt: skip
    assert sum(scored) == sweep.scoring.tokens


def test_the_plan_says_what_scoring_adds_and_warns_where_it_is_much() -> None:
    plan = _sweep(1e11).plan()
    assert "documents per class) adds 0.0" in str(plan) and not plan.warnings
    assert json.loads(plan.to_json())["scoring"]["most"] <= SHARE
    dear = _sweep(1e11, data=Data(evaluation_documents=512)).plan()
    assert "scoring adds more than 3 %" in str(dear)
    assert "; leave data.evaluation_documents out, name fewer" in dear.warnings[0]
    tiny = _sweep(2e9, sizes=Sizes(7e3, 4e4)).plan()
    assert tiny.scoring.documents == FEWEST and "; name fewer skills" in tiny.warnings[0]
    simulated = _sweep(1e11, data=Data(source="simulated")).plan()
    assert simulated.scoring is None and "scoring" not in str(simulated)


def test_a_default_that_would_change_half_way_is_another_sweep() -> None:
    one = _sweep(1e11)
    other = replace(one, search=SearchSettings(tokens_per_param=5))
    assert one.scoring.documents != other.scoring.documents
    assert one.identity != other.identity
    assert one.identity == replace(one, allowance=1e13).identity
    fixed = replace(one, data=Data(evaluation_documents=40))
    assert fixed.identity == replace(fixed, search=SearchSettings(tokens_per_param=5)).identity


def test_a_prepared_corpus_counts_what_it_has() -> None:
    counts = ClassCounts(share=0.5, documents=1000, tokens=10**9, validation_tokens=640)
    corpus = Corpus(
        manifest="a",
        vocabulary=256,
        begin=0,
        classes={"prose": counts, "code": counts},
        skills={"facts": SkillCounts("knowledge", examples=10, tokens=3000)},
    )
    data = Data(source="prepared", path="x", corpus=corpus)
    sweep = Sweep([1e12, 2e12], 1e14, data=data, sizes=Sizes(1e4, 1e5), model=Model(context=64))
    assert set(sweep.measured) == {"facts", "validation"}
    # Ten sequences of either class are all there is; examples are cut to the context.
    assert sweep.scoring.tokens == 2 * 640 + 10 * 64
    assert replace(sweep, skills=("validation/code",)).scoring.tokens == 2 * 640
