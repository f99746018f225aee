"""What a sweep is likely to find, before a FLOP is spent: simulated sweeps, and their inverse.

Legend: the width of a skill on a budget is the half-width of the 90 % interval of its ln p*.

The world that is simulated is a stand-in, or the surfaces and the noise of a pilot sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fitting import FitError, Fits
from fitting.datamix.joint import fit_mixes
from fitting.decisions.tradeoffs import skill_surface, trial_noise
from fitting.mixture.fit import fit_guarded
from fitting.synthetic import Truth, World, stand_in
from fitting.values import Z90, FloatArray
from sweeper.budget import Allocation
from sweeper.errors import SpecError
from sweeper.search import build
from sweeper.search.history import finished, guess
from sweeper.search.mixes import LEAST_TRIALS as LEAST_TRIALS_OF_MIXES
from sweeper.search.simulation import run
from sweeper.spec.presets import followed
from sweeper.spec.sections import Cluster, Sizes
from sweeper.spec.spec import Spec
from sweeper.text import number, within

NOISE = 0.02
"""Standard deviation between seeds of a simulated loss, nats: the aggregate's in the demo is .01
to .03 (benchmarks/results/trainables.md); single skills of small models are noisier."""

SURE = 0.9
"""Share of simulated sweeps that must reach the tolerance within the allowance proposed."""

DRAWS = 8
"""Sweeps drawn per allowance looked at (assumption: enough to see the share `SURE`)."""

MARGIN = 1.15
"""Factor on the allowance that is just enough: real searches spend a little on checks and failed
trials that the drawn designs do not (measured by benchmarks/inverse_plan.py)."""

ENDLESS_TRIALS = 1000
"""Trials that stand for any number (assumption: expensive enough, and few enough to fit in half a
second)."""

LADDER_STEP = 10.0
"""Factor between the budgets of a longer ladder that is looked at (assumption)."""

LEAST_FITTED = 5
"""Finished trials that a simulated sweep must have to be fitted at all."""

LEAST_TRIALS = 12
"""Trials of the smallest design proposed (assumption: an opening and one more)."""


@dataclass(frozen=True)
class Policy:
    """What one way of searching spends and finds in one simulated sweep.

    Attributes:
        trials: one row each, as a ledger has them.
        widths: skills by budgets, (S, n); NaN where nothing could be fitted.
        skills: their names.
    """

    trials: pd.DataFrame
    widths: FloatArray
    skills: tuple[str, ...]

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
        allowance: FLOPs; NaN where no allowance is enough.
        trials: about this many, by the simulated design.
        floor: width that is left after `ENDLESS_TRIALS` trials on this ladder.
        ladder_top: where none is enough, a largest budget that would do; NaN if none was found.
    """

    tolerance: float
    flops: tuple[float, ...]
    allowance: float
    trials: int
    floor: float
    ladder_top: float = math.nan

    @property
    def possible(self) -> bool:
        """Whether some allowance is enough."""
        return math.isfinite(self.allowance)

    def __str__(self) -> str:
        """The answer in a sentence or two."""
        where = f"{number(self.flops[-1])} FLOPs" if len(self.flops) == 1 else "every budget"
        wanted = f"The best size at {where} to within {within(self.tolerance)}"
        if self.possible:
            more = f"; {ENDLESS_TRIALS} trials on this ladder would bring {within(self.floor)}"
            return (
                f"{wanted} (90 %, every skill) needs an allowance of {number(self.allowance)} "
                f"FLOPs, about {self.trials} trials{more * (self.trials < ENDLESS_TRIALS)}."
            )
        higher = "No ladder that ends below that budget was found to do."
        if math.isfinite(self.ladder_top):
            higher = f"A ladder up to {number(self.ladder_top)} FLOPs would do."
        return (
            f"{wanted} cannot be reached on this ladder: even {ENDLESS_TRIALS} trials leave "
            f"{within(self.floor)}, the doubt whether one law holds there. {higher}"
        )


