"""What a sweep is likely to find, before a FLOP is spent: simulated sweeps, and their inverse.

Legend: the width of a skill on a budget is the half-width of the 90 % interval of its ln p*.

The world that is simulated is a stand-in, or the surfaces and the noise of a pilot sweep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fitting.values import Z90, FloatArray
from sweeper.errors import SpecError
from sweeper.search.build import build
from sweeper.search.history import finished, guess
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

if TYPE_CHECKING:
    from fitting import Fits
    from fitting.mixture.fit import Guarded
    from fitting.synthetic import Truth, World
    from sweeper.spec.spec import Spec

NOISE = 0.02
"""Standard deviation between seeds of a simulated loss, nats: the aggregate's in the demo is .01
to .03 (benchmarks/results/trainables.md); single skills of small models are noisier."""

SURE = 0.9
"""Share of simulated sweeps that must reach the tolerance within the allowance proposed."""

DRAWS = 8
"""Sweeps drawn per allowance looked at (assumption: enough to see the share `SURE`)."""

MARGIN = 1.15
"""Factor on the allowance that just suffices: real searches spend a little on checks and failed
trials that the drawn designs do not (measured by benchmarks/inverse_plan.py)."""

ENDLESS_TRIALS = 1000
"""Trials that stand for any number (assumption: dear enough, and few enough to fit in half a
second)."""

LADDER_STEP = 10.0
"""Factor between the budgets of a longer ladder that is looked at (assumption)."""

LEAST_TRIALS = 12
"""Trials of the smallest design proposed (assumption: an opening and one more)."""


@dataclass(frozen=True)
class Policy:
    """What one way of searching spends and finds in one simulated sweep.

    Attributes:
        name: of the policy.
        table: its observations, as a ledger has them.
        widths: skills by budgets, (S, n); NaN where nothing could be fitted.
        skills: their names.
        budgets: their FLOPs.
        efficiency: FLOPs of the best possible design for the same widths over those spent
            (c-optimal bound); NaN where unknown.
    """

    name: str
    table: pd.DataFrame
    widths: FloatArray
    skills: tuple[str, ...]
    budgets: tuple[float, ...]
    efficiency: float

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial."""
        return self.table.drop_duplicates("trial_id")

    @property
    def flops(self) -> float:
        """Spent in all."""
        return float(self.trials["spent_flops"].sum())


@dataclass(frozen=True)
class Need:
    """The allowance a tolerance needs, or why none does.

    Attributes:
        tolerance: wanted width.
        flops: budgets it is wanted on.
        allowance: FLOPs; NaN where no allowance suffices.
        trials: about so many, by the simulated design.
        floor: width that is left after `ENDLESS_TRIALS` trials on this ladder.
        ladder_top: where none suffices, a largest budget that would do; NaN if none was found.
    """

    tolerance: float
    flops: tuple[float, ...]
    allowance: float
    trials: int
    floor: float
    ladder_top: float = math.nan

    @property
    def possible(self) -> bool:
        """Whether some allowance suffices."""
        return math.isfinite(self.allowance)

    def __str__(self) -> str:
        """The answer in a sentence or two."""
        where = f"{self.flops[-1]:.3g} FLOPs" if len(self.flops) == 1 else "every budget"
        wanted = f"p* at {where} to within x/÷ {math.exp(self.tolerance):.3g}"
        if self.possible:
            return (
                f"{wanted} (90 %, every skill) needs an allowance of {self.allowance:.3g} FLOPs, "
                f"about {self.trials} trials; {ENDLESS_TRIALS} trials on this ladder would "
                f"bring x/÷ {math.exp(self.floor):.3g}."
            )
        higher = (
            f" A ladder up to {self.ladder_top:.3g} FLOPs would do."
            if math.isfinite(self.ladder_top)
            else " No ladder that ends below that budget was found to do."
        )
        return (
            f"{wanted} cannot be had from this ladder: even {ENDLESS_TRIALS} trials leave a "
            f"half-width of {self.floor:.2g} in ln p* (x/÷ {_factor(self.floor)}), the doubt "
            f"whether one law holds there.{higher}"
        )


