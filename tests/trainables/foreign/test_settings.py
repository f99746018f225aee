"""The trainer section, its placeholders, and ladders of sizes."""

import numpy as np
import pytest

from trainables.foreign import imports, ladder
from trainables.foreign.ladder import Rung
from trainables.foreign.placeholders import check, filled
from trainables.foreign.settings import Log, Trainer

SKILLS = {"code": "code"}


def test_placeholders_are_filled_and_formatted():
    values = {"tokens": 4000, "learning_rate": 0.00025, "share.code": 0.2}
    command = ["--t={tokens}", "{learning_rate:.1e}", "{share.code}", "{{x}}"]
    assert filled(command, values) == ["--t=4000", "2.5e-04", "0.2", "{x}"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("{toknes}", r"placeholder \{toknes\} is unknown \(did you mean 'tokens'\?\)"),
        ("{tokens", "expected '}'"),
        ("{}", "write a name between the braces"),
        ("{tokens!r}", "write a name between the braces"),
        ("{tokens.__class__}", "is unknown"),
    ],
)
def test_other_placeholders_are_refused(argument, words):
    with pytest.raises(ValueError, match=words):
        check(["train", argument], ["tokens", "seed"], field="trainer.command")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"command": ["a"], "call": "a:b"}, "not both"),
        ({"call": "mylab.run"}, "write package.module:function"),
        ({"command": ["a"], "skills": {}}, "trainer.skills: name what"),
        ({"command": ["a"], "skills": {"": "code"}}, "one has no name"),
        ({"command": ["a"], "skills": {"loss": "aggregate"}}, "is called validation"),
        ({"command": ["a"], "progress": "("}, "no regular expression"),
        ({"command": ["a"], "progress": r"(?P<stepp>\d+)"}, "did you mean 'step'"),
        ({"command": ["a"], "progress": r"loss (?P<loss>\d+)"}, "says how far it is"),
        ({"command": ["a"], "granule": 0}, "granule=0"),
        ({"command": ["a"], "losses": Log("x", {"math": "m"})}, "math not among trainer.skills"),
        ({"call": "a:b", "progress": "x"}, "a function returns its losses"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Trainer(**{"skills": SKILLS, **settings})


def test_a_ladder_is_read_sorted_with_numbers_as_people_write_them(tmp_path):
    (tmp_path / "sizes.csv").write_text(
        "# our ladder\nparams, layers, name, flops_per_token\n1.3B,24,big,8e9\n124M,12,small,8e8\n"
    )
    small, big = ladder.read("sizes.csv", str(tmp_path))
    assert small == {"params": 124_000_000, "layers": 12, "name": "small", "flops_per_token": 8e8}
    assert big["params"] == 1_300_000_000
    rung = Rung(big["params"], 1, big)
    assert (rung.flops_per_token("6p"), rung.flops_per_token("exact")) == (7.8e9, 8e9)
    with pytest.raises(ValueError, match="needs a column 'width'"):
        _ = rung.width


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parms,layers\n1,2\n", r"'params', which every size needs, is unknown \(did you mean 'p"),
        ("params,layers\nbig,2\n", "row 1: params='big' is no number"),
        ("params\n5\n5\n", "5 params are there twice"),
        ("params,tokens\n5,1\n", "tokens is the trial's own"),
        ("params,flops_per_token\n5,1\n6,\n", "flops_per_token='' is no number"),
        ("params\n", "holds no size"),
        ("params,width\n5\n", "row 1: nothing in 'width'"),
        ("params,width\n5,\n", "row 1: nothing in 'width'"),
        ("params,width\n124,000,000\n", r"row 1: more cells than columns: \['000'\]"),
    ],
)
def test_bad_ladders_are_refused(tmp_path, text, words):
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        ladder.read("sizes.csv", str(tmp_path))


def test_functions_are_found_and_named_when_not(tmp_path):
    (tmp_path / "nano_ladder.py").write_text(
        "def ladder():\n    return [{'params': 100 * d, 'depth': d} for d in (8, 4)]\n"
    )
    rows = ladder.read("nano_ladder:ladder", str(tmp_path))
    assert [row["depth"] for row in rows] == [4, 8]
    assert ladder.read([{"params": np.int64(5), "width": np.float32(8)}], "") == [
        {"params": 5, "width": 8.0}
    ]
    imports.require("nano_ladder:ladder", str(tmp_path), field="here")
    with pytest.raises(ValueError, match=r"no function 'ladde' \(did you mean 'ladder'\?\)"):
        imports.require("nano_ladder:ladde", str(tmp_path), field="here")
    with pytest.raises(ValueError, match="there is no module 'nowhere_at_all'"):
        imports.require("nowhere_at_all:x", str(tmp_path), field="here")
    (tmp_path / "broken_ladder.py").write_text("import nothing_such\ndef ladder(): pass\n")
    with pytest.raises(ValueError, match=r"cannot be imported from .*nothing_such"):
        ladder.read("broken_ladder:ladder", str(tmp_path))
    with pytest.raises(ValueError, match=r"No such file.*from trainer\.workdir"):
        ladder.read("none.csv", str(tmp_path))