def world_of(spec: Spec, pilot: Fits | None = None) -> World:
    """The world to simulate in: a pilot's surfaces and noise, or a stand-in.

    Raises:
        SpecError: no skill of the pilot has a surface.
    """
    space, names = spec.space, spec.measured
    if pilot is None:
        centre = guess(space.budgets[0], spec.search.tokens_per_param)
        world = stand_in(space.budgets[0], centre, skills=len(names), noise=NOISE)
        truths = tuple(replace(t, name=n) for t, n in zip(world.truths, names, strict=True))
        return replace(world, truths=truths)
    truths = tuple(truth for name in pilot if (truth := _truth(pilot, name)) is not None)
    if not truths:
        raise SpecError("pilot: no skill of it has a surface to simulate with; plan without it")
    return World("pilot", truths, bad_share=0.05)


def simulate_policy(spec: Spec, world: World, *, policy: str | None = None) -> Policy:
    """One simulated sweep in a world, by the spec's policy or another.

    A world knows no mixes: a sweep over several finds the same optima under each.
    """
    spec = _searching(spec, policy=policy or spec.search.policy)
    table = _simulated(spec, world)
    ended = finished(table)
    if build.compares(spec):
        ended = ended[ended["mix"] == spec.space.mix]
    widths = _mix_widths if len(spec.mixes) > 1 and not build.compares(spec) else _widths
    found = widths(ended, spec, world)
    trials = table.drop_duplicates("trial_id")
    return Policy(trials, np.array(list(found.values())), tuple(found))


def needed(spec: Spec, world: World, *, tolerance: float, at: float | None = None) -> Need:
    """Allowance at which nine simulated sweeps in ten reach a tolerance.

    The design that the search itself chose in one simulated sweep is repeated, with new noise, to
    as many trials as an allowance pays for; how many are just enough is found by bisection.

    Args:
        sweep: the spec; its allowance only sets the size of the design.
        world: see `world_of`.
        tolerance: wanted width of every skill.
        at: budget it is wanted on; every budget of the ladder if None.

    Raises:
        SpecError: tolerance or budget is no positive number.
    """
    for name, value in (("tolerance", tolerance), ("at", 1.0 if at is None else at)):
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name}={value:g}: give a positive number")
    if len(spec.spaces) > 1:
        raise SpecError(
            f"tolerance: which allowance gives it is worked out for one mix, and the spec has "
            f"{len(spec.spaces)}; simulate this allowance instead, or leave mixes and variants out"
        )
    targets = spec.budgets if at is None else (at,)
    design = _design(spec, world, tolerance, at)

    def width(trials: int) -> float:
        return _wide(design, world, spec.budgets, targets, trials)

    floor = width(ENDLESS_TRIALS)
    if floor > tolerance:
        top = math.nan if at is None else _ladder_top(spec, world, tolerance, at)
        return Need(tolerance, targets, math.nan, 0, floor, top)
    low, high = math.log(LEAST_TRIALS), math.log(ENDLESS_TRIALS)
    while high - low > 0.05:
        middle = (low + high) / 2
        enough = width(round(math.exp(middle))) <= tolerance
        low, high = (low, middle) if enough else (middle, high)
    trials = MARGIN * math.exp(high)
    mean = float(design["flops"].mean())
    return Need(tolerance, targets, trials * mean, math.ceil(trials), floor)


def _truth(pilot: Fits, name: str) -> Truth | None:
    surface = skill_surface(pilot[name])
    if not (surface.ok and pilot[name].ok):
        return None
    try:
        noise = trial_noise(pilot[name])
    except FitError:
        return None
    return Truth(name, surface.E, surface.A, surface.alpha, surface.B, surface.beta, noise)


def _searching(spec: Spec, **settings: Any) -> Spec:
    return replace(spec, search=replace(spec.search, **settings))


def _simulated(spec: Spec, world: World) -> pd.DataFrame:
    def loss(allocation: Allocation, rng: np.random.Generator) -> Mapping[str, float]:
        return world.loss(allocation.params, allocation.tokens, rng)

    search, limit = build.policy(spec, world.skills), spec.allowance
    return run(search, spec.space, loss, skills=world.skills, allowance=limit)


