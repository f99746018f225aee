"""The `trainer` section of a spec: what trains in place of our loop. Pure Python."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.families.checks import Strict, fill
from trainables.foreign.placeholders import require_known

AGGREGATE = "validation"
"""The skill of class "aggregate": what every other is compared to."""

PROGRESS_GROUPS = ("tokens", "step", "steps", "loss")
"""Names of groups that a pattern of `Trainer.progress` may have."""


@dataclass(frozen=True)
class Log(Strict):
    """A file that the trainer writes by itself and that holds its losses.

    Attributes:
        file: path or pattern, from the trial's directory; ``**`` stands for any folders. By its
            name it is a TensorBoard event file (``*tfevents*``), CSV, TSV, or else JSON: one
            object, an array, or one object a line; or lines for people, such as ``output.log``,
            where the number counts that follows a key, as in ``val loss: 2.31``.
        keys: skill -> column, tag, or key; a dotted path for a key within keys. A skill that is
            not named is looked up by its own name. The last value counts.
    """

    file: str
    keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainer(Strict):
    """Any command or Python function as the trial (docs/trainers.md is the contract).

    Attributes:
        command: program and arguments, with placeholders; no shell reads them.
        call: ``package.module:function`` instead, called with the trial and its context. With
            neither, trials are launched by hand (`isoskill ask` and ``tell``).
        version: of the trainer, part of a trial's identity: change it with the code.
        skills: skill -> class of documents it belongs to, "aggregate" for ``validation``.
        losses: where losses are read from, if not from ``losses.json``.
        progress: regular expression that lines of the output match as training goes on, with
            groups ``tokens``, or ``step`` (and ``steps``), and ``loss``; without it,
            ``progress.jsonl`` is read.
        evaluate: command that scores a kept checkpoint and writes ``losses.json``.
        granule: tokens come in multiples of this: your sequence, or your batch.
        keep: keep a trial's directory when it has ended, to score it later by ``evaluate``.
        grace_s: seconds between asking the trainer to end and killing it.
        workdir: where commands run and functions are imported from; the current directory where
            left out.
    """

    command: tuple[str, ...] = ()
    call: str = ""
    version: str = ""
    skills: dict[str, str] = field(default_factory=dict)
    losses: Log | None = None
    progress: str = ""
    evaluate: tuple[str, ...] = ()
    granule: int = 1
    keep: bool = False
    grace_s: float = 60.0
    workdir: str = ""

    def __post_init__(self) -> None:
        fill(self, command=tuple(self.command), evaluate=tuple(self.evaluate))
        fill(self, workdir=str(Path(self.workdir).resolve()))
        self._check_source()
        self._check_skills()
        self._check_progress()
        if self.granule < 1:
            raise ValueError(f"trainer.granule={self.granule}: give tokens, 1 or more")
        if not self.grace_s >= 0:
            raise ValueError(f"trainer.grace_s={self.grace_s}: give seconds, 0 or more")

    def _check_source(self) -> None:
        if self.command and self.call:
            raise ValueError("trainer: give command or call, not both")
        if self.call and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.call):
            raise ValueError(f"trainer.call={self.call!r}: write package.module:function")
        if self.call and (self.losses or self.progress):
            raise ValueError(
                "trainer: losses and progress are read from a command; a function returns its "
                "losses and reports by context.report"
            )

    def _check_skills(self) -> None:
        if not self.skills:
            raise ValueError(
                "trainer.skills: name what it measures and the class of each, such as "
                "{code: code, validation: aggregate}"
            )
        for skill, name in self.skills.items():
            if not skill or not name:
                raise ValueError(f"trainer.skills: {{{skill!r}: {name!r}}}: one has no name")
            if (name == "aggregate") != (skill == AGGREGATE):
                raise ValueError(
                    f"trainer.skills.{skill}: {name}: the one skill of class aggregate is called "
                    f"{AGGREGATE}; what your trainer calls it is said by trainer.losses.keys"
                )
        unknown = set(self.losses.keys if self.losses else ()) - set(self.skills)
        if unknown:
            raise ValueError(
                f"trainer.losses.keys: {', '.join(sorted(unknown))} not among trainer.skills "
                f"({', '.join(self.skills)})"
            )

    def _check_progress(self) -> None:
        if not self.progress:
            return
        try:
            groups = set(re.compile(self.progress).groupindex)
        except re.error as error:
            raise ValueError(f"trainer.progress: no regular expression ({error})") from None
        for name in groups:
            require_known(name, PROGRESS_GROUPS, f"trainer.progress: group {name!r}")
        if not groups & {"tokens", "step"}:
            raise ValueError(
                "trainer.progress: name the group that says how far it is, such as "
                r"step (?P<step>\d+)/(?P<steps>\d+) or (?P<tokens>\d+) tokens"
            )

    def identity(self) -> dict[str, Any]:
        """What decides a trial's outcome; the rest may change between runs."""
        own = {name: getattr(self, name) for name in ("call", "version", "granule")}
        return {"command": list(self.command), **own}
