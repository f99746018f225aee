"""What a running sweep prints: one line per ended trial, and a bar of the allowance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from sweeper.driver.driver import Start
from sweeper.record.ledger import ENDED, Ledger
from sweeper.spec.spec import AGGREGATE, Spec
from sweeper.text import duration, fitted, number, percent, plural, si

SHOWN_SKILLS = 3
"""Losses on a trial's line, so that it fits a terminal; all are in the report."""


class Progress:
    """Listens to the driver and prints; silent if not wanted."""

    def __init__(
        self,
        sweep: Spec,
        ledger: Ledger,
        dashboard: str,
        wanted: bool,
        left_s: Callable[[], float | None],
    ) -> None:
        self._sweep, self._ledger, self._dashboard = sweep, ledger, dashboard
        self._console = Console(
            quiet=not wanted, highlight=False, soft_wrap=True, markup=False, emoji=False
        )
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            disable=not (wanted and self._console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=sweep.allowance, left="")
        self._count, self._training = 0, 0
        self._left_s = left_s

    def __enter__(self) -> Progress:
        """Greet and start the bar."""
        kept = len(self._ledger.allocations(*ENDED))
        if kept:
            self._console.print(f"going on, with {plural(kept, 'trial')} that ended before")
        if self._dashboard:
            self._console.print(f"Ray dashboard: {self._dashboard}")
        self._count = kept
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def __call__(self, event: str, start: Start, record: Mapping[str, Any]) -> None:
        """Show one start or end of a trial."""
        if event == "progressed":
            return
        self._training += 1 if event == "started" else -1
        if event != "started":
            self._count += event in ENDED
            self._console.print(fitted(self._line(event, start, record)))
        spent, _ = self._ledger.totals()
        self._bar.update(
            self._task,
            completed=spent,
            description=f"{self._training} in training",
            left=self._left(),
        )

    def _line(self, event: str, start: Start, record: Mapping[str, Any]) -> str:
        a = start.allocation
        head = f"[{self._count:>3}] C={number(a.flops)} p={si(a.params):>6} t={si(a.tokens):>6}"
        head += f"  {a.mix}" * (len(self._sweep.spaces) > 1)
        if event != "finished":
            reason = str(record.get("reason", "")).splitlines()
            return f"{head}  {event}: {reason[0] if reason else ''}"
        spent = self._ledger.totals()[0] / self._sweep.allowance
        losses = self._losses(record)
        while True:  # as many losses as the terminal is wide
            parts = f"{head} {record['wall_s']:6.1f} s", *losses, f"{percent(spent):>5} spent"
            line = "  ".join(parts)
            if not losses or not self._console.is_terminal or len(line) <= self._console.width:
                return line
            losses.pop(0)

    def _losses(self, record: Mapping[str, Any]) -> list[str]:
        names = [name for name in self._sweep.measured if name != AGGREGATE][:SHOWN_SKILLS]
        losses = record["losses"]
        pairs = [
            (name, losses[name]["nll"] / losses[name]["tokens"])
            for name in [*names, AGGREGATE]
            if name in losses
        ]
        return [f"{name} {loss:.3f}" for name, loss in pairs]

    def _left(self) -> str:
        seconds = None if self._bar.disable else self._left_s()
        return "" if seconds is None else f"about {duration(seconds, digits=2)} left"
