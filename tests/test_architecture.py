"""The plan of the house: no import circles, few rooms, floors as stated, the picture true."""

import ast
import importlib.util
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("plan", ROOT / "docs" / "build_architecture.py")
plan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(plan)
MOST_ROOMS, LONGEST_FILE = 16, 400


@pytest.fixture(scope="module")
def found():
    return plan.imports(plan.modules())


def test_no_module_imports_itself_by_way_of_others(found):
    """Lazy imports and those for types alone count; a package's own ``__init__`` is its face."""
    faces = {name for name, file in plan.modules().items() if file.name == "__init__.py"}
    graph = {name: targets - faces for name, targets in found.items() if name not in faces}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_a_circle_would_be_found():
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_rooms_import_downwards_only_and_say_their_floor(found):
    levels = plan.floors(plan.arrows(found))
    known = plan.modules()
    for name, floor in levels.items():
        if known[name].name == "__init__.py":
            stated = re.search(
                r"Floor (\d+) of (\w+)\.", ast.get_docstring(ast.parse(known[name].read_text()))
            )
            assert stated, f"{name}/__init__.py does not say its floor: it is {floor}"
            assert (int(stated[1]), stated[2]) == (floor, name.split(".")[0]), name


@pytest.mark.parametrize("package", plan.PACKAGES)
def test_a_package_has_few_rooms(package, found):
    rooms = {name for name in plan.arrows(found) if name.startswith(package + ".")}
    assert len(rooms) <= MOST_ROOMS, sorted(rooms)


def test_no_file_is_long():
    long = {
        name: n
        for name, file in plan.modules().items()
        if (n := len(file.read_text().splitlines())) > LONGEST_FILE
    }
    assert not long


def test_the_picture_is_that_of_the_code():
    assert plan.PICTURE.read_text() == plan.draw(), "run python docs/build_architecture.py"