def world_of(sweep: Spec, pilot: Fits | None = None) -> World:
    """The world to rehearse in: a pilot's surfaces and noise, or a stand-in.

    Raises:
        SpecError: no skill of the pilot has a surface.
    """
    from fitting.synthetic import World, stand_in

    space, settings = sweep.space, sweep.search
    if pilot is None:
        centre = guess(space.budgets[0], settings.tokens_per_param)
        return stand_in(space.budgets[0], centre, skills=len(sweep.measured), noise=NOISE)
    truths = tuple(truth for name in pilot if (truth := _truth(pilot, name)) is not None)
    if not truths:
        raise SpecError("--pilot: no skill of it has a surface to rehearse with; plan without it")
    return World("pilot", truths, bad_share=0.05)


def rehearsed(sweep: Spec, world: World, *, policy: str | None = None, seed: int = 0) -> Policy:
    """One simulated sweep in a world, by the spec's policy or another."""
    from sweeper.search.adaptive import AdaptiveSearch

    settings = replace(sweep.search, policy=policy or sweep.search.policy)  # type: ignore[arg-type]
    search = build(settings, sweep.space, world.skills)
    table = _sweep(sweep, world, settings, seed=seed)
    budgets = sweep.budgets
    efficiency = search.efficiency(table) if isinstance(search, AdaptiveSearch) else math.nan
    return Policy(
        settings.policy, table, _widths(table, budgets, world), world.skills, budgets, efficiency
    )


def needed(sweep: Spec, world: World, *, tolerance: float, at: float | None = None) -> Need:
    """Allowance at which nine simulated sweeps in ten reach a tolerance.

    The design that the search itself chose in one simulated sweep is repeated, with new noise, to
    as many trials as an allowance pays for; how many just suffice is found by bisection.

    Args:
        sweep: the spec; its allowance only sets the size of the design.
        world: see `world_of`.
        tolerance: wanted width of every skill.
        at: budget it is wanted on; every budget of the ladder if None.

    Raises:
        SpecError: tolerance or budget is no positive number.
    """
    for option, value in (("--tolerance", tolerance), ("--at", 1.0 if at is None else at)):
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{option} {value:g}: give a positive number")
    targets = sweep.budgets if at is None else (at,)
    design = _design(sweep, world, tolerance, at)
    floor = _wide(design, world, sweep.budgets, targets, ENDLESS_TRIALS)
    if floor > tolerance:
        top = math.nan if at is None else _ladder_top(sweep, world, tolerance, at)
        return Need(tolerance, targets, math.nan, 0, floor, top)
    low, high = math.log(LEAST_TRIALS), math.log(ENDLESS_TRIALS)
    while high - low > 0.05:
        middle = (low + high) / 2
        width = _wide(design, world, sweep.budgets, targets, round(math.exp(middle)))
        low, high = (low, middle) if width <= tolerance else (middle, high)
    trials = MARGIN * math.exp(high)
    mean = float(design["flops"].mean())
    return Need(tolerance, targets, trials * mean, math.ceil(trials), floor)


def _truth(pilot: Fits, name: str) -> Truth | None:
    from fitting import FitError
    from fitting.decisions.tradeoffs import skill_surface, spread
    from fitting.synthetic import Truth

    surface = skill_surface(pilot[name])
    if not (surface.ok and pilot[name].ok):
        return None
    try:
        noise = spread(pilot[name])
    except FitError:
        return None
    return Truth(name, surface.E, surface.A, surface.alpha, surface.B, surface.beta, noise)


def _sweep(sweep: Spec, world: World, settings: SearchSettings, *, seed: int) -> pd.DataFrame:
    return run(
        build(settings, sweep.space, world.skills),
        sweep.space,
        lambda allocation, rng: world.loss(allocation.params, allocation.tokens, rng),
        skills=world.skills,
        allowance=sweep.allowance,
        seed=seed,
    )


