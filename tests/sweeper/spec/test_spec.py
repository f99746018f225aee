"""Specs: what is accepted, what is refused with which words, and what follows from them."""

import math

import pytest

from sweeper import Cluster, Sizes, Sweep
from sweeper.budget import Allocation
from sweeper.errors import SpecError
from sweeper.spec.spec import AGGREGATE
from sweeper.spec.variants import trial_id
from trainables.data import PAPER_SHARES

SPEC = "budgets: [1e11, 2e11, 4e11]\nallowance: 6e12\n"


def load(tmp_path, text, **overrides):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return Sweep.load(path, {key.replace("__", "."): value for key, value in overrides.items()})


def test_an_unquoted_1e18_is_a_number(tmp_path):
    sweep = load(tmp_path, SPEC)
    assert sweep.budgets == (1e11, 2e11, 4e11)
    assert sweep.allowance == 6e12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPEC + "serch: {policy: grid}", "serch: unknown key (did you mean 'search'?)"),
        (SPEC + "search: {tolerence: .1}", "search.tolerence: unknown key (did you mean 'toleran"),
        (SPEC + "cluster: {resources: [{cpu: 1}]}", "cpu: unknown key (did you mean 'cpus'?)"),
        ("budgets: [1e11, lots]\nallowance: 6e12", "budgets.1"),
        ("budgets: [2e11, 1e11]\nallowance: 6e12", "[2e11, 1e11] must increase"),
        ("budgets: [1e11, 1.005e11]\nallowance: 6e12", "must increase, each by more than 1 %"),
        ("budgets: []\nallowance: 6e12", "budgets: give at least one"),
        ("budgets: [-1e11]\nallowance: 6e12", "not a positive number of FLOPs"),
        ("budgets: [1e11, 2e11]", "allowance: is required"),
        ("budgets: [1e11, 2e11]\nallowance: 4e11", "do not pay for one seed design (5e11"),
        (
            SPEC + "data: {shares: {code: 0, knowledge: 0, other: 0}}",
            "give at least one class a positive share",
        ),
        (
            SPEC + "data: {shares: {code: 3}}",
            "code add up to 3, which leaves nothing for knowledge",
        ),
        (SPEC + "data: {shares: {kode: 1}}", "'kode' is no document class"),
        (SPEC + "skills: [cod]", "skills: 'cod' is unknown (did you mean 'code'?)"),
        (SPEC + "sizes: {low: 1e9, high: 2e9}", "widen sizes.low..sizes.high"),
        (SPEC + "sizes: {low: 2e4, high: 1e4}", "low=2e4 must be below high=1e4"),
        (SPEC + "cluster: {resources: [{from_params: 5}]}", "the first rule starts at from_par"),
        ("budgets: 1e11\nallowance: 6e12", "budgets: write a list, such as [a, b], got '1e11'"),
        (SPEC + "data: 3", "data: write a section, such as {key: value}, got 3"),
        (SPEC + "allowance: 1e13", "allowance: given twice, in lines"),
        (SPEC + "sizes:\n  low: 8e3\n  low: 9e3", "low: given twice, in lines"),
        (SPEC + "mixes: {a: {}, a: {code: 2}}", "a: given twice, in lines"),
        (SPEC + "train: {batch_tokens: 1e3}", "write a whole number, such as 4096, got '1e3'"),
        (SPEC + "skills: [code, code]", "skills: code: given twice"),
        (SPEC + "sizes: {low: 6e7}", "sweep.yaml: sizes.low=6e7 is above the largest size"),
        (SPEC + "sizes: {high: 60}", "sweep.yaml: sizes.high=60 is below the smallest size"),
        (SPEC + "cluster: {cpus: 0}", "cluster.cpus=0: give 1 or more"),
        (SPEC + "mixes: {a: {poetry: 2}}", "sweep.yaml: mixes.a: 'poetry' is no document class"),
        ("- a list", "a spec is a mapping"),
        ("budgets: [1e11", "cannot be read as YAML"),
    ],
)
def test_bad_input_names_the_field_and_the_remedy(tmp_path, text, message):
    with pytest.raises(SpecError) as refused:
        load(tmp_path, text)
    assert message in str(refused.value)
    assert "sweep.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flops", "7p", "flops: '7p' is unknown (did you mean '6p'?); use 6p, exact"),
        ("trackers", ["tensorbord"], "trackers: 'tensorbord' is unknown (did you mean 'tensorboa"),
        ("study", "datamixx", "study: 'datamixx' is unknown (did you mean 'datamix'?); use data"),
        ("name", 3, "name: write text, got 3"),
        ("sizes", 3, "sizes: write a section, such as {key: value}, got 3"),
        ("sizes", {"low": 2e4, "high": 1e4}, "sizes: low=2e4 must be below high=1e4"),
    ],
)
def test_what_is_written_in_python_is_checked_as_in_yaml(field, value, message):
    with pytest.raises(SpecError) as refused:
        Sweep(budgets=[1e11, 2e11, 4e11], allowance=6e12, **{field: value})
    assert str(refused.value).startswith(message)


def test_a_way_of_counting_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"sizes.count='params': choose one of params_with_head"):
        Sizes(count="params")


