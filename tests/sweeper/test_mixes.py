"""Mixes as a dimension of a sweep: the spec, the search, the accounting."""

import math

import pytest

from fitting.datamix.shares import paper_mixes
from sweeper import SearchSettings, SpecError, Sweep
from sweeper.search import closing
from sweeper.search.build import policy
from sweeper.search.grid import GridOfEach
from sweeper.search.mixes import MixSearch

SLOPES = {"knowledge": 0.6, "code": 0.3}
CURVATURE = {"knowledge": 0.14, "code": 0.08}


def losses(allocation, rng, shares):
    """Optima that rise with the share of the own class, from a known line."""
    found = {}
    for skill, slope in SLOPES.items():
        share = shares[allocation.mix][skill]
        guess = 0.5 * math.log(allocation.flops / 120)
        u = math.log(allocation.params) - guess - slope * (share - 0.4)
        bowl = (math.exp(0.35 * u) + math.exp(-0.35 * u) - 2) / 0.35**2
        noise = 0.003 * rng.standard_normal()
        found[skill] = 1.0 - 0.1 * math.log(share) + CURVATURE[skill] * bowl / 2 + noise
    return found


def sweep(**changes):
    settings = {"budgets": [4e11], "allowance": 1.8e13, "mixes": "paper"} | changes
    return Sweep(**settings)


def run(plan, seed=0, slots=1):
    shares = plan.mix_shares
    return plan.simulate(lambda a, rng: losses(a, rng, shares), seed=seed, slots=slots)


def test_the_papers_mixes_are_a_preset():
    plan = sweep()
    assert list(plan.mixes) == list(paper_mixes())
    for name, mix in paper_mixes().items():
        assert plan.mix_shares[name] == pytest.approx(mix, abs=2e-3)
    assert plan.space.mix == "base"
    assert Sweep.from_dict(plan.to_dict()) == plan
    assert sweep(mixes={}, study="datamix").mixes == plan.mixes


def test_a_mix_is_trained_as_its_shares_say_and_has_its_own_identity():
    from sweeper.spec.variants import trial_id

    plan = sweep(mixes={"base": {}, "more": {"code": 4}})
    allocation = plan.space.allocation(4e11, 4e4)
    more = type(allocation)(
        *[getattr(allocation, f) for f in ("flops", "params", "tokens")], 0, "more"
    )
    assert plan.trial(allocation).data.mix["code"] == pytest.approx(0.199)
    assert plan.trial(more).data.mix["code"] == pytest.approx(0.796 / 1.597, rel=1e-3)
    assert plan.trial(more).data.reference_mix == plan.trial(allocation).data.reference_mix
    assert trial_id(plan.trial(more)) != trial_id(plan.trial(allocation))
    assert str(more).endswith("mix=more") and "mix" not in str(allocation)


def test_mistakes_name_field_and_remedy():
    with pytest.raises(SpecError, match=r"mixes.odd: .*'prose' is no document class"):
        sweep(mixes={"base": {}, "odd": {"prose": 2}})
    with pytest.raises(SpecError, match="mixes: 'thirteen' is unknown"):
        sweep(mixes="thirteen")
    with pytest.raises(SpecError, match="optuna knows no mixes"):
        sweep(search=SearchSettings(policy="optuna"))
    with pytest.raises(SpecError, match="none of the skills"):
        sweep().simulate(lambda a, rng: {"mystery": 1.0})


def test_the_search_finds_the_slopes_within_its_allowance():
    outcome = run(sweep(search=SearchSettings(tolerance=0.02)))
    trials = outcome.table.drop_duplicates("trial_id")
    assert trials["spent_flops"].sum() <= 1.8e13
    assert outcome.finished.reason == "allowance"
    assert trials["mix"].nunique() >= 4
    from fitting.datamix.joint import fit_mixes

    plan = outcome.sweep
    fits = fit_mixes(outcome.table, plan.mix_shares, {s: s for s in SLOPES})
    for skill, slope in SLOPES.items():
        value, error, _ = fits[skill].slope(4e11)
        assert abs(value - slope) < 3 * error
        assert error < 0.12
    assert len(outcome.fit()["code"].optima) == 1  # the reference mix alone


