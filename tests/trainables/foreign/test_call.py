"""A function as a trial."""

import itertools
import json

import pytest

from trainables.foreign.call import CallContext, run
from trainables.foreign.settings import Trainer
from trainables.foreign.trial import ForeignTrial

MODULE = """
from trainables.foreign.call import Sums

def train(trial, context):
    context.report(trial.tokens / 2, 3.0)
    return {"code": Sums(30.0, 12, 50), "validation": trial.row["layers"]}

def stops(trial, context):
    return None if context.should_stop() else {"code": float("nan"), "validation": 1}

def wrong(trial, context):
    return {"code": "1"}

def breaks(trial, context):
    raise RuntimeError("no luck")
"""


@pytest.fixture
def go(tmp_path):
    (tmp_path / "foreign_calls.py").write_text(MODULE)
    said = []

    def go(name):
        skills = {"code": "code", "validation": "aggregate"}
        trainer = Trainer(call=f"foreign_calls:{name}", skills=skills, workdir=str(tmp_path))
        trial = ForeignTrial(trainer, params=10, tokens=100, row={"layers": 2})
        trial = ForeignTrial.from_dict(json.loads(json.dumps(trial.to_dict())))
        return run(trial, CallContext(tmp_path / name, said.append)), said

    return go


def test_losses_are_what_the_function_returns(go):
    record, said = go("train")
    assert record["status"] == "finished"
    assert (record["losses"]["code"]["bytes"], record["losses"]["validation"]["nll"]) == (50, 2.0)
    assert said[0]["tokens"] == 50
    assert record["train_loss"] == 3.0


def test_nan_none_and_nonsense(go, tmp_path):
    assert go("stops")[0]["status"] == "diverged"
    (tmp_path / "stops" / "stop").touch()
    assert go("stops")[0]["status"] == "stopped"
    assert go("wrong")[0]["kind"] == "losses"
    with pytest.raises(RuntimeError, match="no luck"):
        go("breaks")


def test_identity_follows_version_and_row_but_not_what_is_measured(tmp_path):
    def identity(**changes):
        trainer = Trainer(call="a:b", skills={"code": "code"}, version=changes.pop("version", ""))
        return ForeignTrial(trainer, **{"params": 1, "tokens": 2, **changes}).identity()

    ids = [identity(), identity(version="2"), identity(row={"x": 1}), identity(seed=1)]
    assert all(one != other for one, other in itertools.combinations(ids, 2))
    assert identity(skills=("code",)) == identity()
