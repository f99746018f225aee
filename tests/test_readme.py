"""The README is short, its Python runs, and what it and the docs name exists."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from sweeper.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
VERBS = get_command(app).commands
COMMAND = re.compile(r"(?:`|^\$ )isoskill ([a-z][^`\n|]*)", flags=re.M)
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
LONGEST_README, LONGEST_EXAMPLES = 130, 12_000  # lines; bytes


def test_the_python_blocks_run_in_order(capsys):
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.S):
        exec(compile(block, "README.md", "exec"), scope)
    assert "Optimum" in capsys.readouterr().out


def test_the_front_door_is_short():
    assert len(README.splitlines()) <= LONGEST_README
    assert (ROOT / "examples" / "README.md").stat().st_size <= LONGEST_EXAMPLES


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_and_pictures_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_exist(page):
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page):
    for line in COMMAND.findall(page.read_text(encoding="utf-8")):
        verb, *rest = QUOTED.sub("", line).split()
        command = VERBS.get(verb)
        assert command is not None, line
        known = {name for param in command.params for name in param.opts}
        for word in rest:
            option = re.match(r"--[a-z][a-z-]*", word)
            assert option is None or option[0] in known | {"--help"}, line


def test_every_verb_has_help_and_the_readme_names_the_doors():
    assert all(command.help for command in VERBS.values())
    for verb in ("init", "plan", "run", "fit", "predict", "suggest", "ask", "prepare", "tune"):
        assert f"isoskill {verb}" in README, verb


def test_the_version_is_said_once():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.M)[1]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == version
    assert f"## [{version}] - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
