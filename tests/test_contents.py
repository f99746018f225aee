"""The public surface, and what may be loaded to reach it."""

import subprocess
import sys

import pytest

import fitting
import sweeper
import trainables

SPEC = "budgets: [1e11, 2e11, 4e11]\nallowance: 6e12\n"

HEAVY = ("torch", "ray", "transformers", "datasets", "optuna")


@pytest.mark.parametrize("package", [fitting, sweeper, trainables])
def test_all_is_sorted_and_every_name_is_there(package):
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.no_such_name


def test_the_public_names():
    assert {
        "fit_isoflop", "fit_surface", "bootstrap_surface", "fit_power_law", "fit_skills",
        "Fits", "Optimum", "PowerLaw", "Prediction", "Surface", "Status",
    } <= set(fitting.__all__)  # fmt: skip
    assert sweeper.__all__ == [
        "Allocation", "Cluster", "ClusterError", "DirectoryError", "Finished", "IsoskillError",
        "Plan", "Resources", "Results", "SearchSettings", "Sizes", "SpecError", "Sweep",
        "TrialFailed",
    ]  # fmt: skip


def _loaded_by(code: str, *arguments: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


CLI = "from typer.testing import CliRunner\nfrom sweeper.cli import app\nimport sys\n"


@pytest.mark.parametrize("verb", ["--help", "plan", "skills"])
def test_the_light_verbs_load_nothing_heavy(tmp_path, verb):
    spec = tmp_path / "sweep.yaml"
    spec.write_text(SPEC)
    arguments = [verb, str(spec)] if verb == "plan" else [verb]
    code = f"{CLI}assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0"
    assert not _loaded_by(code, *arguments) & set(HEAVY)


def test_fitting_loads_nothing_heavy():
    loaded = _loaded_by("import fitting")
    assert not loaded & {*HEAVY, "sweeper", "trainables", "matplotlib", "scipy.stats"}