def test_a_tolerance_ends_the_search():
    outcome = run(sweep(allowance=1e14, search=SearchSettings(tolerance=0.15, min_trials=20)))
    assert outcome.finished.reason == "tolerance"
    assert "knowledge ±" in outcome.finished.detail


def test_every_budget_is_trained_though_one_trial_alone_says_nothing_of_it():
    mixes, budgets = {"base": {}, "more": {"code": 4}}, [1e11, 2e11, 4e11]
    outcome = run(sweep(budgets=budgets, mixes=mixes, allowance=1.2e13))
    trials = outcome.table.drop_duplicates("trial_id")
    assert trials["flops"].value_counts().get(4e11, 0) >= 3  # 0 where each is judged alone
    assert trials["spent_flops"].sum() <= 1.2e13


def test_it_ends_with_a_proof_under_the_reference_mix():
    plan, held = sweep(allowance=1.2e13), []
    for seed in range(4):
        table = run(plan, seed, slots=2).table
        last = table.drop_duplicates("trial_id").iloc[-1]
        assert last["seed"] >= closing.PROOF_SEED and last["mix"] == "base"
        allocation = plan.space.allocation(4e11, int(last["params"]))
        told = closing.predict(table[table["seed"] < closing.PROOF_SEED], plan.space, allocation)
        measured = table[table["trial_id"] == last["trial_id"]].set_index("skill")["loss"]
        for skill, loss in told.items():
            assert loss["high"] - loss["low"] < 0.1
            held.append(loss["low"] < measured[skill] < loss["high"])
    assert len(held) == 8 and sum(held) >= 6


def test_the_same_trials_whatever_the_order_of_the_results():
    plan = sweep(allowance=8e12)
    table = run(plan).table
    search = policy(plan, ["knowledge", "code"])
    assert isinstance(search, MixSearch)
    asked = search.propose(table, [], 1e13, 2)
    again = policy(plan, ["knowledge", "code"]).propose(table.iloc[::-1], [], 1e13, 2)
    assert asked == again and len(asked) == 2
    with_pending = search.propose(table, asked, 1e13, 1)
    assert with_pending and with_pending[0] not in asked


def test_a_search_without_memory_proposes_the_same():
    plan = sweep()
    table = run(plan).table
    used, ids = policy(plan, plan.measured), list(dict.fromkeys(table["trial_id"]))
    for count in range(len(ids) - 6, len(ids)):
        seen = table[table["trial_id"].isin(ids[:count])]
        fresh = policy(plan, plan.measured)
        assert used.propose(seen, [], 1e15) == fresh.propose(seen, [], 1e15)


def test_several_slots_spend_no_more():
    table = run(sweep(allowance=1e13), slots=4).table
    assert table.drop_duplicates("trial_id")["spent_flops"].sum() <= 1e13


def test_the_grid_takes_every_size_under_every_mix():
    plan = sweep(
        mixes={"base": {}, "more": {"code": 4}},
        search=SearchSettings(policy="grid", sizes_per_budget=5),
    )
    assert isinstance(policy(plan, ["code"]), GridOfEach)
    outcome = run(plan)
    assert outcome.finished.reason == "complete"
    counts = outcome.table.drop_duplicates("trial_id").groupby("mix").size()
    assert counts.to_dict() == {"base": 5, "more": 5}
    assert plan.plan().trials == (10, 10)


def test_a_grid_that_cannot_be_afforded_is_not_complete():
    plan = sweep(
        mixes={"base": {}, "more": {"code": 4}},
        allowance=3e12,
        search=SearchSettings(policy="grid", sizes_per_budget=5),
    )
    outcome = run(plan)
    assert outcome.finished.reason == "allowance"
    assert outcome.finished.detail == "more: 3 trials of the grid cannot be afforded."
