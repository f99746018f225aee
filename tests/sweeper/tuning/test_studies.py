"""Tuning: what is asked next, what comes out, and what a run makes of it."""

import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from fitting import tuned_points
from sweeper import Sizes, SpecError, Sweep
from sweeper.cli import app
from sweeper.commands.sweeps import _use
from sweeper.spec.sections import Tuning
from sweeper.tuning.points import points_of
from sweeper.tuning.studies import Job, Studies
from sweeper.tuning.tuned import conclude
from trainables.data import Data
from trainables.training import Law, Power, Train

SIZES = Sizes(7e3, 2.5e5)
POINTS = ((1e4, 5e5), (3e4, 5e5), (9e4, 5e5), (1e4, 1.5e6), (3e4, 1.5e6))


def sweep_of(**tuning):
    settings = Tuning(**{"points": POINTS, **tuning})
    return Sweep(budgets=[1e11, 2e11, 4e11], allowance=6e12, sizes=SIZES, tuning=settings)


def true_rate(params, tokens):
    return 0.02 * (params / 3e4) ** -0.6 * (tokens / 5e5) ** 0.2


def loss_at(config, *, skew=0.3):
    """A loss with one best recipe, steeper above the best rate than below, as real ones are."""
    recipe = config.recipe
    p, t = config.params, config.tokens
    z = math.log(recipe.learning_rate / true_rate(p, t))
    b = math.log(recipe.batch * 60 / (480 * (t / 5e5) ** 0.5))
    bowl = 0.02 * z**2 * (1 + skew * math.tanh(z)) + 0.01 * b**2
    return (1.6 + 180 * p**-0.5 + 900 * t**-0.5) * math.exp(bowl)


def record_of(config, *, status="finished", **change):
    loss = loss_at(config, **change)
    entry = {"nll": loss * 1000, "tokens": 1000, "bytes": 4000, "examples": 1, "class": "x"}
    return {"status": status, "losses": {s: entry for s in config.skills}}


def tune(studies, *, slots=1, most=500, outcome=record_of):
    """Train whatever is asked for, so many at a time; returns the jobs."""
    jobs, running = [], []
    while len(jobs) < most:
        job = studies.next() if len(running) < slots else True
        if isinstance(job, Job):
            jobs.append(job)
            running.append(job)
        elif running:
            ended = running.pop(0)
            studies.ended(ended, outcome(ended.config))
        elif not job:
            break
    return jobs


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """One tuning at five points and its jobs."""
    studies = Studies(sweep_of(), tmp_path_factory.mktemp("tuned") / "tuning.sqlite")
    jobs = tune(studies, slots=2)
    return conclude(studies), jobs


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_either_sampler_finds_the_best_rate(tmp_path, sampler):
    sweep = sweep_of(sampler=sampler, points=POINTS[1:2], trials=5)
    studies = Studies(sweep, tmp_path / "tuning.sqlite")
    jobs = tune(studies, slots=3)
    assert 7 <= len(jobs) <= 9
    (point,) = conclude(studies).points["learning_rate"]
    assert abs(math.log(point.value / true_rate(point.params, point.tokens))) < math.log(1.3)


def test_a_few_trials_find_the_law(tuned):
    found, jobs = tuned
    assert 22 <= len(jobs) <= 26
    law = found.laws["learning_rate"]
    assert law.params_exponent == pytest.approx(-0.6, abs=0.12)
    assert law.tokens_exponent == pytest.approx(0.2, abs=0.15)
    for point in found.points["learning_rate"]:
        assert point.ok
        assert abs(math.log(point.value / true_rate(point.params, point.tokens))) < math.log(1.3)
    assert found.flops == pytest.approx(sum(job.config.flops for job in jobs))
    assert 1.2 < found.flat["learning_rate"] < 1.7


def test_the_next_run_uses_the_law_and_warns_outside_its_range(tuned, tmp_path):
    found, _ = tuned
    found.sweep.save(tmp_path / "tuned.yaml")
    again = Sweep.load(tmp_path / "tuned.yaml")
    law = found.laws["learning_rate"]
    for params in (1e4, 1e5):
        trial = again.trial(again.space.allocation(2e11, params))
        wanted = law.at(trial.params, trial.tokens).value
        assert trial.recipe.learning_rate == pytest.approx(wanted, rel=1e-6)
    rate = again.train.law.learning_rate
    assert rate.params_range == law.params_range
    assert rate.beyond(2e4, 1e6) == 1.0
    assert rate.beyond(rate.params_range[1] * 3, 1e6) == pytest.approx(3)
    warned = [w for w in again.plan().warnings if "train.law.learning_rate" in w]
    assert len(warned) == 1 and "outside" in warned[0]


