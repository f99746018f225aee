"""What happened in a sweep: a view of its directory, or of a simulated sweep."""

from __future__ import annotations

import html
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pandas as pd

from sweeper.errors import SpecError, did_you_mean
from sweeper.record.directory import Directory
from sweeper.record.ledger import RETURNED, Ledger
from sweeper.search.protocol import Finished
from sweeper.spec.spec import AGGREGATE, Spec

if TYPE_CHECKING:
    from fitting import Fits

Method = Literal["guarded", "parabola", "surface"]


FITTED = ("trial_id", "flops", "params", "tokens", "seed", "mix", "skill", "loss", "status")
"""Columns of the table that a fit reads; the others would only raise questions."""


class Outcome:
    """Observations of a sweep and what can be concluded from them.

    Attributes:
        sweep: the spec.
        table: one row per (trial, skill); see `sweeper.record.ledger.Ledger.observations`.
        finished: why the search stopped, or None if it has not.
        read: of somebody's table: what was taken from where; "" for a sweep.
    """

    read: str = ""

    def __init__(self, sweep: Spec, table: pd.DataFrame, finished: Finished | None) -> None:
        self.sweep, self.table, self.finished = sweep, table, finished

    @property
    def aggregate(self) -> str | None:
        """The skill others are compared to, if it was measured."""
        return AGGREGATE if AGGREGATE in set(self.table["skill"]) else None

    @property
    def fittable(self) -> bool:
        """Whether any trial of the reference mix has finished with losses."""
        reference = self.table["mix"] == self.sweep.space.mix
        return bool((reference & (self.table["status"] == "finished")).any())

    @property
    def nothing_finished(self) -> str:
        """Why there is nothing to fit, and what to do."""
        trials = self.table.drop_duplicates("trial_id")
        failed = trials[trials["status"] != "finished"]
        if failed.empty:
            return "No trial has finished yet: there is nothing to fit"
        reason = failed["reason"].astype(str).mode().iloc[0] if "reason" in failed else ""
        first = reason.partition("\n")[0][:200]
        return (
            f"No trial has finished: {len(failed)} failed, most of them so: {first!r}. Mend that; "
            "where losses could not be read run the same command again, else start the sweep in "
            "a new directory"
        )

    def fit(self, method: Method = "guarded", *, mix: str | None = None) -> Fits:
        """Fit every skill's optima and law under one mix; see `fitting.fit_skills`.

        Args:
            mix: which one, where the sweep has several; the reference by default.

        Raises:
            TableError: no trial has finished.
            SpecError: no trial has that mix.
        """
        from fitting import TableError, fit_skills

        mixes = list(dict.fromkeys(self.table["mix"]))
        if mix is not None and mix not in mixes:
            near = did_you_mean(mix, mixes)
            raise SpecError(f"mix {mix!r} is unknown{near}; trials have {', '.join(mixes)}")
        if mix is None and not self.fittable:
            raise TableError(self.nothing_finished)
        rows = self.table["mix"] == (mix or self.sweep.space.mix)
        return fit_skills(self.table.loc[rows, list(FITTED)], method=method)


class Record(Outcome):
    """A sweep directory, read.

    Args:
        root: the directory; a sweep may be running in it.

    Attributes:
        by_hand: whether its trials are asked for and launched by somebody else.

    Raises:
        DirectoryError: there is no sweep in it.
    """

    _spec: ClassVar[type[Spec]] = Spec  # what the directory's spec is read as

    def __init__(self, root: str | Path) -> None:
        self.directory = Directory(root).require()
        with Ledger(self.directory.ledger, read_only=True) as ledger:
            finished = ledger.meta("finished")
            self.by_hand = ledger.meta(RETURNED) is not None
            self.trials = ledger.trials()
            self.events = ledger.events()
            table = ledger.observations()
        super().__init__(
            self._spec.load(self.directory.spec),
            table,
            Finished(**json.loads(finished)) if finished else None,
        )

    def __repr__(self) -> str:
        """Name the directory and how far it is."""
        states = self.trials["state"].value_counts().to_dict()
        counts = ", ".join(f"{n} {state}" for state, n in states.items()) or "no trials yet"
        return f"{type(self).__name__}({self.directory.root}: {counts})"

    def questions(self, skill: str | None = None) -> pd.DataFrame:
        """Every single question's loss, for laws of repeated sampling (`fitting.pass_curves`).

        Trials keep them while ``train.keep_questions`` holds; those that did not are not here.

        Args:
            skill: one skill; None for all.

        Returns:
            One row per (trial, skill, question): ``trial_id, flops, params, tokens, seed, mix,
            skill, example, nll`` (nats, summed over the answer), ``target_tokens``.

        Raises:
            SpecError: the skill was not measured, or no trial has kept its questions.
        """
        known = sorted(set(self.table["skill"]))
        if skill is not None and skill not in known:
            near = did_you_mean(skill, known)
            raise SpecError(
                f"skill {skill!r} was not measured{near}; measured: {', '.join(known)}"
            )
        keys = ["trial_id", "flops", "params", "tokens", "seed", "mix"]
        ended = self.trials[self.trials["state"] == "finished"][keys]
        wanted = [("skill", "==", skill)] if skill else None
        parts = [
            pd.read_parquet(path, filters=wanted).assign(trial_id=trial)
            for trial in ended["trial_id"]
            if (path := self.directory.questions(trial)).exists()
        ]
        if not parts:
            raise SpecError(
                f"{self.directory.root}: no finished trial has kept its questions; "
                "train.keep_questions: true keeps them from the start of a sweep"
            )
        return ended.merge(pd.concat(parts), on="trial_id")

    def _repr_html_(self) -> str:
        head = f"<b>{html.escape(repr(self))}</b>"
        return head + (self.fit()._repr_html_() if self.fittable else "")

    @cached_property
    def spent_flops(self) -> float:
        """FLOPs that ended trials cost."""
        return float(self.trials["spent_flops"].sum())

    def overhead_s(self) -> pd.Series:
        """Seconds from a slot's being free to the first training step of its next trial.

        One value per trial but the first of each worker process, which pays for its start.
        """
        timed = self.trials.dropna(subset=["first_step_at", "ended_at"])
        timed = timed.sort_values("first_step_at")
        freed = timed.groupby("worker")["ended_at"].shift()
        waits: pd.Series = (timed["first_step_at"] - freed).dropna()
        return waits
