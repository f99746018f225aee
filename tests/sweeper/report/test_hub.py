"""What is uploaded to the Hub."""

from types import SimpleNamespace

import huggingface_hub
import pandas as pd
import pytest
import yaml

from sweeper import Results, SpecError, Sweep
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from trainables.data import Data


@pytest.fixture
def results(tmp_path):
    """A finished sweep's directory: seven sizes on each of three budgets."""
    skills = ["knowledge", "validation"]
    sweep = Sweep(budgets=[1e11, 2e11, 4e11], allowance=8e12, skills=skills, name="a: b",
                  data=Data(source="simulated"))  # fmt: skip
    directory = Directory(tmp_path / "a")
    directory.claim(sweep)
    ledger = Ledger(directory.ledger)
    for flops in sweep.budgets:
        for i in range(7):
            allocation = sweep.space.allocation(flops, 0.06 * flops**0.5 * 1.3 ** (i - 3))
            key = f"{flops:g}-{i}"
            ledger.reserve(key, allocation)
            losses = {
                name: {"class": name, "nll": 100 * (2 + 0.1 * (i - 3 - j) ** 2), "tokens": 100,
                       "bytes": 300, "examples": 9}
                for j, name in enumerate(skills)
            }  # fmt: skip
            record = {"status": "finished", "tokens": allocation.tokens, "losses": losses,
                      "worker": "secret-host:1"}  # fmt: skip
            ledger.settle(key, record, spent_flops=flops)
    ledger.close()
    return Results(directory.root)


def test_a_sweep_is_uploaded_with_its_card(results, monkeypatch):
    seen = {}

    class Api:
        def create_repo(self, name, **options):
            seen["made"] = (name, options["private"], options["repo_type"])

        def upload_folder(self, *, folder_path, repo_id, repo_type, commit_message):
            from pathlib import Path

            seen["files"] = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}
            seen["table"] = pd.read_parquet(Path(folder_path) / "observations.parquet")
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert results.push_to_hub("me/sweep") == "https://hub/me/sweep/1"
    assert seen["made"] == ("me/sweep", True, "dataset")
    assert set(seen["files"]) == {
        "README.md", "observations.parquet", "fits.json", "sweep.yaml", "report.html"
    }  # fmt: skip
    assert len(seen["table"]) == 42
    card = seen["files"]["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pretty_name"] == "a: b"
    assert "## Optima" in card
    assert not any(b"secret-host" in content for content in seen["files"].values())


def test_what_cannot_be_uploaded_is_refused_first(results):
    with pytest.raises(SpecError, match="is not of the form user/name"):
        results.push_to_hub("sweep")