def test_an_interrupted_tuning_goes_on(tmp_path):
    path, sweep = tmp_path / "tuning.sqlite", sweep_of(points=POINTS[:2])
    first = Studies(sweep, path)
    done = tune(first, most=7)
    left = first.next()  # in training when the driver dies
    again = Studies(sweep, path)
    more = tune(again)
    rates = [job.config.recipe.learning_rate for job in more]
    assert any(rate == pytest.approx(left.config.recipe.learning_rate) for rate in rates)
    assert 10 <= len(done) + len(more) <= 14
    assert Studies(sweep, path).next() is False
    with sqlite3.connect(path) as database:  # optuna's own tables, which its dashboard reads
        names = {row[0] for row in database.execute("SELECT study_name FROM studies")}
    assert len(names) == 2 and "p=9.97k t=500k" in names
    with pytest.raises(SpecError, match="Use another directory"):
        Studies(sweep_of(hyperparameters={"batch_tokens": 4}), path)


def test_several_skills_are_tuned_together(tmp_path):
    def outcome(config):
        record = record_of(config)
        code = dict(record["losses"]["code"])
        off = math.log(config.recipe.learning_rate / (2 * true_rate(config.params, config.tokens)))
        code["nll"] *= math.exp(0.05 * off**2)
        return record | {"losses": record["losses"] | {"code": code}}

    sweep = sweep_of(objectives=("knowledge", "code"), points=POINTS[:3])
    studies = Studies(sweep, tmp_path / "tuning.sqlite")
    tune(studies, outcome=outcome)
    found = conclude(studies)
    laws = found.skill_laws["learning_rate"]
    at = (3e4, 5e5)
    rates = [laws["knowledge"].at(*at).value, laws["code"].at(*at).value]
    assert rates[0] < found.laws["learning_rate"].at(*at).value < rates[1]
    assert "for code: learning_rate" in str(found)


def test_the_batch_law_is_found(tmp_path):
    factors = {"learning_rate": 4, "batch_tokens": 4}
    sweep = sweep_of(hyperparameters=factors, trials=10, points=(POINTS[0], POINTS[3]))
    studies = Studies(sweep, tmp_path / "tuning.sqlite")
    tune(studies)
    found = conclude(studies)
    assert found.laws["batch_tokens"].tokens_exponent == pytest.approx(0.5, abs=0.25)
    assert found.sweep.train.law.batch is not None
    text = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert text["laws"]["batch_tokens"]["status"] == "ok"
    assert len(text["points"]["learning_rate"]) == 2


def test_trials_of_another_spec_are_not_taken_for_ones_own(tmp_path):
    path, sweep = tmp_path / "tuning.sqlite", sweep_of(points=POINTS[:1])
    tune(Studies(sweep, path))
    assert Studies(sweep, path).next() is False
    other = replace(sweep, data=Data(shares={"code": 0.9}))
    with pytest.raises(SpecError, match=r"another spec: data\.shares\.code is 0.199 there"):
        Studies(other, path)
    changed = replace(sweep, train=Train(weight_decay=0.5))
    with pytest.raises(SpecError, match="weight_decay is"):
        Studies(changed, path)


def test_the_reference_mix_is_tuned(tmp_path):
    mixes = {"more-code": {"code": 4.0}, "base": {}}
    sweep = replace(sweep_of(points=POINTS[:1]), mixes=mixes)
    job = Studies(sweep, tmp_path / "tuning.sqlite").next()
    assert job.config.data.mix == sweep.mix_data("more-code").mix != sweep.data.mix
    assert job.config.data.evaluation_documents == sweep.documents


def test_diverged_trials_count_against_their_values_and_not_in_the_law(tmp_path):
    def outcome(config):
        high = config.recipe.learning_rate > 1.6 * true_rate(config.params, config.tokens)
        return record_of(config, status="diverged" if high else "finished")

    studies = Studies(sweep_of(points=POINTS[:1]), tmp_path / "tuning.sqlite")
    jobs = tune(studies, outcome=outcome)
    table = studies.table()
    assert len(table) < len(jobs)
    assert studies.flops == pytest.approx(sum(job.config.flops for job in jobs))


