"""Draw the floors of the three packages from the code: `python docs/build_architecture.py`.

A room is a folder or module at the top of a package. Its floor is one above the highest room it
imports, so that every arrow leads down. `tests/test_architecture.py` keeps the drawing, the floors
that rooms state of themselves, and the absence of import circles.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("fitting", "trainables", "sweeper")
BOX, HEIGHT, GAP, CHARACTERS = 212, 66, 8, 33


def modules() -> dict[str, Path]:
    """Every module of the three packages and its file; a package stands for its ``__init__``."""
    files = (f for package in PACKAGES for f in (ROOT / package).rglob("*.py"))
    return {
        ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f
        for f in files
    }


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(known: dict[str, Path]) -> dict[str, set[str]]:
    """Which module imports which, wherever the import stands: lazy and for types alone too."""
    found: dict[str, set[str]] = {}
    for module, file in known.items():
        names = (n for node in ast.walk(ast.parse(file.read_text())) for n in _names(node))
        targets = (n if n in known else n.rpartition(".")[0] for n in names)
        found[module] = {t for t in targets if t in known and t != module}
    return found


def room(module: str) -> str:
    """The room a module lies in: its first two names."""
    return ".".join(module.split(".")[:2])


def arrows(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which rooms of a package import which others of it; the packages' own faces left out."""
    rooms: dict[str, set[str]] = {room(m): set() for m in found if "." in m}
    for module, targets in found.items():
        if "." in module:
            here = {
                room(t) for t in targets if t.split(".")[0] == module.split(".")[0] and "." in t
            }
            rooms[room(module)] |= here - {room(module)}
    return {name: targets for name, targets in rooms.items() if not name.endswith("__main__")}


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each room, the lowest 1.

    Raises:
        RecursionError: rooms import each other in a circle.
    """
    done: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in done:
            done[name] = 1 + max((floor(below) for below in rooms[name]), default=0)
        return done[name]

    return {name: floor(name) for name in rooms}


def purpose(name: str, known: dict[str, Path]) -> str:
    """First sentence of a room's docstring."""
    text = ast.get_docstring(ast.parse(known[name].read_text())) or ""
    return re.split(r"(?<=\.)\s", " ".join(text.split("\n\n")[0].split()))[0]


def _box(name: str, text: str, x: int, y: int) -> str:
    label = escape(name.partition(".")[2])
    lines = textwrap.wrap(text.rstrip(".").replace("`", ""), CHARACTERS)[:3]
    words = "".join(
        f'<text x="{x + 8}" y="{y + 34 + 13 * i}" class="p">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x + 8}" y="{y + 18}" class="n">{label}</text>{words}'
    )


def _panel(package: str, known: dict[str, Path], levels: dict[str, int], top: int) -> list[str]:
    mine = {name: level for name, level in levels.items() if name.startswith(package + ".")}
    parts = [f'<text x="12" y="{top + 18}" class="t">{package}/</text>']
    for row, level in enumerate(range(max(mine.values()), 0, -1)):
        y = top + 30 + row * (HEIGHT + GAP)
        parts.append(f'<text x="12" y="{y + 42}" class="p">floor {level}</text>')
        names = sorted(name for name in mine if mine[name] == level)
        parts += [
            _box(name, purpose(name, known), 70 + i * (BOX + GAP), y)
            for i, name in enumerate(names)
        ]
    return parts


def draw() -> str:
    """The picture of all floors as SVG, the highest package first."""
    known = modules()
    levels = floors(arrows(imports(known)))
    parts: list[str] = []
    top, widest = 8, 0
    for package in reversed(PACKAGES):
        parts += _panel(package, known, levels, top)
        mine = [level for name, level in levels.items() if name.startswith(package + ".")]
        widest = max(widest, max(mine.count(level) for level in mine))
        top += 48 + max(mine) * (HEIGHT + GAP)
    width = 70 + widest * (BOX + GAP) + 4
    style = (
        "rect{fill:#f4f6f8;stroke:#7a8794}.w{fill:#fff;stroke:none}text{font-family:Helvetica,Arial,sans-serif;fill:#1d2733}"
        ".t{font-size:17px;font-weight:bold}.n{font-size:13px;font-weight:bold}.p{font-size:11px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" '
        f'height="{top}"><title>Rooms of isoskill by floor; imports lead down only</title>'
        f'<style>{style}</style><rect width="{width}" height="{top}" class="w"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
