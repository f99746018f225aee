"""The README's Python blocks run, in order, and its commands and files exist."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sweeper.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_the_python_blocks_run_in_order(capsys):
    scope: dict[str, object] = {}
    for block in BLOCKS:
        code = compile(block, "README.md", "exec")
        if not block.startswith("# no-run"):
            exec(code, scope)
    assert "tolerance" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.py)`", README))))
def test_the_files_of_the_tour_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_and_pictures_exist(path):
    assert (ROOT / path).exists()


def test_every_verb_has_help_and_the_readme_names_the_main_ones():
    verbs = get_command(app).commands
    assert set(verbs) >= {"plan", "run", "status", "fit", "predict", "report", "skills"}
    assert all(command.help for command in verbs.values())
    for verb in ("plan", "run", "fit", "predict", "status", "report"):
        assert f"isoskill {verb}" in README
