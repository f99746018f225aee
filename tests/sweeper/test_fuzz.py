"""Whatever is typed or lies in a file: an answer, or one clear message and exit code 2."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.cli import main

CASES = 75
"""Of each of the four kinds; `--long` makes it 1250."""

GOOD = {
    "budgets": [1e11, 2e11],
    "allowance": 2e12,
    "skills": ["code"],
    "sizes": {"low": 8e3, "high": 6e4},
    "data": {"shares": {"code": 0.5, "knowledge": 0.5}, "evaluation_documents": 16},
    "train": {"batch_tokens": 480},
    "search": {"policy": "grid", "sizes_per_budget": 3},
    "cluster": {"cpus": 2, "resources": [{"from_params": 0, "cpus": 1}]},
}

HOSTILE = [
    "<script>alert(1)</script>", "../../x", "'\"`$(rm -rf x)", "a\nb\r\n\tc", "x" * 10_000,
    "名前 ✓ \u202e", "\x00", "", "-1", "1e400", "nan", "!!python/object/apply:os.system [ls]",
]  # fmt: skip

names = st.sampled_from([*HOSTILE, *GOOD, "serch", "low", "source", "path", "policy"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.sampled_from(HOSTILE),
    st.text(max_size=20), st.sampled_from([0, -1, 1e300, 5e-324, 0.5, 2**31]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def places(tree, path=()):
    """Every path in a nested mapping."""
    found = [path]
    for key, value in tree.items() if isinstance(tree, dict) else []:
        found += places(value, (*path, key))
    return found


@st.composite
def specs(draw):
    """A good spec with some fields replaced, added or taken away; or any text at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=60) | st.sampled_from(["[", "&a [*a]", "a: b: c", "{}", "%"]))
    tree = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(places(tree)[1:]))
        node = tree
        for key in parents:
            node = node[key] if isinstance(node, dict) and key in node else {}
        if isinstance(node, dict):
            if draw(st.booleans()):
                node[last] = draw(values)
            else:
                node.pop(last, None)
                node[draw(names)] = draw(values)
    return yaml.safe_dump(tree, allow_unicode=True)


@st.composite
def tables(draw):
    """A table of runs with some cells, headings or rows gone wrong; or any text at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=60))
    head = ["flops", "params", "tokens", "skill", "loss"]
    rows = [
        [c, p, c / 6 / p, "code", round(1 + (4e5 / p) ** 0.5 + (6e6 * p / c) ** 0.5, 4)]
        for c in (1e18, 1e19)
        for p in (1e8, 2e8, 4e8, 8e8, 1.6e9)
    ]
    cells = st.sampled_from(["", "nan", "inf", "-1", "0", "1e400", "x", *HOSTILE[:5], "1e18"])
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        rows[row][draw(st.integers(0, 4))] = draw(cells)
    if draw(st.booleans()):
        head[draw(st.integers(0, 4))] = draw(st.sampled_from(["N", "C", "loss", "", "x,y", "📉"]))
    kept = rows[: draw(st.integers(0, len(rows)))]
    return "\n".join(",".join(str(cell) for cell in row) for row in [head, *kept])


@st.composite
def arguments(draw):
    """Verbs and options, in any order, with any values."""
    verbs = ["plan", "fit", "predict", "status", "report", "skills", "run", "plann", "--help"]
    options = ["--set", "--json", "--flops", "--skill", "--method", "--backup", "--out", "-x"]
    texts = ["data.shares.code=0.3", "=", "a.b.c=[", "1e18", "-1", "nan", "code", *HOSTILE]
    texts.remove("\x00")  # no system passes it on
    rest = draw(st.lists(st.sampled_from([*options, *texts]), max_size=4))
    return [draw(st.sampled_from(verbs)), *rest]


def answer(monkeypatch, capsys, *typed):
    """Run the console command; only an answer or one clear refusal will do."""
    monkeypatch.setattr(sys, "argv", ["isoskill", *map(str, typed)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    assert code in (0, 2, 3), said.err
    assert "Traceback" not in said.err
    if code == 2:
        assert said.err.strip(), "refused without a word"
        echoed = sum(len(str(part)) for part in typed)
        assert len(said.err) < 5_000 + 2 * echoed, "a message that nobody reads"
    return code


@pytest.fixture
def fuzz(long_run):
    def run(strategy, check):
        relaxed = settings(
            max_examples=1250 if long_run else CASES,
            deadline=None,
            database=None,
            derandomize=not long_run,
            suppress_health_check=list(HealthCheck),
        )
        relaxed(given(strategy)(check))()

    return run


def test_any_spec_is_planned_or_refused(fuzz, tmp_path, monkeypatch, capsys):
    path = tmp_path / "sweep.yaml"

    def check(text):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        answer(monkeypatch, capsys, "plan", path)

    fuzz(specs(), check)


def test_any_table_is_fitted_or_refused(fuzz, tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.csv"

    def check(text):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        answer(monkeypatch, capsys, "fit", path, "--method", "parabola")

    fuzz(tables(), check)


def test_any_arguments_are_obeyed_or_refused(fuzz, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def check(typed):
        answer(monkeypatch, capsys, *typed)

    fuzz(arguments(), check)


def test_any_file_in_place_of_a_sweep_is_refused(fuzz, tmp_path, monkeypatch, capsys):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(GOOD))

    def check(case):
        name, content = case
        (tmp_path / "ledger.sqlite").write_bytes(b"")
        (tmp_path / name).write_bytes(content)
        answer(monkeypatch, capsys, "status", tmp_path)

    files = st.sampled_from(["ledger.sqlite", "sweep.yaml", "layout.json", "live.json"])
    fuzz(st.tuples(files, st.binary(max_size=200)), check)


FOUND = sorted((Path(__file__).parent / "data" / "found").glob("*"))
"""Cases that once ended in a traceback."""


@pytest.mark.parametrize("typed", [["plan", "x" * 300], ["status", "x" * 300]])
def test_found_arguments_stay_mended(typed, monkeypatch, capsys):
    assert answer(monkeypatch, capsys, *typed) == 2


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_found_cases_stay_mended(path, monkeypatch, capsys):
    verb = ["plan", path] if path.suffix == ".yaml" else ["fit", path, "--method", "parabola"]
    answer(monkeypatch, capsys, *verb)
