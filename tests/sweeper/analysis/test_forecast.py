"""What `isoskill predict` answers, and the run it writes."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.worlds import surface_world
from fitting import FitError, SkillFit, Status, fit_skills
from sweeper import Cluster, Resources, SpecError, Sweep
from sweeper.analysis.big_run import recommend
from sweeper.analysis.forecast import Ask, forecast
from sweeper.analysis.hardware import Hardware
from sweeper.cli import app
from sweeper.spec.devices import device_of
from trainables.config import TrialConfig

# Optima near 30 k params at 2e11 FLOPs: E, A, B, alpha, beta
CONSTANTS = {
    "knowledge": (0.6, 230.0, 900.0, 0.5, 0.5),
    "code": (0.3, 150.0, 900.0, 0.5, 0.5),
    "validation": (1.6, 180.0, 900.0, 0.5, 0.5),
}
SPEC = "budgets: [1e11, 2e11, 4e11]\nallowance: 6e12\n"


@pytest.fixture(scope="module")
def table():
    flops = np.repeat([1e11, 2e11, 4e11], 9)
    params = (flops / 1e11) ** 0.5 * np.tile(np.geomspace(6e3, 1.6e5, 9), 3)
    world = surface_world(CONSTANTS, noise=0.005)
    return world.table(flops, params, np.random.default_rng(3))


@pytest.fixture(scope="module")
def runs(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def fits(table):
    return fit_skills(table)


def said(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def refusal(*arguments):
    with pytest.raises((SpecError, ValueError)) as refused:
        CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    return str(refused.value)


def test_predict_answers_everything_and_never_nan(runs):
    options = ("--weights", "code=2,knowledge=1", "--front", "knowledge,code")
    options += ("--inference-tokens", "1e8", "--tokens-per-param", "20,500", "--json")
    text = said("predict", runs, "--flops", "8e11", *options)
    answer = json.loads(text, parse_constant=pytest.fail)
    skills = answer["skills"]
    assert list(skills) == [*CONSTANTS, "weighted"]
    assert skills["code"]["params"] < skills["weighted"]["params"] < skills["knowledge"]["params"]
    for one in skills.values():
        assert one["extrapolates"] == pytest.approx(2)
        assert [round(row["factor"], 6) for row in one["choices"]] == [0.5, 0.7, 1.4, 2.0]
        assert one["choices"][0]["excess"] > one["choices"][1]["excess"] > 0
        assert one["choices"][3]["equivalent_flops"] < 8e11
        assert one["serving"]["params"] < one["serving"]["compute_optimal_params"]
        assert 0 < one["serving"]["saving"] < 1
        assert one["ratios"][1]["excess"] > one["ratios"][0]["excess"]
    assert len(answer["front"]) == 9


def test_predict_reads_well(runs):
    text = said("predict", runs, "--flops", "8e11", "--inference-tokens", "0", "--skill", "code")
    assert "2 times beyond the data" in text and "half  " in text
    assert "Least lifetime cost" in text
    text = said("predict", runs, "--flops", "1e30", "--skill", "code", code=3)
    assert "no number, 2.5e18 times beyond the data: " in text and "nan" not in text


def test_long_names_keep_the_rows_aligned(table, tmp_path):
    names = {"code": "competition-mathematics", "knowledge": "k" * 60}  # 40 columns at most
    table.assign(skill=table["skill"].replace(names)).to_csv(tmp_path / "runs.csv", index=False)
    rows = said("predict", tmp_path / "runs.csv", "--flops", "8e11").splitlines()
    cells = [(row[:40].rstrip(), row[41:]) for row in rows if " params on" in row]
    assert [name for name, _ in cells] == ["k" * 40, "competition-mathematics", "validation"]
    assert all(re.match(r"[\d.]+k params on", rest) for _, rest in cells[1:])


def test_names_with_commas_are_given_in_double_quotes(table, tmp_path):
    named = table.assign(skill=table["skill"].replace({"code": "code, hard"}))
    named.to_csv(tmp_path / "runs.csv", index=False)
    asked = ("predict", tmp_path / "runs.csv", "--flops", "8e11", "--json")
    kept = ("--register", tmp_path / "kept.json")
    options = ("--weights", 'knowledge=1,"code, hard"=2', "--front", 'knowledge,"code, hard"')
    answer = json.loads(said(*asked, *options, *kept))
    assert answer["weights"] == {"knowledge": 1, "code, hard": 2}
    assert answer["front"][0]["code, hard"] > 0
    assert "code, hard: predicted" in said("check", tmp_path / "kept.json", '"code, hard"=2.1')
    assert "with commas in double quotes" in refusal(*asked, "--front", "knowledge,code, hard")


def test_a_loss_that_is_withheld_is_nowhere_in_the_answer(fits, monkeypatch):
    hardware = Hardware.of(8, "h100", 1.0)
    ask = Ask(flops=8e11, hardware=hardware, skill="code")
    assert forecast(fits, ask).skills["code"]["loss"] > 0

    def withhold(*_):
        raise FitError(Status.NO_COMMON_LAW, "the check failed")

    monkeypatch.setattr(SkillFit, "loss", withhold)
    one = forecast(fits, ask).skills["code"]
    assert one["loss_at_optimum"]["reason"] == "the check failed" and one["params"] > 0
    assert all(math.isnan(each["loss"]) for each in (one, *one["around"]))


def test_an_unreachable_loss_is_said(runs):
    options = ("--skill", "code", "--target-loss", "0.01")
    text = said("predict", runs, "--flops", "8e11", *options)
    assert "no number: No allocation reaches a loss of 0.01" in text


def test_money_moves_the_optimum_where_serving_is_dear(runs):
    def cost(prices):
        options = ("--skill", "code", "--generated-tokens", "1e8", "--inference-tokens", "1e8")
        options += ("--prices", prices, "--json")
        return json.loads(said("predict", runs, "--flops", "4e11", *options))["skills"]["code"]

    alike = cost("h100:2:0.4")["serving"]
    dear = cost("h100:2:0.4,h100:2:0.5,h100:2:0.01")["serving"]
    assert dear["unit"] == "money" and dear["params"] < alike["params"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "cod=1"), "did you mean 'code'"),
        (("--weights", "code"), "SKILL=NUMBER"),
        (("--weights", "code=-1"), "not below 0"),
        (("--front", "code,cod"), "did you mean 'code'"),
        (("--front", "code"), "name two skills"),
        (("--inference-tokens", "-1"), "give zero or more"),
        (("--inference-flops", "0"), "positive number"),
        (("--inference-flops", "1e9"), "--questions"),
        (("--target-loss", "-2"), "positive number of nats"),
        (("--prices", "h10:2:.4"), "did you mean 'h100'"),
        (("--prices", "h100:2"), "DEVICE:PER_HOUR:MFU"),
        (("--tokens-per-param", "20;30"), "write numbers"),
        (("--config", "x.yaml"), "--spec"),
    ],
)
def test_mistakes_are_refused_in_words(runs, options, message):
    assert message in refusal("predict", runs, "--flops", "8e11", *options)


def test_test_time_optima_per_skill_from_a_file(runs, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for flops in (1e11, 2e11, 4e11):
        for params in np.geomspace(6e3, 1.6e5, 6):
            loss = 0.5 + 150 * params**-0.5 + 900 * (flops / 6 / params) ** -0.5
            for nll in loss * rng.lognormal(0, 0.5, 60):
                rows.append(f"{params},{flops / 6 / params},code,{nll}")
    path = tmp_path / "questions.csv"
    path.write_text("\n".join(["params,tokens,skill,nll", *rows]))
    options = ("--skill", "code", "--inference-flops", "1e5", "--questions", path)
    answer = json.loads(said("predict", runs, "--flops", "4e11", *options, "--json"))
    both = answer["skills"]["code"]["sampling"]
    assert both["pass_rate"]["status"] == "ok" and both["pass_rate"]["k"] >= 1
    assert len(both["pass_rate"]["frontier"]) == 9
    # Losses spread log-normally make no power of k, which that law says instead of an answer.
    assert both["nll"]["status"] == "misfit" and "law of pass@k" in both["nll"]["reason"]
    text = said("predict", runs, "--flops", "4e11", *options)
    assert "T^2, pass@k: " in text and "loss of the best of k: no number: " in text


def test_the_run_is_written_for_trainables_and_for_transformers(runs, tmp_path):
    from transformers import AutoConfig

    spec, out = tmp_path / "sweep.yaml", tmp_path / "big.yaml"
    spec.write_text(SPEC)
    options = ("--config", out, "--spec", spec, "--set", "cluster.price_per_hour=0.1", "--json")
    answer = json.loads(said("predict", runs, "--flops", "8e11", *options))
    trial, run = TrialConfig.from_dict(yaml.safe_load(out.read_text())), answer["run"]
    assert trial.to_dict() == json.loads(json.dumps(trial.to_dict()))
    assert trial.params * trial.tokens * 6 == pytest.approx(8e11, rel=0.01)
    assert run["skill"] == "validation" and run["price"] == pytest.approx(
        0.1 * run["device_hours"]
    )
    assert set(run["losses"]) == set(CONSTANTS)
    model = AutoConfig.from_pretrained(tmp_path / "big")
    assert model.hidden_size == trial.shape.width and model.num_hidden_layers == 2
    assert yaml.safe_load(out.read_text())["tokens"] == trial.tokens


def test_a_directory_is_opened_once(tmp_path, monkeypatch):
    from sweeper.record.ledger import Ledger

    opened, start = [], Ledger.__init__

    def counted(self, *arguments, **named):
        opened.append(arguments)
        start(self, *arguments, **named)

    monkeypatch.setattr(Ledger, "__init__", counted)
    before = Path(__file__).parents[1] / "data" / "sweep_0_1"
    directory = shutil.copytree(before, tmp_path / "sweep")
    out = tmp_path / "big.yaml"
    text = said("predict", directory, "--flops", "8e11", "--config", out, "--skill", "code")
    assert "measured on 15 trials" in text and str(out) in text
    assert len(opened) == 1


def test_the_run_is_of_the_reference_mix(fits):
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12, mixes={"more": {"code": 4.0}, "base": {}})
    trial = recommend(fits["code"], sweep, 4e11, losses={}).trial
    assert trial.data.mix == sweep.mix_data("more").mix != sweep.data.mix


def test_a_skill_without_an_optimum_gives_no_run(table):
    narrow, sweep = table[table["params"] > 4e4], Sweep(budgets=[1e11], allowance=1e12)
    with pytest.raises(FitError, match="no optimum to run"):
        recommend(fit_skills(narrow)["code"], sweep, 1e11, losses={})


def test_a_loss_that_is_withheld_keeps_nobody_from_the_run(fits, monkeypatch):
    def told(fit, params, tokens):
        if fit.skill == "knowledge":
            raise FitError(Status.NOT_IDENTIFIED, "Its trials say too little.")
        return fit.loss(params, tokens)

    monkeypatch.setattr("sweeper.analysis.big_run.one_run", told)
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12)
    run = recommend(fits["code"], sweep, 4e11, losses=dict(fits))
    assert set(run.losses) == {"code", "validation"}
    assert "knowledge: its loss is not predicted: Its trials say too little." in str(run)


def test_devices_of_a_worker_group_share_batch_and_hours(fits):
    group = Cluster(resources=(Resources(workers=4, gpus=1),), device="h100", mfu=0.3)
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12, cluster=group)
    run = recommend(fits["code"], sweep, 4e11, losses={})
    assert run.devices == 4 and "30 %" in run.speed_source
    # A group takes 25 s to start, which such a toy never earns back.
    assert run.device_hours > 4 * 25 / 3600 > 4e11 / (989e12 * 0.3) / 3600


def test_unknown_devices_and_utilisations_are_refused():
    with pytest.raises(SpecError, match="did you mean 'h100'"):
        device_of("h10")
    for bad in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="share of the peak"):
            Cluster(mfu=bad)
