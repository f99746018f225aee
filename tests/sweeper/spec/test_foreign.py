"""Sweeps whose trials a user's trainer runs: sizes from a ladder, identity, and refusals."""

import math

import pytest

from sweeper import Cluster, Sizes, SpecError, Sweep
from sweeper.budget import same_budget
from sweeper.spec.variants import trial_id
from trainables.foreign.settings import Trainer

SKILLS = {"code": "code", "web": "web", "validation": "aggregate"}
ROWS = tuple(
    {"params": 12 * d * (64 * d) ** 2, "layers": d, "width": 64 * d} for d in range(2, 13)
)
SPEC = {
    "budgets": [1e15, 3e15, 1e16],
    "allowance": 1e17,
    "trainer": {
        "command": ["python", "train.py", "--tokens={tokens}", "--lr={learning_rate}", "{layers}"],
        "version": "a1",
        "skills": SKILLS,
    },
    "sizes": {"ladder": list(ROWS)},
    "cluster": {"device": "h100", "resources": [{"gpus": 1, "cpus": 4}]},
}


def spec(**changes):
    values = {**SPEC, **changes}
    return Sweep.from_dict({k: v for k, v in values.items() if v is not None})


def with_trainer(**changes):
    return spec(trainer={**SPEC["trainer"], **changes})


def test_allocations_take_sizes_of_the_ladder_and_meet_the_budget_within_1_percent():
    sweep = with_trainer(granule=2048)
    assert set(sweep.space.params) == {row["params"] for row in ROWS}
    for budget in sweep.budgets:
        for i in sweep.space.allowed(budget):
            allocation = sweep.space.allocation(budget, sweep.space.params[i])
            assert allocation.tokens % 2048 == 0
            assert same_budget(sweep.space.cost(allocation), budget)


def test_a_resolved_spec_holds_the_ladder_and_is_itself_again(tmp_path):
    (tmp_path / "sizes.csv").write_text(
        "params,layers,flops_per_token\n"
        + "".join(f"{d}M,{d},{6.5e6 * d}\n" for d in range(3, 30))
    )
    sweep = spec(
        sizes={"ladder": "sizes.csv", "high": 20e6},
        trainer={**SPEC["trainer"], "command": ["x", "{layers}"], "workdir": str(tmp_path)},
    )
    assert (max(sweep.space.params), sweep.flops) == (20_000_000, "exact")
    assert sweep.space.flops_per_token[0] == 6.5e6 * 3
    sweep.save(tmp_path / "sweep.yaml")
    (tmp_path / "sizes.csv").unlink()
    again = Sweep.load(tmp_path / "sweep.yaml")
    assert again == sweep
    assert again.identity == sweep.identity


def test_identity_follows_the_trainer_but_not_where_it_runs():
    a = spec().space.allocation(1e15, 1e6)
    ids = {
        name: trial_id(with_trainer(**{name: value}).trial(a))
        for name, value in {
            "version": "b2", "workdir": "/", "progress": r"(?P<tokens>\d+)", "grace_s": 1.0,
        }.items()
    }  # fmt: skip
    assert ids.pop("version") != trial_id(spec().trial(a))
    assert set(ids.values()) == {trial_id(spec().trial(a))}
    assert with_trainer(version="b2").identity != spec().identity
    # A rate the command does not name is nobody's business.
    silent = with_trainer(command=["x", "{tokens}"])
    other = spec(trainer={**SPEC["trainer"], "command": ["x", "{tokens}"]}, train={"beta2": 0.9})
    assert trial_id(silent.trial(a)) == trial_id(other.trial(a))


def test_a_command_may_name_shares_recipe_and_dimensions_of_our_shapes():
    sweep = spec(
        sizes=None,
        cluster={"device": "h100"},
        data={"source": "own", "shares": {"code": 1, "web": 3}},
        mixes={"base": {}, "more-code": {"code": 3}},
        trainer={
            "command": ["x", "{width}", "{heads}", "{share.code}", "{steps}", "{kv_heads}"],
            "skills": SKILLS,
        },
    )  # fmt: skip
    trial = sweep.foreign_trial(sweep.policy(sweep.measured).propose(_nothing(), [], 1e17)[0])
    assert trial.shares == {"code": 0.25, "web": 0.75}
    more = sweep.mix_data("more-code").mix
    assert more == {"code": 0.5, "web": 0.5}
    assert trial.recipe["steps"] >= 40
    assert sweep.placement.rules  # made from the memory our shapes need
    assert sweep.followed(sweep.measured) == {"code": "code", "web": "web"}


