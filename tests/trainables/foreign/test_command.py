"""A command as a trial: how it ends, what is said of it, and that nothing of it is left."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainables.foreign import process
from trainables.foreign.command import Place, run
from trainables.foreign.keeper import marked
from trainables.foreign.settings import Log, Trainer
from trainables.foreign.trial import ForeignTrial

SKILLS = {"code": "code", "validation": "aggregate"}
DONE = 'echo \'{"code": 1.5, "validation": 2.5}\' > part; mv part losses.json'


def shell(script, **settings):
    """A trial whose command is a line of shell in the trial's directory."""
    command = ("sh", "-c", "cd {directory}\n" + script.replace("{", "{{").replace("}", "}}"))
    trainer = Trainer(command=command, skills=SKILLS, **{"grace_s": 0.5, **settings})
    return ForeignTrial(trainer, params=1000, tokens=4000)


def go(script, directory, *, hang_s=30.0, **settings):
    said = []
    place = Place(directory, {}, {"gpus": 0}, hang_s=hang_s)
    record = run(shell(script, **settings), place, report=said.append)
    assert not any(marked(f"{directory}#{rank}") for rank in range(2))
    return record, [metrics for metrics in said if "tokens" in metrics]


def first_line(record):
    return record["reason"].splitlines()[0]


def test_losses_are_the_end(tmp_path):
    record, _ = go(DONE, tmp_path)
    assert record["status"] == "finished"
    assert record["losses"]["code"]["nll"] == 1.5
    assert record["losses"]["validation"]["class"] == "aggregate"
    assert record["flops_6p"] == 6 * 1000 * 4000
    # A driver that was killed meanwhile starts no second training.
    assert go("exit 9", tmp_path)[0]["status"] == "finished"


def test_a_command_that_lingers_after_its_losses_is_ended(tmp_path):
    began = time.monotonic()
    assert go(f"{DONE}; sleep 60", tmp_path)[0]["status"] == "finished"
    assert time.monotonic() - began < 30


def test_nan_is_diverged(tmp_path):
    record, _ = go('echo \'{"code": NaN, "validation": 2}\' > losses.json', tmp_path)
    assert (record["status"], record["reason"]) == ("diverged", "loss of code is not finite")


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("echo warming up; echo boom >&2; exit 3", "error", "exit code 3; last it said: boom"),
        ("exit 75", "interrupted", "asked to be started again"),
        ("kill -9 $$", "worker-died", "killed by SIGKILL, as the kernel does when memory"),
        ("kill -SEGV $$", "worker-died", "killed by SIGSEGV"),
        ("exit 0", "losses", "ended, but there is no losses.json"),
        ('printf \'{"code": 1.5, "vali\' > losses.json', "losses", "is no whole JSON"),
        ('echo \'{"code": "1.5", "validation": 1}\' > losses.json', "losses", "'1.5' is text"),
        ("echo '{\"code\": 1.5}' > losses.json", "losses", "no loss of validation"),
        (
            'echo \'{"coed": 1.5, "validation": 1}\' > losses.json',
            "losses",
            "no loss of code, named by trainer.skills; it has coed, validation",
        ),
        ("echo OSError: No space left on device; exit 1", "storage", "exit code 1"),
        ("echo 'Signal 9 (SIGKILL) received by PID 7'; exit 1", "worker-died", "exit code 1"),
    ],
)
def test_ends_are_told_apart_in_words(tmp_path, script, kind, words):
    record, _ = go(script, tmp_path)
    assert (record["status"], record["kind"]) == ("failed", kind)
    assert words in first_line(record)


def test_half_a_file_of_losses_is_set_aside_for_the_next_attempt(tmp_path):
    (tmp_path / "losses.json").write_text('{"code": 1')
    assert go(DONE, tmp_path)[0]["status"] == "finished"
    assert (tmp_path / "losses.json.broken").exists()


def test_a_missing_program_is_named(tmp_path):
    trainer = Trainer(command=("no-such-program",), skills=SKILLS)
    record = run(ForeignTrial(trainer, 1, 1), Place(tmp_path, {}, {}))
    assert "no-such-program: cannot be started: No such file" in record["reason"]


@pytest.mark.parametrize(
    ("script", "settings"),
    [
        (
            'for i in 1 2 3 4; do echo "{\\"tokens\\": ${i}000, \\"loss\\": $i.5}"'
            " >> progress.jsonl; sleep .3; done",
            {},
        ),
        (
            "for i in 1 2 3 4; do echo step $i/4 loss $i.5; sleep .3; done",
            {"progress": r"step (?P<step>\d+)/(?P<steps>\d+) loss (?P<loss>[\d.]+)"},
        ),
    ],
)
def test_progress_is_reported(tmp_path, script, settings):
    record, said = go(f"{script}; {DONE}", tmp_path, **settings)
    assert record["status"] == "finished"
    tokens = [metrics["tokens"] for metrics in said]
    assert tokens == sorted(set(tokens)) and tokens[-1] == 4000 and len(tokens) > 1
    assert said[-1]["train_loss"] == record["train_loss"] == 4.5
    assert said[-1]["tokens_per_s"] > 0
    assert said[-1]["resumed_at_tokens"] == tokens[0]


