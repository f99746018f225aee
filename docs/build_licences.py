"""Write docs/licences.md: every package that an installed isoskill brings, and its licence.

    python docs/build_licences.py

Read from the metadata of the environment it runs in, following requirements from isoskill's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HEAD = """# Licences

isoskill is Apache-2.0. Installing it (without extras) brings these packages, at the versions of
constraints.txt on Linux; made from their own metadata by `python docs/build_licences.py`.

| package | version | licence |
|---|---|---|
"""

LONGEST = 60
"""Characters of a licence that a row shows: some packages put its whole text there."""


def needed(name: str, extras: frozenset[str], seen: dict[str, metadata.Distribution]) -> None:
    """Collect a distribution and all it requires here, by normalised name."""
    found = metadata.distribution(name)
    first = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    if first in seen and not extras:
        return
    seen[first] = found
    for text in found.requires or ():
        one = Requirement(text)
        wanted = any(
            one.marker is None or one.marker.evaluate({"extra": e}) for e in (*extras, "")
        )
        if wanted and installed(one.name):
            needed(one.name, frozenset(one.extras), seen)


def installed(name: str) -> bool:
    """Whether a package is there: some requirements are of other platforms."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def licence(found: metadata.Distribution) -> str:
    """Its licence by the newest field of its metadata that says one."""
    said = found.metadata.get("License-Expression") or ""
    classes = found.metadata.get_all("Classifier") or []
    named = [c.split(" :: ")[-1] for c in classes if c.startswith("License ::")]
    text = said or " / ".join(n for n in named if n != "OSI Approved")
    return text or (found.metadata.get("License") or "not said").splitlines()[0][:LONGEST]


def rows() -> Iterator[str]:
    """One row per package but isoskill itself."""
    seen: dict[str, metadata.Distribution] = {}
    needed("isoskill", frozenset(), seen)
    for name, found in sorted(seen.items()):
        if name != "isoskill":
            version = found.version.split("+")[0]
            yield f"| {found.metadata['Name']} | {version} | {licence(found)} |"


def page() -> str:
    """The page."""
    return HEAD + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "licences.md").write_text(page(), encoding="utf-8")