def _widths(table: pd.DataFrame, budgets: Sequence[float], world: World) -> FloatArray:
    """Widths on every budget of a ladder, (S, n), in the world's order of skills."""
    from fitting.mixture.fit import fit_guarded

    found = finished(table)
    if found["trial_id"].nunique() < 5:
        return np.full((len(world.skills), len(budgets)), math.nan)
    fit = fit_guarded(found, ladder=budgets)
    return _in_order(fit, Z90 * fit.log_optimum(budgets)[1], world)


def _in_order(fit: Guarded, values: FloatArray, world: World) -> FloatArray:
    return np.asarray(values[[fit.skills.index(s) for s in world.skills]])


def _design(sweep: Spec, world: World, tolerance: float, at: float | None) -> pd.DataFrame:
    """Trials (flops, params, tokens) that the search chooses in one simulated sweep."""
    settings = replace(sweep.search, policy="adaptive", tolerance=tolerance, target_flops=at)
    table = _sweep(sweep, world, settings, seed=0)
    trials = table[table["status"] == "finished"].drop_duplicates("trial_id")
    return trials[["flops", "params", "tokens"]].reset_index(drop=True)


def _wide(
    design: pd.DataFrame,
    world: World,
    ladder: Sequence[float],
    targets: Sequence[float],
    trials: int,
) -> float:
    """Width of the widest skill after so many trials, at the quantile `SURE` of drawn sweeps."""
    repeats = [design] * math.ceil(trials / len(design))
    places = pd.concat(repeats, ignore_index=True).head(trials)
    widest = [_drawn_width(places, world, ladder, targets, seed) for seed in range(DRAWS)]
    return float(np.quantile(widest, SURE, method="higher"))


def _drawn_width(
    places: pd.DataFrame,
    world: World,
    ladder: Sequence[float],
    targets: Sequence[float],
    seed: int,
) -> float:
    """Width of the widest skill where these trials are measured once."""
    from fitting.mixture.fit import fit_guarded

    rng = np.random.default_rng(seed)
    losses = world.sample(places["params"].to_numpy(), places["tokens"].to_numpy(), rng)
    parts = [
        places.assign(skill=s, loss=row, trial_id=np.arange(len(places)))
        for s, row in zip(world.skills, losses, strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)
    fit = fit_guarded(table[table["loss"].notna()], ladder=ladder)
    return float(Z90 * fit.log_optimum(targets)[1].max())


def _ladder_top(sweep: Spec, world: World, tolerance: float, at: float) -> float:
    """A largest budget, some steps above the present one, from which the tolerance is had."""
    from sweeper.spec.sections import Sizes

    budgets = list(sweep.budgets)
    while budgets[-1] * LADDER_STEP < at * 1.01:
        budgets.append(budgets[-1] * LADDER_STEP)
        wider = replace(
            sweep,
            budgets=tuple(budgets),
            allowance=40 * sum(budgets),
            sizes=Sizes(count=sweep.sizes.count),
        )
        design = _spread_design(wider)
        if _wide(design, world, wider.budgets, (at,), ENDLESS_TRIALS) <= tolerance:
            return budgets[-1]
    return math.nan


def _spread_design(sweep: Spec) -> pd.DataFrame:
    """Seven sizes on every budget, all over the reach."""
    rows = []
    for flops in sweep.budgets:
        centre = guess(flops, sweep.search.tokens_per_param)
        for offset in np.linspace(-sweep.search.reach, sweep.search.reach, 7):
            a = sweep.space.allocation(flops, math.exp(centre + offset))
            rows.append((flops, float(a.params), float(a.tokens)))
    return pd.DataFrame(rows, columns=["flops", "params", "tokens"]).drop_duplicates()


def _factor(width: float) -> str:
    """A width as a factor, in words where it is beyond all use."""
    return f"{math.exp(width):.3g}" if width < math.log(1e6) else "over a million"