def test_a_tuning_without_a_finished_trial_is_said(tmp_path):
    studies = Studies(sweep_of(points=POINTS[:1]), tmp_path / "tuning.sqlite")
    tune(studies, most=12, outcome=lambda config: {"status": "failed", "reason": "broken"})
    with pytest.raises(SpecError, match="no trial has finished: broken"):
        conclude(studies)


def test_a_name_does_not_lead_out_of_the_folder_of_sweeps(tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeper.plan.measured.timed", lambda *_: None)  # takes ten seconds
    monkeypatch.setattr(Sweep, "tune", lambda self, where, progress: asked.append(where) or 1 / 0)
    replace(sweep_of(), name="../../x").save(tmp_path / "sweep.yaml")
    CliRunner().invoke(app, ["tune", str(tmp_path / "sweep.yaml")])
    assert asked[0].resolve().parent == tmp_path / "sweeps"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hyperparameters": {"learning_rat": 4}}, "did you mean 'learning_rate'"),
        ({"hyperparameters": {"learning_rate": 0.5}}, "a factor above 1"),
        ({"hyperparameters": {"beta2": 4}}, "known: learning_rate, batch_tokens"),
        ({"hyperparameters": {}}, "name at least one"),
        ({"points": ((1e4,),)}, "pairs of params and tokens"),
        ({"trials": 2}, "at least 3"),
        ({"sampler": "cma"}, "tpe or gp"),
        ({"seed": -1}, "not be negative"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Tuning(**settings)


def test_what_the_spec_cannot_tune_is_refused(tmp_path):
    def refused(sweep):
        with pytest.raises(SpecError) as error:
            Studies(sweep, tmp_path / "tuning.sqlite")
        return str(error.value)

    assert "did you mean 'code'" in refused(sweep_of(objectives=("cod",)))
    with pytest.raises(ValueError, match="two ascending numbers"):
        Law(learning_rate=Power(1.0, params_range=(3.0, 1.0)))


def test_default_points_are_small_and_tell_params_from_tokens():
    sweep = Sweep(budgets=[1e18, 3e18, 1e19], allowance=1e20, model=sweep_of().model)
    points = points_of(sweep)
    assert len(points) == 5 and 6 * points[-1][0] * points[-1][1] <= 0.6e18
    logs = np.log(points)
    design = np.column_stack([np.ones(5), logs])
    assert np.linalg.cond(design - design.mean(axis=0) * [0, 1, 1]) < 1e3


def test_published_rules_stand_beside_the_law(tuned):
    found, _ = tuned
    assert {"spec", "llama3", "deepseek", "porian", "steplaw"} <= set(found.compared)
    text = str(found)
    assert "90 %: params exponent" in text and "deepseek" in text and "measured at" in text
    assert "costs .25 % of the loss" in text
    trials = found.table.rename(columns={"objective": "loss"})
    assert len(tuned_points(trials, "learning_rate")) == len(POINTS)
    assert math.isfinite(found.shift) and 0.2 < found.shift < 5


def test_the_next_run_is_named_in_a_directory_that_takes_it(tmp_path):
    found, place = (
        SimpleNamespace(laws={"learning_rate": SimpleNamespace(ok=True)}),
        tmp_path / "a",
    )
    assert "--out a`" in _use(found, Path("tuned.yaml"), Path("a"))
    own = {"command": ["x"], "skills": {"code": "code"}}
    Sweep.from_dict({"budgets": [1e12], "allowance": 2e13, "trainer": own}).ask(place)
    assert f"--out {place}-tuned`" in _use(found, place / "tuned.yaml", place)


@pytest.mark.ray
def test_tune_trains_for_real_and_writes_the_spec(ray_cluster, tmp_path, monkeypatch):
    sweep = Sweep(
        budgets=[1e11, 2e11],
        allowance=6e12,
        name="t",
        sizes=SIZES,
        skills=("code",),
        data=Data(evaluation_documents=8),
        tuning=Tuning(points=((8e3, 4e4), (1.6e4, 4e4)), trials=3),
    )
    sweep.save(tmp_path / "sweep.yaml")
    out = tmp_path / "a"
    result = CliRunner().invoke(
        app, ["tune", str(tmp_path / "sweep.yaml"), "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0 and "learning_rate" in result.output
    assert (out / "tuning.sqlite").exists()
    assert Sweep.load(out / "tuned.yaml").sizes == SIZES
    again = sweep.tune(out, progress=False)
    assert 8 <= len(again.table) <= 12
