"""``{names}`` in a command: which there are, and what they come to."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Mapping, Sequence

from trainables.families.checks import did_you_mean

Value = str | int | float

ALWAYS = {
    "directory": "the trial's own, the same at every attempt",
    "trial_id": "identity of the trial", "flops": "its budget", "params": "its size",
    "tokens": "to train on", "seed": "of initial weights and order",
    "mix": "name of its data mix", "gpus": "GPUs of the process, or of each launcher",
    "cpus": "CPU cores of the same", "nodes": "launchers of the trial; 1 without a worker group",
    "node_rank": "which of them this is, from 0", "master_addr": "address of the first",
    "master_port": "a free port there", "python": "the Python that runs isoskill",
}  # fmt: skip
"""Placeholders of every trial; those of sizes, recipe (``{learning_rate}``, ...) and mix shares
(``{share.code}``) come beside them."""


def names_in(argument: str) -> Iterator[str]:
    """The placeholders of one argument.

    Raises:
        ValueError: its braces do not close.
    """
    try:
        parts = list(string.Formatter().parse(argument))
    except ValueError as error:
        raise ValueError(f"{argument!r}: {error}; write {{{{ and }}}} for braces") from None
    for _, name, _, conversion in parts:
        if name is not None:
            if conversion or not name:
                raise ValueError(f"{argument!r}: write a name between the braces, as {{tokens}}")
            yield name


def check(command: Sequence[str], known: Collection[str], *, field: str) -> None:
    """Refuse placeholders that no trial has.

    Raises:
        ValueError: names the placeholder and the nearest there is.
    """
    for argument in command:
        try:
            names = list(names_in(argument))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
        for name in names:
            what = f"{field}: {argument!r}: placeholder {{{name}}}"
            require_known(name, known, what, "; so is every column of a sizes.ladder of yours")


def require_known(name: str, known: Collection[str], what: str, more: str = "") -> None:
    """Raise a ValueError that names the nearest known name unless it is one of them."""
    if name not in known:
        raise ValueError(
            f"{what} is unknown{did_you_mean(name, known)}; known: {', '.join(known)}{more}"
        )


def filled(command: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """A command with every placeholder's value in its place; one without a value is left as it is.

    A value may be formatted as in Python, ``{learning_rate:.2e}``.

    Raises:
        ValueError: a format does not suit its value.
    """
    return [_filled(argument, values) for argument in command]


def _filled(argument: str, values: Mapping[str, Value]) -> str:
    done = ""
    for text, name, form, _ in string.Formatter().parse(argument):
        done += text
        if name is not None and name not in values:
            done += f"{{{name}:{form}}}" if form else f"{{{name}}}"
        elif name is not None:
            try:
                done += format(values[name], form or "")
            except ValueError as error:
                raise ValueError(f"{argument!r}: {error} ({name} is {values[name]!r})") from None
    return done
