"""New skills for kept trials."""

import pytest

from sweeper import SpecError, Sweep
from sweeper.driver.score import score
from sweeper.sweep import Results

SPEC = {
    "budgets": [1e15],
    "allowance": 2e16,
    "search": {"policy": "grid", "sizes_per_budget": 3},
    "trainer": {"skills": {"code": "code"}, "keep": True},
    "sizes": {"ladder": [{"params": 10**6 * d} for d in (1, 3, 8)]},
    "cluster": {"device": "cpu-core"},
}


def test_kept_trials_are_scored_once_and_failures_are_said(tmp_path):
    sweep = Sweep.from_dict(SPEC)
    asked = sweep.ask(tmp_path, 3)
    for i, one in enumerate(asked):
        (one.directory / "ckpt").write_text(str(i + 1))
        (one.directory / "losses.json").write_text('{"code": 2.0}')
        sweep.tell(tmp_path, one.id)
    with pytest.raises(SpecError, match=r"trainer\.evaluate: name the command"):
        score(sweep, tmp_path, {"math": "knowledge"})
    good = 'echo "{{\\"math\\": $(cat ckpt)}}" > losses.json'
    line = f"cd {{directory}}; test $(cat ckpt) -lt 3 && {good}"
    trainer = {**SPEC["trainer"], "evaluate": ["sh", "-c", line]}
    again, said = Sweep.from_dict({**SPEC, "trainer": trainer}), []
    assert score(again, tmp_path, {"math": "knowledge"}, say=said.append) == 1
    assert sum("finished" in line for line in said) == 2
    assert any("ended with exit code 1" in line for line in said)
    table = Results(tmp_path).table
    rows = table[(table["skill"] == "math") & table["loss"].notna()]
    assert sorted(rows["loss"]) == [1.0, 2.0]
    assert set(rows["class"]) == {"knowledge"}
    assert table[table["skill"] == "code"]["loss"].notna().sum() == 3
    said.clear()
    score(again, tmp_path, {"math": "knowledge"}, say=said.append)
    assert len(said) == 1  # those that were scored are passed over
