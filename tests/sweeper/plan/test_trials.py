"""The first trials as a list to submit."""

import io

import pandas as pd
import yaml
from typer.testing import CliRunner

from sweeper.cli import app

SPEC = {
    "budgets": [1e15, 3e15],
    "allowance": 2e16,
    "trainer": {"command": ["train", "--n={params}", "--t={tokens}"], "skills": {"code": "code"}},
    "sizes": {"ladder": [{"params": 10**6 * d} for d in range(1, 9)]},
    "cluster": {"device": "h100", "resources": [{"gpus": 1}, {"from_params": 3e6, "gpus": 4}]},
}


def test_trials_to_submit(tmp_path):
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    said = CliRunner().invoke(app, ["plan", str(tmp_path / "spec.yaml"), "--trials"]).stdout
    table = pd.read_csv(io.StringIO(said))
    assert table["flops"].sum() <= 2e16
    assert set(table["gpus"]) == {1.0, 4.0}
    big = table[table["gpus"] == 4].iloc[0]
    assert big["wall_hours"] == big["device_hours"] / 4
    assert big["command"] == f"train --n={big['params']} --t={big['tokens']}"
    assert table["id"].is_unique
    text = CliRunner().invoke(app, ["plan", str(tmp_path / "spec.yaml")]).stdout
    assert "as cluster.resources says" in text
    assert "4 GPUs each" in text