def test_no_field_is_named_twice_and_no_type_of_pythons_is(tmp_path):
    for text in (
        "sizes: {low: 6, high: 8e4}", "sizes: {low: 6e7}", "mixes: 5", "mixes: {a: 5}",
        "train: {rule: width3}", "sizes: {ladder: [5]}",
    ):  # fmt: skip
        with pytest.raises(SpecError) as refused:
            load(tmp_path, SPEC + text)
        said = str(refused.value).partition("sweep.yaml: ")[2]
        assert "\n" not in said
        assert said.count(f"{text.partition(':')[0]}:") <= 1
        assert ".str" not in said and "[" not in said.partition(": ")[0]


@pytest.mark.parametrize("field", ["budgets", "skills", "trackers"])
@pytest.mark.parametrize("value", [1e11, "code"])
def test_one_value_in_place_of_a_list_from_python(field, value):
    given = {"budgets": [1e11], "allowance": 1e13, field: value}
    with pytest.raises(SpecError, match=f"{field}: write a list"):
        Sweep(**given)


def test_a_directory_is_read_by_its_spec(tmp_path):
    sweep = load(tmp_path, SPEC)
    assert Sweep.load(tmp_path) == sweep


def test_paths_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    named = load(tmp_path, SPEC + "name: ~/a\ntrackers: []\ncluster: {address: '~x'}")
    assert named.name == "/home/ada/a" and named.cluster.address == "~x"


def test_a_merged_mapping_may_be_overridden(tmp_path):
    text = "base: &base {low: 8e3}\n" + SPEC + "sizes: {<<: *base, low: 9e3}\n"
    with pytest.raises(SpecError, match="base: unknown key"):  # and nothing else
        load(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match="no such file"):
        Sweep.load(tmp_path / "absent.yaml")


def test_overrides_reach_nested_fields(tmp_path):
    sweep = load(tmp_path, SPEC, data__shares__code="0.3", search__policy="grid", allowance="7e12")
    assert sweep.data.mix["code"] == sweep.data.shares["code"] == 0.3
    rest = PAPER_SHARES["knowledge"] / PAPER_SHARES["other"]
    assert sweep.data.mix["knowledge"] / sweep.data.mix["other"] == pytest.approx(rest)
    assert sweep.search.policy == "grid"
    assert sweep.allowance == 7e12
    with pytest.raises(SpecError, match="allowance is a value, not a section"):
        load(tmp_path, SPEC, allowance__x="1")


def test_python_and_yaml_make_the_same_sweep(tmp_path):
    sweep = Sweep(budgets=[1e11, 2e11, 4e11], allowance=6e12)
    assert sweep == load(tmp_path, SPEC)
    sweep.save(tmp_path / "again.yaml")
    assert Sweep.load(tmp_path / "again.yaml") == sweep


def test_a_section_may_be_a_mapping_of_its_fields():
    given = {"cluster": {"cpus": 2, "retries": 1}, "data": {"shares": {"code": 0.3}}}
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12, **given)
    assert sweep.cluster == Cluster(cpus=2, retries=1)
    assert sweep == Sweep.from_dict({"budgets": [1e11, 2e11], "allowance": 6e12, **given})
    with pytest.raises(SpecError, match=r"cluster: cpu: unknown key .did you mean 'cpus'"):
        Sweep(budgets=[1e11, 2e11], allowance=6e12, cluster={"cpu": 2})


def test_the_identity_leaves_out_money_and_machines():
    one = Sweep(budgets=[1e11, 2e11], allowance=6e12)
    other = Sweep(budgets=[1e11, 2e11], allowance=9e12, name="b")
    assert one.identity == other.identity
    assert one.identity != Sweep(budgets=[1e11, 3e11], allowance=6e12).identity


def test_the_default_range_of_sizes_surrounds_the_guessed_optima():
    sweep = Sweep(budgets=[1e11, 4e11], allowance=6e12)
    guess = [math.sqrt(c / 6 / 20) for c in sweep.budgets]
    assert sweep.space.params[0] < guess[0] / 4  # to the nearest rung
    assert sweep.space.params[-1] > guess[1] * 4


@pytest.mark.parametrize("convention", ["6p", "exact"])
def test_every_allocation_is_within_one_per_cent_of_its_budget(convention):
    sweep = Sweep(budgets=[1e11, 4e11], allowance=6e12, flops=convention)
    for flops in sweep.budgets:
        for index in sweep.space.allowed(flops):
            allocation = sweep.space.allocation(flops, sweep.space.params[index])
            shape = sweep.trial(allocation).shape
            realised = shape.flops_per_token(convention) * allocation.tokens
            assert 0.99 * flops <= realised <= flops


def test_the_aggregate_is_always_measured():
    assert AGGREGATE in Sweep(budgets=[1e11, 2e11], allowance=6e12).measured
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12, skills=["code"])
    assert sweep.measured == ("code", AGGREGATE)


def test_the_trial_id_is_what_decides_the_outcome():
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12)
    allocation = sweep.space.allocation(1e11, 3e4)
    one = trial_id(sweep.trial(allocation))
    assert one == trial_id(Sweep(budgets=[1e11, 2e11], allowance=9e12).trial(allocation))
    other_seed = Allocation(allocation.flops, allocation.params, allocation.tokens, seed=1)
    assert one != trial_id(sweep.trial(other_seed))


def test_the_default_range_starts_at_what_can_be_built():
    sweep = Sweep(budgets=[1e9, 2e9], allowance=1e11)
    assert sweep.shapes[sweep.space.params[0]].width == 8


def test_a_setting_is_read_by_its_old_name(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("budgets: [1e11]\nallowance: 6e12\ntuning: {knobs: {batch_tokens: 3}}\n")
    assert Sweep.load(path).tuning.hyperparameters == {"batch_tokens": 3.0}
