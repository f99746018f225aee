"""A sweep directory made before Spec and Sweep were two opens, and would go on, as it did."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sweeper import Results, Sweep
from sweeper.record.directory import Directory
from sweeper.search.build import policy
from sweeper.search.protocol import Finished

BEFORE = Path(__file__).parents[1] / "data" / "sweep_0_1"
"""Of commit 34764ef: simulated losses, adaptive search, on two CPU cores."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE, tmp_path / "sweep"))


def test_it_opens_with_every_trial_and_fits(directory: Path) -> None:
    results = Results(directory)
    assert isinstance(results.sweep, Sweep)
    assert (results.trials["state"] == "finished").all() and len(results.trials) == 15
    assert results.finished is not None and results.finished.reason == "allowance"
    kept = pd.read_parquet(directory / "observations.parquet")
    pd.testing.assert_frame_equal(results.table[kept.columns], kept, check_dtype=False)
    optima = [results.fit()["code"].at(flops) for flops in results.sweep.budgets]
    assert [str(at.status) for at in optima] == ["ok", "ok", "edge"]  # one size on the largest
    assert all(at.params > 0 for at in optima)


def test_it_is_the_same_sweeps_and_more_allowance_goes_on(directory: Path) -> None:
    results = Results(directory)
    sweep = Sweep.load(directory / "sweep.yaml", {"allowance": "3e12"})
    Directory(directory).claim(sweep)
    remaining = 3e12 - results.spent_flops
    asked = policy(sweep, sweep.measured).propose(results.table, [], remaining)
    assert not isinstance(asked, Finished)
    known = {(t.flops, t.params, t.seed) for t in results.trials.itertuples()}
    assert asked and all((a.flops, a.params, a.seed) not in known for a in asked)


def test_what_it_wrote_of_its_cpu_does_not_bind_it(directory: Path) -> None:
    written = yaml.safe_load((directory / "sweep.yaml").read_text())
    assert written["cluster"]["resources"]
    assert Results(directory).sweep.cluster.resources == ()
