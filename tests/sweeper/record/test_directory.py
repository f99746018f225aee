"""A directory holds one sweep and one driver."""

import multiprocessing

import pytest

from sweeper import Sweep
from sweeper.errors import DirectoryError
from sweeper.record.directory import Directory

SWEEP = Sweep(budgets=[1e11, 2e11], allowance=1e12)


def test_a_larger_allowance_goes_on_in_the_same_directory(tmp_path):
    directory = Directory(tmp_path / "a")
    directory.claim(SWEEP)
    directory.claim(Sweep(budgets=[1e11, 2e11], allowance=2e12))
    assert Sweep.load(directory.spec).allowance == 2e12


def test_an_empty_directory_is_no_sweep(tmp_path):
    with pytest.raises(DirectoryError, match="no sweep here"):
        Directory(tmp_path).require()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("sweep.yaml", "(launched by hand: `isoskill ask`)"),
        ("ledger.sqlite", "`isoskill repair DIR"),
    ],
)
def test_a_sweep_that_has_lost_a_file_is_told_which(tmp_path, lost, words):
    for name in ("sweep.yaml", "ledger.sqlite", "observations.parquet"):
        (tmp_path / name).touch()
    (tmp_path / lost).unlink()
    with pytest.raises(DirectoryError) as refused:
        Directory(tmp_path).require()
    assert words in str(refused.value) and "no sweep here" not in str(refused.value)


def _try(root, queue):
    try:
        with Directory(root).driven():
            queue.put("driven")
    except DirectoryError as error:
        queue.put(str(error))


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with Directory(tmp_path).driven():
        process = context.Process(target=_try, args=(tmp_path, queue))
        process.start()
        said = queue.get(timeout=30)
        process.join()
    assert "is driven by process" in said
    assert "since" in said
    with Directory(tmp_path).driven():
        pass


def test_a_newer_layout_is_refused_and_an_absent_one_is_the_first(tmp_path):
    directory = Directory(tmp_path)
    directory.claim(SWEEP)
    directory.layout.write_text('{"layout": 99}')
    with pytest.raises(DirectoryError, match="layout 99, this isoskill knows 1"):
        directory.claim(SWEEP)
    directory.layout.write_text("not json")
    with pytest.raises(DirectoryError, match="it should say"):
        directory.claim(SWEEP)
    directory.layout.unlink()
    directory.claim(SWEEP)
    assert directory.layout.exists()


def test_a_settled_trial_keeps_its_questions_alone(tmp_path):
    directory = Directory(tmp_path)
    for trial in ("a", "b"):
        (directory.trials / trial / "checkpoint_000000000010").mkdir(parents=True)
        directory.stop_file(trial).touch()
    directory.questions("a").touch()
    directory.clean(["a", "b", "never-was"])
    assert [path.name for path in directory.trials.iterdir()] == ["a"]
    assert list((directory.trials / "a").iterdir()) == [directory.questions("a")]


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DirectoryError, match="cannot be written"),
        Directory(tmp_path / "file" / "a").driven(),
    ):
        pass
