"""What a foreign trainer measured: read from ``losses.json``, or from a log it writes anyway."""

from __future__ import annotations

import csv
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainables.foreign.settings import Log

LOSSES = "losses.json"
"""Written whole (to another name, then renamed) by the trainer: the trial's end."""

LOG_BYTES = 256 * 2**20
"""Largest log that is read (assumption: above, it is no log of losses)."""


DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Logs that are tables, by the end of their names."""

MOST_NAMES = 20
"""Names of a log's values that a refusal lists (assumption: more are not read)."""

MOST_COUNT = 2**63
"""Tokens and the like are below this, which a ledger's columns hold."""

_FOLLOWING = (
    r"[ \t:=|]{0,4}([-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?i:nan|inf)))(?!\w|\.\d)"
)
"""What stands behind a name in a line that a trainer prints: its number."""


class LossesError(Exception):
    """The trainer has ended, but its losses cannot be used; the training is kept."""


def read(directory: Path, skills: Mapping[str, str], log: Log | None) -> dict[str, Any] | None:
    """Losses by skill as a ledger takes them; None where there are none yet.

    Args:
        skills: skill -> class.
        log: where they are, if not in `LOSSES`.

    Returns:
        Skill -> ``nll, tokens, bytes, examples, class``; a plain loss counts as one token's.

    Raises:
        LossesError: the file is no JSON, misses a skill, or holds something else than numbers.
    """
    if log is not None:
        found = _from_log(directory, skills, log)
    else:
        try:
            text = (directory / LOSSES).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found = _parsed(text)
    return None if found is None else sums(found, skills, where=source(log))


def source(log: Log | None) -> str:
    """The file, or the pattern of files, that holds losses."""
    return log.file if log else LOSSES


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LossesError(
            f"{LOSSES}: is no whole JSON ({error}); write it to another name and rename it"
        ) from None


