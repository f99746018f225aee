"""`Sweep` and `Results` as their users hold them: a spec and a record, with their verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from sweeper.budget import Allocation
from sweeper.errors import SpecError
from sweeper.record.record import Outcome, Record
from sweeper.search.protocol import Finished, Search
from sweeper.spec.spec import Spec

if TYPE_CHECKING:
    from fitting import Fits, Multipliers, Runs
    from sweeper.driver.by_hand import Asked
    from sweeper.plan.plan import Plan
    from sweeper.tuning.tuned import Tuned


@dataclass(frozen=True)
class Sweep(Spec):  # noqa: D101
    __doc__ = Spec.__doc__  # the fields are described there

    def policy(self, skills: Sequence[str]) -> Search:
        """The search the spec asks for; see `sweeper.search.build.policy`."""
        from sweeper.search.build import policy

        return policy(self, skills)

    def plan(
        self,
        *,
        simulate: bool = False,
        pilot: Record | Fits | None = None,
        tolerance: float | None = None,
        at: float | None = None,
        devices: int | None = None,
    ) -> Plan:
        """What the sweep will do and cost, as a table; no side effects.

        Args:
            simulate: also say what intervals to expect, from one simulated sweep of each policy
                (seconds).
            pilot: a sweep already run, for its speed, its losses and their noise; or the fits of
                a table of runs, for losses and noise.
            tolerance: wanted half-width of the 90 % interval of ln p*: which allowance gives it
                (half a minute).
            at: budget it is wanted on; None for every budget.
            devices: at hand; None to count those of this machine.

        Raises:
            SpecError: tolerance or budget is no positive number, or ``at`` lacks a tolerance.
        """
        from sweeper.plan.estimate import plan

        return plan(
            self, simulate=simulate, pilot=pilot, tolerance=tolerance, at=at, devices=devices
        )

    def run(self, directory: str | Path, *, progress: bool = True) -> Results:
        """Run the sweep on Ray, or go on with one that was interrupted.

        Args:
            directory: where everything the sweep knows is kept.
            progress: print a line for every ended trial.

        Raises:
            DirectoryError: the directory holds another sweep, or another driver holds it.
            ClusterError: no Ray cluster can be reached.
        """
        from sweeper.cluster.run_sweep import run

        run(self, directory, progress=progress, after=lambda: Results(directory).export())
        return Results(directory)

    def tune(self, directory: str | Path, *, progress: bool = True) -> Tuned:
        """Tune hyperparameters on Ray at a few small allocations, or go on with a tuning.

        Args:
            directory: of the sweep; ``tuning.sqlite`` and ``tuned.yaml`` are kept there.
            progress: print a line for every ended trial.

        Returns:
            Laws; ``tuned.sweep`` is this sweep with them in its ``train`` section.

        Raises:
            SpecError: what ``tuning`` asks for cannot be done.
            DirectoryError: another driver holds the directory.
            ClusterError: no Ray cluster can be reached.
        """
        from sweeper.cluster.run_tuning import run
        from sweeper.tuning.points import require_own_loop

        require_own_loop(self)
        return run(self, directory, progress=progress)

    def suggest(self, table: pd.DataFrame | Runs, n: int = 1) -> list[Allocation]:
        """The next trials for runs that others have; `ask` knows what is out in a directory.

        Args:
            table: columns flops, params, tokens, skill, loss; rows without a loss are pending. Or
                what `fitting.read_runs` returns.
            n: how many at most.

        Returns:
            Allocations, on the spec's budgets and sizes; none where no trial would help. The
            allowance is what may be spent on them and on the pending ones.
        """
        from sweeper.search.suggest import next_of

        found = next_of(table, self.policy, self.space, allowance=self.allowance, n=n)
        return [] if isinstance(found, Finished) else [each.allocation for each in found]

    def ask(self, directory: str | Path, n: int = 1) -> list[Asked] | Finished:
        """Reserve the next trials for somebody else to launch, without Ray.

        Args:
            directory: of the sweep, made if absent.
            n: how many at most.

        Returns:
            Trials with their commands; none to wait for those that are out; or `Finished`.

        Raises:
            SpecError: the spec has no trainer section.
            DirectoryError: the directory holds another sweep, or another driver holds it.
        """
        from sweeper.driver.by_hand import ask

        return ask(self, directory, n)

    def tell(
        self,
        directory: str | Path,
        id: str,
        losses: Mapping[str, Any] | None = None,
        *,
        failed: str = "",
        kind: str = "error",
        tokens: float | None = None,
        correct: bool = False,
    ) -> str:
        """Record what became of a trial that was asked for.

        Args:
            directory: of the sweep.
            id: of the trial.
            losses: skill -> nats per token, or sums; NaN for one that diverged; what is no skill
                of the spec is left out. None: those of ``losses.json`` in the trial's directory.
            failed: why there are none, instead.
            kind: of the failure (docs/faults.md): "node-lost", "interrupted" and the like are
                handed out again, "error" is not.
            tokens: it was trained on when it failed.
            correct: replace what was told of it before; the event "reopened" keeps that.

        Returns:
            What it is now: "finished", "diverged", "failed", or "running" to be launched again.

        Raises:
            SpecError: no such trial is out, or a loss of the spec's skills is missing or no loss.
        """
        from sweeper.driver.by_hand import tell

        state = tell(
            self, directory, id, losses, failed=failed, kind=kind, tokens=tokens, correct=correct
        )
        Results(directory).export_table()
        return state

    def simulate(
        self,
        loss_fn: Callable[[Allocation, np.random.Generator], Mapping[str, float]],
        *,
        seed: int = 0,
        slots: int = 1,
    ) -> Outcome:
        """Run the same search and accounting on a loss function, without Ray or torch.

        Args:
            loss_fn: ``loss_fn(allocation, rng) -> {skill: loss}`` in nats; a raised
                `TrialFailed` or a NaN is a failed trial.
            seed: of the generator given to ``loss_fn``.
            slots: trials in training at a time; a trial lasts as long as it costs.

        Returns:
            The observations, why the search stopped, and ``fit()``.
        """
        from sweeper.search.simulation import probe, run

        skills = probe(loss_fn, self.space, seed=seed)
        table = run(
            self.policy(skills), self.space, loss_fn,
            skills=skills, allowance=self.allowance, slots=slots, seed=seed,
        )  # fmt: skip
        return Outcome(self, table, table.attrs["finished"])


class Results(Record):
    """A sweep directory, read, and what can be written from it.

    Args:
        root: the directory; a sweep may be running in it.

    Raises:
        DirectoryError: there is no sweep in it.
    """

    sweep: Sweep
    _spec: ClassVar[type[Spec]] = Sweep

    def export(self) -> None:
        """Write observations.parquet, fits.json and report.html beside the ledger."""
        self.export_table()
        if self.fittable:
            fits = self.fit()
            self.directory.fits.write_text(fits.to_json(), encoding="utf-8")
            self.report(self.directory.report, fits=fits)

    def export_table(self) -> None:
        """Write observations.parquet, from which a lost ledger can be rebuilt."""
        self.table.to_parquet(self.directory.observations, index=False)

    def report(self, path: str | Path, *, fits: Fits | None = None) -> Path:
        """Write the sweep's report as one HTML file and return its path."""
        from sweeper.report.report import write

        return write(self, Path(path), fits or self.fit())

    def compare(self, other: Outcome | None = None, **asked: Any) -> Multipliers:
        """Compute multipliers of another sweep against this one, or of this one's own variants.

        Args:
            other: the variant's sweep; None where this one has variants or mixes of its own, the
                first the reference.
            asked: flops, skills, level, margin, anytime; see `fitting.compare_runs`. For variants
                of its own level and margin are the spec's, as in its report.

        Raises:
            SpecError: there is one variant only, or ``other`` is no sweep's results.
        """
        from sweeper.analysis.variants import compare, of_sweep

        if other is None:
            own = {"level": self.sweep.search.level, "margin": self.sweep.search.margin}
            return compare(of_sweep("", self), **own | asked)
        if not isinstance(other, Outcome):
            raise SpecError(f"compare: give the variant's Results, got {other!r:.60}")
        return compare([*of_sweep("reference", self), *of_sweep("variant", other)], **asked)

    def push_to_hub(self, repository: str, *, private: bool = True) -> str:
        """Upload observations, fits and report to the Hugging Face Hub (`sweeper.report.hub`)."""
        from sweeper.report.hub import push

        return push(self, repository, private=private)
