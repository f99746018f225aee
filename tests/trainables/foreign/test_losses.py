"""What trainers write: losses.json, TensorBoard, JSON, CSV."""

import json
import math

import numpy as np
import pytest
import torch

from trainables.foreign.losses import LossesError, read, sums
from trainables.foreign.settings import Log

SKILLS = {"code": "code", "validation": "aggregate"}
BOTH = {"code": "eval/code", "validation": "eval/loss"}


def values(directory, keys=BOTH, file="*"):
    found = read(directory, SKILLS, Log(file, keys))
    return found and {name: sums["nll"] / sums["tokens"] for name, sums in found.items()}


def test_sums_keep_tokens_and_bytes():
    part = {"nll": 30.0, "tokens": 12, "bytes": 50}
    found = sums({"code": part, "validation": 2}, SKILLS, where="here")
    assert found["code"] == part | {"examples": 1, "class": "code"}
    assert (found["validation"]["nll"], found["validation"]["tokens"]) == (2.0, 1)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "True is no number"),
        ({"tokens": 3}, "write nats per token, or"),
        ({"nll": 1.0, "tokens": 0}, "write nats per token, or"),
        ({"nll": 1.0, "tokens": 0.5}, "write nats per token, or"),
        ({"nll": 1.0, "tokens": math.inf}, "write nats per token, or"),
        ({"nll": 1.0, "tokens": 1, "bytes": math.nan}, "write nats per token, or"),
        ({"nll": 1.0, "tokens": 1, "examples": "x"}, "'x' is text"),
        ([1.0], "is no number"),
    ],
)
def test_what_is_no_loss_is_refused(value, words):
    with pytest.raises(LossesError, match=words):
        sums({"code": value, "validation": 2}, SKILLS, where="here")


def test_what_else_a_trainer_measures_is_left_out():
    assert set(sums({"code": 1, "validation": 2, "epoch": 3}, SKILLS, where="here")) == set(SKILLS)


def test_numbers_of_numpy_and_torch_are_numbers():
    told = {"nll": np.float32(30), "tokens": np.int64(12), "bytes": torch.tensor(50)}
    found = sums({"code": told, "validation": torch.tensor(2.5)}, SKILLS, where="here")
    assert found["code"] == {"nll": 30, "tokens": 12, "bytes": 50, "examples": 1, "class": "code"}
    assert found["validation"]["nll"] == 2.5


def test_null_is_what_json_makes_of_nan():
    assert math.isnan(sums({"code": None, "validation": 2}, SKILLS, where="here")["code"]["nll"])


def test_json_of_many_forms(tmp_path):
    rows = [
        {"step": 1, "eval/loss": 3.0},
        {"step": 2, "eval/loss": 2.5, "eval/code": 1.5},
        {"x": 1},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    forms = {
        "array": json.dumps(rows),
        "lines": lines + '{"eval/loss": 9',
        "history": json.dumps({"log_history": rows, "best": None}),
        "nested": json.dumps({"final": {"eval/loss": 2.5, "eval/code": 1.5}}),
    }
    for name, text in forms.items():
        (tmp_path / f"{name}.json").write_text(text)
        assert values(tmp_path, file=f"{name}.json") == {"code": 1.5, "validation": 2.5}, name
    (tmp_path / "dots.json").write_text('{"eval": {"loss": 2.5, "by": {"code": 1.5}}}')
    dotted = {"code": "eval.by.code", "validation": "eval.loss"}
    assert values(tmp_path, dotted, "dots.json") == {"code": 1.5, "validation": 2.5}


def test_tensorboard_of_two_attempts(tmp_path):
    from tensorboardX import SummaryWriter
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.proto.tensor_pb2 import TensorProto

    for attempt in (3.0, 2.5):
        with SummaryWriter(str(tmp_path / "runs" / str(attempt))) as writer:
            writer.add_scalar("eval/loss", attempt + 1, 1)
            writer.add_scalar("eval/loss", attempt, 2)
            tensor = TensorProto(float_val=[1.5])  # as TensorFlow 2 writes it
            value = Summary.Value(tag="eval/code", tensor=tensor)
            writer.file_writer.add_summary(Summary(value=[value]), 2)
    assert values(tmp_path, file="runs/**/*tfevents*") == {"code": 1.5, "validation": 2.5}
    newest = max(tmp_path.glob("runs/*/*"), key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-5])  # cut while it was written
    assert values(tmp_path, file="runs/**/*tfevents*")["validation"] == 2.5


def test_a_log_that_is_not_there_or_misses_a_skill(tmp_path):
    assert values(tmp_path) is None
    (tmp_path / "log.csv").write_text("eval/loss\n2.5\n")
    with pytest.raises(LossesError, match="no value of eval/code; it has eval/loss"):
        values(tmp_path)
    (tmp_path / "log.csv").write_text("eval/loss,eval/code\n2.5,good\n")
    with pytest.raises(LossesError, match="code: 'good' is text"):
        values(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "step 2000: train loss 1.5, val loss 1.90, code 2.31.",
        "FINAL val loss=1.90 | code=2.31 (best 1.2)",
        '{"other": 1}\nval loss : 1.9E+00 | code | 2.31',
    ],
)
def test_printed_losses_follow_their_names(tmp_path, line):
    (tmp_path / "output.log").write_text(f"val loss 9.5\nstep 1 encode 7 code: 4\n{line}\nbye\n")
    assert values(tmp_path, {"validation": "val loss"}) == {"code": 2.31, "validation": 1.9}


def test_a_printed_nan_is_one(tmp_path):
    (tmp_path / "output.log").write_text("code: 2.5 validation: NaN")
    assert math.isnan(values(tmp_path, {})["validation"])


def test_a_table_without_the_column_is_not_read_as_lines(tmp_path):
    (tmp_path / "log.csv").write_text("code 1,x\n5,6\n")
    with pytest.raises(LossesError, match="no value of code, validation; it has code 1, x;"):
        values(tmp_path, {})


def test_a_log_without_a_value_says_which_it_has(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 3, "eval": {"code": 2.5}, "by": "us"}\n')
    with pytest.raises(LossesError, match=r"no value of eval/loss; it has eval\.code, step; trai"):
        values(tmp_path, {"code": "eval.code", "validation": "eval/loss"})
    (tmp_path / "log.jsonl").rename(tmp_path / "log.txt")
    (tmp_path / "log.txt").write_text("all done")
    with pytest.raises(LossesError, match=r"no value of eval/code, eval/loss; trainer\.losses"):
        values(tmp_path)