def sums(found: Mapping[str, Any], skills: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """Losses as a ledger takes them, each checked.

    Args:
        found: skill -> nats per token, or ``{"nll": sum, "tokens": n, "bytes": n}``; what else a
            trainer measures is left out.

    Raises:
        LossesError: a skill is missing, or a value is no number.
    """
    if not isinstance(found, Mapping):
        raise LossesError(f'{where}: {found!r:.80} is no object such as {{"code": 2.31}}')
    missing = [name for name in skills if name not in found]
    if missing:
        raise LossesError(
            f"{where}: no loss of {', '.join(missing)}, named by trainer.skills; it has "
            f"{', '.join(map(str, found)) or 'nothing'}"
        )
    return {name: _sum(name, found[name], kind, where) for name, kind in skills.items()}


def _sum(name: str, value: Any, kind: str, where: str) -> dict[str, Any]:
    given = value if isinstance(value, Mapping) else {"nll": value, "tokens": 1}
    parts = {"tokens": 0, "bytes": 0, "examples": 1, **given}
    found = {key: _plain(parts.get(key)) for key in ("nll", "tokens", "bytes", "examples")}
    nll = found.pop("nll")
    if nll is None:  # JSON has no NaN, and its writers say null
        nll = math.nan
    for part in (nll, *found.values()):
        if isinstance(part, bool) or not isinstance(part, int | float):
            shown = f"{part!r} is text" if isinstance(part, str) else f"{part!r} is no number"
            raise LossesError(f"{where}: {name}: {shown}; write nats per token, as 2.31")
    counted = all(0 <= count < MOST_COUNT for count in found.values())
    if "nll" not in parts or not counted or found["tokens"] < 1:
        raise LossesError(
            f"{where}: {name}: write nats per token, or "
            f'{{"nll": sum over the targets, "tokens": their number, "bytes": theirs}}'
        )
    if nll <= 0:
        raise LossesError(
            f"{where}: {name}: {nll:g} is not above 0; write nats per token, the mean of "
            "-ln(probability), as 2.31"
        )
    return {"nll": float(nll), **{key: int(n) for key, n in found.items()}, "class": kind}


def _plain(value: Any) -> Any:
    """Python's number for one of numpy's or torch's."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def diverged(losses: Mapping[str, Mapping[str, Any]]) -> str:
    """Why the losses are no result: which is not finite; "" if all are."""
    bad = [name for name, loss in losses.items() if not math.isfinite(loss["nll"])]
    return f"loss of {', '.join(bad)} is not finite" if bad else ""


def _from_log(directory: Path, skills: Mapping[str, str], log: Log) -> dict[str, Any] | None:
    files = sorted(directory.glob(log.file), key=lambda path: path.stat().st_mtime)
    found: dict[str, Any] = {}
    keys = {skill: log.keys.get(skill, skill) for skill in skills}
    for path in files:
        if path.stat().st_size > LOG_BYTES:
            raise LossesError(f"{path}: is larger than {LOG_BYTES / 2**20:.0f} MiB")
        found |= _last_values(path, keys)
    missing = [key for skill, key in keys.items() if skill not in found]
    if files and missing:
        there = {name for path in files for name in _names(list(_documents(path)))}
        has = f"; it has {', '.join(sorted(there)[:MOST_NAMES])}" if there else ""
        raise LossesError(
            f"{log.file}: no value of {', '.join(missing)}{has}; trainer.losses.keys says what "
            "each skill is called there"
        )
    return found or None


def _last_values(path: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """The last value of each key in one file, by skill."""
    found = {}
    for document in _documents(path):
        for skill, key in keys.items():
            for value in _values(document, key):
                found[skill] = value
    table = path.suffix in DELIMITERS or "tfevents" in path.name
    return found if found or table else _printed(_text(path), keys)


def _documents(path: Path) -> Iterator[Any]:
    """What a file holds: rows of a table, an event's value, JSON whole or by lines.

    A last line of JSON that is cut is left out.
    """
    if "tfevents" in path.name:
        yield from ({tag: value} for tag, value in _events(path))
    elif path.suffix in DELIMITERS:
        rows = csv.DictReader(_text(path).splitlines(), delimiter=DELIMITERS[path.suffix])
        yield from ({k: _number(v) for k, v in row.items()} for row in rows)
    else:
        yield from _json(_text(path))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _names(document: Any, head: str = "") -> Iterator[str]:
    """Dotted paths of the numbers in a document."""
    if isinstance(document, list):
        for item in document:
            yield from _names(item, head)
    elif isinstance(document, dict):
        for name, item in document.items():
            yield from _names(item, f"{head}.{name}" if head else str(name))
    elif isinstance(document, int | float) and head:
        yield head


def _printed(text: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """The last number that follows each key in lines for people, such as ``val loss: 2.31``."""
    found = {
        skill: re.findall(rf"(?<![\w.]){re.escape(key)}{_FOLLOWING}", text)
        for skill, key in keys.items()
    }
    return {skill: float(values[-1]) for skill, values in found.items() if values}


def _number(text: Any) -> Any:
    """A cell's number; None for an empty one, and what it says where that is none."""
    try:
        return float(text) if text else None
    except (ValueError, TypeError):
        return text


def _json(text: str) -> Iterator[Any]:
    """One document, or those of the lines."""
    try:
        yield json.loads(text)
        return
    except ValueError:
        pass
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _values(document: Any, key: str) -> Iterator[Any]:
    """Values of a key, or of a dotted path, wherever they are in a document, in its order."""
    if isinstance(document, list):
        for item in document:
            yield from _values(item, key)
    elif isinstance(document, dict):
        if document.get(key) is not None:
            yield document[key]
        head, _, rest = key.partition(".")
        if rest and head in document:
            yield from _values(document[head], rest)
        for name, item in document.items():
            if isinstance(item, dict | list) and name != head:
                yield from _values(item, key)


def _events(path: Path) -> Iterator[tuple[str, float]]:
    """Tags and values of a TensorBoard event file (TFRecord: length, check, data, check)."""
    from tensorboardX.proto.event_pb2 import Event

    data, place = path.read_bytes(), 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        body = data[place + 12 : place + 12 + length]
        place += length + 16
        if len(body) < length:
            return  # cut: still being written, or its writer was killed
        for value in Event.FromString(body).summary.value:
            if value.HasField("simple_value"):
                yield value.tag, float(value.simple_value)
            elif len(value.tensor.float_val) == 1:  # as TensorFlow 2 writes them
                yield value.tag, float(value.tensor.float_val[0])
            elif len(value.tensor.tensor_content) == 4:
                yield value.tag, float(struct.unpack("<f", value.tensor.tensor_content)[0])
