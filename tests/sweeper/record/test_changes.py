"""Minds that are changed about a sweep: what goes on without paying again, and what is refused."""

import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sweeper import Cluster, DirectoryError, Results, SearchSettings, Sizes, Sweep
from sweeper.cli import app
from sweeper.cluster.score import score
from sweeper.driver.driver import Driver
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.record.repair import repair
from sweeper.search.build import policy
from sweeper.search.protocol import Finished
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine.loop import train
from trainables.foreign.settings import Log, Trainer
from trainables.training import Train

SWEEP = Sweep(
    budgets=[1e10],
    allowance=5.1e10,
    skills=["code"],
    data=Data(evaluation_documents=16),
    sizes=Sizes(7e3, 4e4),
    train=Train(keep=True, checkpoint_every_s=60.0),
    search=SearchSettings(policy="grid", sizes_per_budget=3),
)


def go_on(sweep, root, *, trials=None):
    """Run a sweep in this process; returns the trials that were trained now."""
    directory, trained = Directory(root), []
    with directory.driven():
        sweep = directory.claim(sweep)
        ledger = Ledger(directory.ledger)
        driver = Driver(sweep, ledger, policy(sweep, sweep.measured))
        while trials is None or len(trained) < trials:
            start = driver.next()
            if isinstance(start, Finished) or start is None:
                break
            driver.begin(start)
            place = directory.trials / start.trial_id
            driver.ended(start.trial_id, train(start.config, LocalContext(place)))
            trained.append(start.trial_id)
        ledger.close()
    Results(root).export()
    return trained


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep whose three trials have ended, with their checkpoints."""
    root = tmp_path_factory.mktemp("done") / "sweep"
    assert len(go_on(SWEEP, root)) == 3
    return root


@pytest.fixture
def root(done, tmp_path):
    shutil.copytree(done, tmp_path / "sweep")
    return tmp_path / "sweep"


def test_a_variant_may_be_added_and_one_that_was_trained_may_not_change(tmp_path):
    two = {"base": {}, "warmer": {"train": {"warmup": 0.1}}}
    sweep = replace(SWEEP, variants=two, allowance=1e11)
    directory = Directory(tmp_path / "sweep")
    with directory.driven():
        driver = Driver(directory.claim(sweep), Ledger(directory.ledger), policy(sweep, ["code"]))
        seen = set()
        while seen != set(two):
            start = driver.next()
            driver.begin(start)
            loss = {"nll": 2.0, "tokens": 1, "bytes": 1, "examples": 1, "class": "all"}
            losses = dict.fromkeys(sweep.measured, loss)
            said = {"status": "finished", "reason": "", "tokens": start.allocation.tokens}
            driver.ended(start.trial_id, said | {"losses": losses})
            seen.add(start.allocation.mix)
        more = replace(sweep, variants=two | {"colder": {"train": {"warmup": 0.0}}})
        assert directory.claim(more) == more
        other = replace(sweep, variants=two | {"warmer": {"train": {"warmup": 0.2}}})
        with pytest.raises(DirectoryError, match=r"variants.warmer: trials of it are trained"):
            directory.claim(other)


def test_a_further_budget_and_more_allowance_pay_for_nothing_twice(root):
    before = Results(root).table
    larger = replace(SWEEP, budgets=(1e10, 2e10), allowance=1e11, sizes=Sizes(7e3, 5e4))
    assert len(go_on(larger, root, trials=1)) == 1
    after = Results(root)
    kept = after.table[after.table["trial_id"].isin(before["trial_id"])].reset_index(drop=True)
    assert kept.equals(before.reset_index(drop=True))
    assert set(after.table["flops"]) == {1e10, 2e10}
    assert after.sweep.documents == SWEEP.documents


def test_held_out_documents_stay_as_many_as_they_were(tmp_path):
    """Their default follows from budgets and sizes, which may change."""
    small = replace(SWEEP, data=Data(), budgets=(1e10,))
    root = tmp_path / "sweep"
    assert go_on(small, root, trials=1)
    larger = replace(small, budgets=(1e10, 3e11), allowance=4e12, sizes=Sizes(7e3, 3e5))
    assert larger.documents != small.documents
    assert Directory(root).claim(larger).documents == small.documents


def test_other_resources_search_and_another_place_change_nothing(root, tmp_path):
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    other = replace(SWEEP, cluster=Cluster(cpus=7), search=replace(SWEEP.search, seed=5))
    assert go_on(replace(other, name="renamed"), moved) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (2e10,), "allowance": 2e11}, "budgets: 3 trials of 1e10 FLOPs, and"),
        ({"data": Data(evaluation_documents=16, zipf=0.5)}, "data.zipf is 1.0 there and 0.5"),
        ({"train": Train(clip=2.0)}, "train.clip is 1.0 there and 2.0 here"),
        ({"flops": "exact"}, "flops is '6p' there and 'exact' here"),
        ({"data": Data(evaluation_documents=32)}, "evaluation_documents is 16 there and 32"),
        ({"mixes": {"base": {"code": 3.0}}}, "mixes.base: trials of it are trained"),
    ],
)
def test_what_decides_a_loss_cannot_change(root, change, message):
    with pytest.raises(DirectoryError, match=message) as refused:
        Directory(root).claim(replace(SWEEP, **change))
    assert "belongs to another sweep" in str(refused.value)
    assert "choose another directory" in str(refused.value)


def test_how_losses_are_read_may_be_said_anew_until_a_trial_has_any(tmp_path):
    own = Trainer(command=("x",), skills={"code": "code", "math": "code"}, losses=Log("a.csv"))
    sweep = Sweep(budgets=[1e12], allowance=2e13, trainer=own)
    anew = replace(
        sweep, trainer=replace(own, skills={"code": "code"}, losses=Log("a.csv", {"code": "c"}))
    )
    directory = Directory(tmp_path)
    [asked] = sweep.ask(tmp_path, 1)
    sweep.tell(tmp_path, asked.id, failed="no loss of math", kind="losses")
    assert directory.claim(anew).measured == ("code",)
    [asked] = anew.ask(tmp_path, 1)
    anew.tell(tmp_path, asked.id, {"code": 2.5})
    with pytest.raises(DirectoryError, match=r"trainer\.losses\.keys\.code is 'c' there and None"):
        directory.claim(replace(anew, trainer=replace(anew.trainer, losses=Log("a.csv"))))


def test_precisions_are_mixed_only_where_that_is_wished(root):
    finer = replace(SWEEP.train, dtype="bfloat16")
    with pytest.raises(DirectoryError, match=r"or train\.mixed_dtypes: true"):
        go_on(replace(SWEEP, train=finer), root, trials=0)
    mixed = replace(finer, mixed_dtypes=True)
    assert go_on(replace(SWEEP, train=mixed), root, trials=0) == []


def test_a_directory_without_trials_can_become_any_sweep(tmp_path):
    Directory(tmp_path).claim(SWEEP)
    other = replace(SWEEP, data=Data(zipf=0.5))
    assert Directory(tmp_path).claim(other) == other


def test_a_new_skill_is_scored_from_kept_checkpoints(root):
    more = replace(SWEEP, skills=("code", "knowledge"))
    with pytest.raises(DirectoryError, match=r"knowledge: not measured in 3 .*isoskill sc"):
        Directory(root).claim(more)
    scored = score(more, root, say=print)
    assert (scored.trials, scored.failed) == (3, {})
    table = Results(root).table
    assert table.groupby("skill")["trial_id"].nunique()["knowledge"] == 3
    assert go_on(more, root) == []
    straight = train(
        replace(next(iter_configs(root)), skills=("knowledge",)), LocalContext()
    )["losses"]["knowledge"]["nll"]  # fmt: skip
    assert straight in set(table[table["skill"] == "knowledge"]["nll"])


def iter_configs(root):
    ledger = Ledger(root / "ledger.sqlite", read_only=True)
    allocations = ledger.allocations("finished")
    ledger.close()
    return (SWEEP.own_trial(a) for a in allocations.values())


def test_without_a_checkpoint_the_reason_is_said(root):
    shutil.rmtree(next(p for p in sorted((root / "trials").iterdir())))
    told = CliRunner().invoke(app, ["score", str(root), "--skills", "knowledge"])
    assert told.exit_code == 1
    assert "2 trials were scored" in told.output
    assert "not scored: CheckpointError: no checkpoint of the trained model" in told.output


def test_a_lost_ledger_is_not_started_over_and_can_be_rebuilt(root):
    before = Results(root).table
    for path in root.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(DirectoryError, match=r"ledger.sqlite is gone, but .*isoskill repair"):
        Directory(root).claim(SWEEP)
    found = repair(root)
    assert (found.ended, found.resumed, found.lost) == (3, 0, ())
    assert Results(root).table.drop(columns=[]).equals(before)
    assert go_on(SWEEP, root) == []
    with pytest.raises(DirectoryError, match=r"its ledger is sound .3 trials.; nothing to"):
        repair(root)


def test_a_damaged_ledger_is_put_aside_and_trials_go_on_from_checkpoints(root):
    kept = sorted(p.name for p in (root / "trials").iterdir())
    (root / "observations.parquet").unlink()
    data = (root / "ledger.sqlite").read_bytes()
    (root / "ledger.sqlite").write_bytes(data[: len(data) // 2])
    (root / "trials" / "0123456789ab").mkdir()
    found = repair(root)
    assert (found.ended, found.resumed, found.lost) == (0, 3, ("0123456789ab",))
    assert (root / "ledger.sqlite.damaged").exists()
    assert sorted(go_on(SWEEP, root)) == kept  # scored, not trained again
    assert (Results(root).trials["wasted_flops"] == 0).all()


def test_a_directory_without_anything_is_said_to_have_nothing(tmp_path):
    with pytest.raises(DirectoryError, match=r"sweep.yaml is missing too"):
        repair(tmp_path)
    SWEEP.save(tmp_path / "sweep.yaml")
    with pytest.raises(DirectoryError, match=r"neither observations.parquet nor trials/ holds"):
        repair(tmp_path)
    assert not (tmp_path / "ledger.sqlite").exists()
