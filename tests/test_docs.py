"""Every block of the tutorial and the how-to pages runs, in order, as a reader would run it."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper.cli import app

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"```(python|yaml|console)\n(.*?)```", flags=re.S)


def blocks(page):
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def act(kind, text, scope):
    """Do what a block says: run Python, write a file, or give commands."""
    if kind == "python":
        exec(compile(text, "docs", "exec"), scope)
    elif kind == "yaml":
        name = re.match(r"# (\S+\.yaml)\n", text)
        Path(name[1]).write_text(text, encoding="utf-8")
    else:  # 3: no number can be given, as usual of budgets as tiny as a test's
        for line in text.splitlines():
            program, *arguments = shlex.split(line.removeprefix("$ "))
            assert program == "isoskill"
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code in (0, 3), f"{line}\n{done.output}\n{done.exception}"


@pytest.mark.ray
def test_the_tutorial_can_be_followed(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for kind, text in blocks("tutorial.md"):
        act(kind, text, scope)
    assert scope["results"].finished is not None
    assert (tmp_path / "own.html").stat().st_size > 10_000


def test_the_how_to_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for kind, text in blocks("howto.md"):
        act(kind, text, scope)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), flags=re.M)
            plain = [re.sub(r"[^\w -]", "", head).strip().lower() for head in heads]
            assert anchor in {head.replace(" ", "-") for head in plain}, link


def test_the_reference_is_that_of_the_docstrings():
    spec = importlib.util.spec_from_file_location("build_api", DOCS / "build_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "api.md").read_text(encoding="utf-8") == module.page()


def test_every_situation_names_tests_that_exist() -> None:
    root = Path(__file__).parents[1]
    text = (root / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \|.*\| ([^|]+) \|$", text, flags=re.M)
    assert len(rows) >= 40
    for name in {name for row in rows for name in re.findall(r"`([^`]+)`", row)}:
        assert (root / name).exists() or (root / "tests" / name).exists(), name