def _widths(found: pd.DataFrame, spec: Spec, world: World) -> dict[str, FloatArray]:
    """Widths of every skill on every budget of the ladder, (n,) each."""
    if found["trial_id"].nunique() < LEAST_FITTED:
        return dict.fromkeys(world.skills, np.full(len(spec.budgets), math.nan))
    fit = fit_guarded(found, ladder=spec.budgets)
    widths = Z90 * fit.log_optimum(spec.budgets)[1]
    return {skill: widths[fit.skills.index(skill)] for skill in world.skills}


def _mix_widths(found: pd.DataFrame, spec: Spec, world: World) -> dict[str, FloatArray]:
    """The same under the widest mix, of the skills that follow a class of documents."""
    classes = followed(world.skills, spec.data.classes, data=spec.data)
    found = found[found["skill"].isin(list(classes))]
    if found["trial_id"].nunique() < LEAST_TRIALS_OF_MIXES:
        return dict.fromkeys(classes, np.full(len(spec.budgets), math.nan))
    fits = fit_mixes(found, spec.mix_shares, classes, budgets=spec.budgets)
    return {
        skill: np.array([Z90 * fit.log_optimum(flops)[1].max() for flops in spec.budgets])
        for skill, fit in fits.items()
    }


def _design(spec: Spec, world: World, tolerance: float, at: float | None) -> pd.DataFrame:
    """Trials (flops, params, tokens) that the search chooses in one simulated sweep."""
    spec = _searching(spec, policy="adaptive", tolerance=tolerance, target_flops=at)
    table = _simulated(spec, world)
    trials = table[table["status"] == "finished"].drop_duplicates("trial_id")
    return trials[["flops", "params", "tokens"]].reset_index(drop=True)


def _wide(
    design: pd.DataFrame,
    world: World,
    ladder: Sequence[float],
    targets: Sequence[float],
    trials: int,
) -> float:
    """Width of the widest skill after this many trials, at the quantile `SURE` of drawn sweeps."""
    repeats = [design] * math.ceil(trials / len(design))
    places = pd.concat(repeats, ignore_index=True).head(trials)
    widest = []
    for seed in range(DRAWS):
        drawn = _measured(places, world, np.random.default_rng(seed))
        fit = fit_guarded(drawn, ladder=ladder)
        widest.append(float(Z90 * fit.log_optimum(targets)[1].max()))
    return float(np.quantile(widest, SURE, method="higher"))


def _measured(places: pd.DataFrame, world: World, rng: np.random.Generator) -> pd.DataFrame:
    """Losses of trials (flops, params, tokens) that are trained once each."""
    losses = world.sample(places["params"].to_numpy(), places["tokens"].to_numpy(), rng)
    parts = [
        places.assign(skill=s, loss=row, trial_id=np.arange(len(places)))
        for s, row in zip(world.skills, losses, strict=True)
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["loss"])


def _ladder_top(spec: Spec, world: World, tolerance: float, at: float) -> float:
    """A largest budget, some steps above the present one, from which the tolerance is reached."""
    budgets = list(spec.budgets)
    while budgets[-1] * LADDER_STEP < at * 1.01:
        budgets.append(budgets[-1] * LADDER_STEP)
        try:
            wider = replace(
                spec,
                budgets=tuple(budgets),
                allowance=40 * sum(budgets),
                sizes=Sizes(count=spec.sizes.count),
                cluster=Cluster(device="cpu-core"),  # what it would be trained on is not asked
            )
        except SpecError:  # no such sizes, or no such data: no answer either
            return math.nan
        design = _design_of_reach(wider)
        if _wide(design, world, wider.budgets, (at,), ENDLESS_TRIALS) <= tolerance:
            return budgets[-1]
    return math.nan


def _design_of_reach(spec: Spec) -> pd.DataFrame:
    """Seven sizes on every budget, all over the reach."""
    rows = []
    for flops in spec.budgets:
        centre = guess(flops, spec.search.tokens_per_param)
        for offset in np.linspace(-spec.search.reach, spec.search.reach, 7):
            a = spec.space.allocation(flops, math.exp(centre + offset))
            rows.append((flops, float(a.params), float(a.tokens)))
    return pd.DataFrame(rows, columns=["flops", "params", "tokens"]).drop_duplicates()