def test_a_study_of_mixes_through_placeholders():
    sweep = spec(
        data={"source": "own", "shares": {"code": 1, "web": 3}},
        mixes={"base": {}, "more-code": {"code": 3}},
        allowance=8e16,
        study="datamix",
        trainer={**SPEC["trainer"], "command": ["x", "{share.code}", "{mix}", "{layers}"]},
    )

    def losses(a, rng):
        code = sweep.mix_data(a.mix).mix["code"]
        loss = {s: 1.5 + 40 / a.params**0.3 + 400 / a.tokens**0.28 for s in SKILLS}
        return loss | {"code": loss["code"] + 20 * (1 - code) / a.params**0.3}

    found = sweep.simulate(losses)
    assert set(found.table["mix"]) == {"base", "more-code"}
    commands = {sweep.foreign_trial(sweep.space.allocation(1e15, 1e6)).shares["code"]}
    assert commands == {0.25}
    trials = found.table.drop_duplicates("trial_id")
    assert (trials["mix"] == "more-code").sum() >= 3


def test_tuning_is_refused(tmp_path):
    with pytest.raises(SpecError, match="not with a trainer of yours"):
        spec().tune(tmp_path)


def _nothing():
    import pandas as pd

    from sweeper.search.protocol import COLUMNS

    return pd.DataFrame(columns=list(COLUMNS))


def test_the_plan_says_what_it_does_not_know():
    text = str(spec().plan())
    assert "unknown" in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer": None}, "say by trainer what trains its sizes"),
        ({"cluster": {"device": "h100"}}, "cluster.resources: what a model of sizes.ladder needs"),
        ({"data": {"source": "builtin", "world_seed": 3}}, "a trainer brings its own data"),
        ({"skills": ["cod"]}, "skills: 'cod' is unknown.*did you mean 'code'"),
        ({"budgets": [1e12, 3e15]}, "of its 11 sizes .* can be trained on the budget 1e"),
        ({"sizes": {"ladder": "none.csv"}}, "No such file"),
        ({"sizes": {"ladder": [{"layers": 3}]}}, "'params', which every size needs"),
        ({"flops": "exact"}, "needs a column flops_per_token"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(SpecError, match=words):
        spec(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": ["x", "{hiden}", "{width}"]}, r"\{hiden\} is unknown"),
        ({"command": ["x", "{layrs}"]}, r"\{layrs\} is unknown \(did you mean 'layers'"),
        ({"command": [], "call": "no_such_module:f"}, "there is no module 'no_such_module'"),
        ({"command": [], "call": "json:lods"}, r"no function 'lods' \(did you mean 'loads'"),
        ({"evaluate": ["x", "{stps}"]}, r"trainer.evaluate: .*\{stps\} is unknown"),
        ({"skills": {}}, "trainer.skills: name what"),
    ],
)
def test_bad_trainers_are_refused(changes, words):
    with pytest.raises(SpecError, match=words):
        with_trainer(**changes)


def test_a_rate_that_needs_the_width_says_so():
    rows = [{"params": row["params"], "layers": row["layers"]} for row in ROWS]
    with pytest.raises(SpecError, match="needs a column 'width'"):
        spec(sizes={"ladder": rows})
    sweep = spec(sizes={"ladder": rows}, train={"rule": "steplaw"})
    allocation = sweep.space.allocation(1e15, 1e6)
    assert 0 < sweep.foreign_trial(allocation).recipe["learning_rate"] < 1
    own = spec(sizes={"ladder": [{**row, "learning_rate": 3e-4} for row in rows]})
    assert own.foreign_trial(allocation).recipe == {}


def test_without_device_memory_a_core_each_is_the_default():
    sweep = spec(cluster={"device": "cpu-core"})
    assert isinstance(sweep, Sweep)
    assert math.isnan(sweep.plan().table["memory_bytes"].iloc[0])
    assert isinstance(sweep.trainer, Trainer)
    assert sweep.sizes == Sizes(ladder=sweep.sizes.ladder)
    assert sweep.cluster.device == Cluster(device="cpu-core").device