def test_progress_of_an_earlier_attempt_is_no_news(tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"tokens": 3000}\n')
    _, said = go(
        f"sleep .5; echo '{{\"tokens\": 2000}}' >> progress.jsonl; sleep .5; {DONE}", tmp_path
    )
    assert [(m["tokens"], m["resumed_at_tokens"]) for m in said] == [(2000, 2000)]


def test_one_that_hangs_is_ended_and_said_why(tmp_path):
    record, _ = go("echo loading; sleep 60", tmp_path, hang_s=0.6)
    assert record["kind"] == "hung"
    assert "no sign of progress for 0.6 s (cluster.hang_s) in progress.jsonl" in first_line(record)
    assert "loading" in record["reason"]


def test_output_that_never_ends_is_bounded_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "OUTPUT_BYTES", 2**20)
    record, _ = go("yes we are training", tmp_path, hang_s=1.0)
    assert record["kind"] == "hung"
    assert int(re.search(r"printed ([\d,]+) bytes", record["reason"])[1].replace(",", "")) > 2**22
    assert sum(path.stat().st_size for path in tmp_path.glob("output*")) <= 4 * 2**20
    assert len(record["reason"]) < 8000


def test_asked_to_stop_it_may_end_in_order(tmp_path):
    # It asks itself once its trap is set: asked sooner, a busy machine's shell just ends.
    script = "trap 'echo saved > ckpt; exit 0' TERM\ntouch stop\nwhile :; do sleep .1; done"
    record, _ = go(script, tmp_path, grace_s=20.0)
    assert (record["status"], (tmp_path / "ckpt").read_text()) == ("stopped", "saved\n")


def test_one_that_ignores_sigterm_is_killed(tmp_path):
    script = "trap '' TERM; (trap '' TERM; sleep 61 & sleep 62) & while :; do sleep .1; done"
    (tmp_path / "stop").touch()
    assert go(script, tmp_path)[0]["status"] == "stopped"


def test_daemons_are_found_and_ended(tmp_path):
    script = f"setsid sh -c 'sleep 63 & sleep 64' & env -i setsid sleep 65 & sleep .2; {DONE}"
    record, _ = go(script, tmp_path)
    assert record["status"] == "finished"
    assert any("sleep 65" in note for note in record["notes"])
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not re.findall(r"^sleep 6[345]$", listed, re.MULTILINE)


def test_a_killed_keeper_leaves_nothing(tmp_path):
    def kill():
        while True:
            for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
                try:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if b"keeper.py" in line and str(tmp_path).encode() in line and marked(mark):
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.05)

    mark = f"{tmp_path}#0"
    threading.Thread(target=kill, daemon=True).start()
    record, _ = go("setsid sleep 66 & sleep 67", tmp_path, hang_s=300)  # a busy machine is slow
    assert record["kind"] == "worker-died"
    assert "keeper was killed" in record["reason"]


CHILD = """
import sys
from pathlib import Path
from trainables.foreign.command import Place, run
from trainables.foreign.settings import Trainer
from trainables.foreign.trial import ForeignTrial
trainer = Trainer(command=("sh", "-c", "setsid sleep 68 & sleep 69"), skills={"code": "code"})
run(ForeignTrial(trainer, 1, 1), Place(Path(sys.argv[1]), {}, {}))
"""


def test_a_killed_caller_leaves_nothing(tmp_path):
    caller = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)])
    mark = f"{tmp_path}#0"
    for _ in range(400):
        if len(marked(mark)) >= 2:
            break
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    for _ in range(400):
        if not marked(mark):
            return
        time.sleep(0.05)
    raise AssertionError("something is left running")


def test_what_an_earlier_attempt_left_is_ended_before_the_next(tmp_path):
    mark = {"ISOSKILL_TRIAL": f"{tmp_path}#0"}
    left = subprocess.Popen(["sleep", "70"], env=mark | {"PATH": os.environ["PATH"]})
    record, _ = go(DONE, tmp_path)
    assert left.wait(10) == -signal.SIGKILL
    assert "sleep 70" in record["notes"][0]


def test_losses_come_from_a_log(tmp_path):
    log = Log("run/*.csv", {"code": "eval_code", "validation": "loss"})
    script = (
        "mkdir run; printf 'step,loss,eval_code\\n1,3,\\n2,2.5,1.5\\n3,2.25,\\n' > run/log.csv"
    )
    record, _ = go(script, tmp_path, losses=log)
    assert {name: s["nll"] for name, s in record["losses"].items()} == {
        "code": 1.5,
        "validation": 2.25,
    }
    record, _ = go("rm run/log.csv", tmp_path, losses=log)
    assert record["kind"] == "losses"
    assert "there is no run/*.csv in its {directory}" in record["reason"]


def test_a_log_is_read_again_by_other_names_before_the_trainer_is_started_again(tmp_path):
    script = "echo >> starts; echo 'val loss: 2.5, code 1.5'"
    wrong = Log("output.log", {"validation": "test loss"})
    record, _ = go(script, tmp_path, losses=wrong)
    assert (record["kind"], record["losses"] if "losses" in record else None) == ("losses", None)
    assert "no value of test loss" in record["reason"]
    record, _ = go(script, tmp_path, losses=Log("output.log", {"validation": "val loss"}))
    assert record["losses"]["validation"]["nll"] == 2.5
    assert (tmp_path / "starts").read_text() == "\n"
    record, _ = go(script, tmp_path, losses=wrong)
    assert (tmp_path / "starts").read_text() == "\n\n"
