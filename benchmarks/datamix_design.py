"""Slopes and aligning ratio of the data-mix study: thirteen full grids against the mix search.

    nice -n 15 python benchmarks/datamix_design.py [replicates]     0: only sum up what is kept

Worlds are built from the points of arXiv 2503.10061: optima on the lines through its Figure 3,
each mix off them by the scatter that is left when the vertices' own noise is taken away; skew,
curvature and noise of Figure 1's curves at 6e18 FLOPs; levels of Figure 2. The paper's design is
its sixteen sizes under each of thirteen mixes with a parabola per curve and a line through the
vertices; the mix search spends a share of it and is read by the joint fit. All trials cost 6e18
FLOPs.

In a second family of worlds the optima bend with the share, as the paper's own points allow; the
slope wanted there is that of the line through all thirteen mixes' true optima.

Errors are true errors: against what made the world.
"""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from fitting.datamix.alignment import aligning_ratio
from fitting.datamix.contrast import align
from fitting.datamix.joint import fit_mixes
from fitting.datamix.shares import fit_share_response, optima_by_mix, paper_mixes
from fitting.reference import mix_optima, skills_points
from sweeper.budget import Allocation, Space
from sweeper.search.mixes import MixSearch
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

FLOPS, SKILLS, MIXES = 6e18, ("knowledge", "code"), paper_mixes()
REST = 0.2164
ALIGNED = "aligning mix"
"""Code's part of code and knowledge at which both want one size, in place of the ratio."""

SHARES = (0.2, 0.1)
"""Of the FLOPs of the paper's design, that the search is given."""

# Curvature, residual and vertex error at 6e18 FLOPs, exponents of the surface: the parabolas and
# surfaces through the digitised points (fitting/reference/skills_paper/README.md).
CURVES = {
    "knowledge": (0.139, 0.0119, 0.049, 0.330, 0.287),
    "code": (0.075, 0.0058, 0.073, 0.535, 0.459),
}
# Loss at the vertex against ln share of the own class, through the legends of Figure 2.
LEVELS = {"knowledge": (1.105, -0.021), "code": (0.379, -0.068)}
# Squared share less its line through the thirteen mixes, and how much of it bent worlds have:
# Figure 3's points say -.21 +- .09 for code, -.07 +- .32 for knowledge (its tougher end is taken).
BOWS = {}
for _skill in SKILLS:
    _share = np.array([_mix[_skill] for _mix in MIXES.values()])
    BOWS[_skill] = np.array([1.0, 0.0, 0.0]) - np.append(0.0, np.polyfit(_share, _share**2, 1))
BENDS = {"knowledge": -0.4, "code": -0.21}

CORRELATION = 0.4  # of the two losses' noise in one trial; assumption


@dataclass(frozen=True)
class World:
    """Lines, how they bend, and one draw of what each mix has of its own."""

    lines: dict[str, tuple[float, float]]
    bends: dict[str, float]
    drift: dict[tuple[str, str], float]

    def log_optimum(self, skill: str, share: float) -> float:
        """ln p* of a mix without anything of its own."""
        zero, slope = self.lines[skill]
        return zero + slope * share + self.bends[skill] * float(np.polyval(BOWS[skill], share))

    def loss(self, params: float, mix: str, rng: np.random.Generator) -> dict[str, float]:
        """Measured losses of one trial."""
        shared, found = rng.standard_normal(), {}
        for skill in SKILLS:
            curvature, noise, _, alpha, beta = CURVES[skill]
            share = MIXES[mix][skill]
            u = math.log(params) - self.log_optimum(skill, share) - self.drift[skill, mix]
            level, fall = LEVELS[skill]
            error = math.sqrt(CORRELATION) * shared
            error += math.sqrt(1 - CORRELATION) * rng.standard_normal()
            found[skill] = level + fall * math.log(share) + noise * error
            found[skill] += (
                curvature
                * (beta * math.expm1(-alpha * u) + alpha * math.expm1(beta * u))
                / ((alpha + beta) * alpha * beta)
            )
        return found

    def wanted(self) -> dict[str, float]:
        """The slopes, and code's part of code and knowledge where the curves meet."""
        total = 1 - REST
        meet = brentq(
            lambda s: self.log_optimum("code", s) - self.log_optimum("knowledge", total - s),
            0.0, total,
        )  # fmt: skip
        return {s: self.lines[s][1] for s in SKILLS} | {ALIGNED: meet / total}


def world(seed: int, *, bent: bool = False) -> World:
    table, rng = mix_optima(), np.random.default_rng([seed, 1])
    lines: dict[str, tuple[float, float]] = {}
    drift: dict[tuple[str, str], float] = {}
    for skill in SKILLS:
        line = fit_share_response(table[f"{skill}_share"], table[f"{skill}_params"])
        lines[skill] = (line.intercept, line.slope)
        left = math.sqrt(max(line.scatter**2 - CURVES[skill][2] ** 2, 0.02**2))
        drift |= {(skill, mix): left * float(rng.standard_normal()) for mix in MIXES}
    return World(lines, BENDS if bent else dict.fromkeys(SKILLS, 0.0), drift)


def paper_design(truth: World, seed: int) -> pd.DataFrame:
    points = skills_points()
    sizes = np.sort(points.loc[points["flops"] == FLOPS, "params"].unique())
    rng, rows = np.random.default_rng([seed, 2]), []
    for mix in MIXES:
        for params in sizes:
            losses = truth.loss(float(params), mix, rng)
            head = (f"{mix} {params}", FLOPS, params, FLOPS / 6 / params, mix)
            rows += [(*head, skill, loss) for skill, loss in losses.items()]
    names = ["trial_id", "flops", "params", "tokens", "mix", "skill", "loss"]
    return pd.DataFrame(rows, columns=names)


def mix_search(truth: World, seed: int, trials: int) -> pd.DataFrame:
    sizes = np.geomspace(4e7, 2.5e9, 90).round().astype(int)
    space = Space((FLOPS,), tuple(sizes.tolist()), tuple((6.0 * sizes).tolist()))
    settings = SearchSettings(tolerance=0.02, tokens_per_param=10)
    search = MixSearch(settings, space, MIXES, {s: s for s in SKILLS})

    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        return truth.loss(allocation.params, allocation.mix, rng)

    # A hair more than the budgets sum to, or rounding would cost the last trial.
    allowance = trials * FLOPS * (1 + 1e-9)
    return run(search, space, loss, skills=SKILLS, allowance=allowance, seed=seed)


def by_parabolas(table: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Estimate, low, high of each slope and of the aligning mix, as the paper computes them."""
    optima = optima_by_mix(table, MIXES)
    found, params = {}, {}
    for skill in SKILLS:
        rows = optima[optima["skill"] == skill]
        line = fit_share_response(rows[f"share_{skill}"], rows["params"])
        found[skill] = (line.slope, *line.slope_interval())
        params[skill] = rows["params"].to_numpy()
    ratio = [m["code"] / m["knowledge"] for m in MIXES.values()]
    meet = aligning_ratio(ratio, params["code"], params["knowledge"])
    found[ALIGNED] = _part(meet.ratio, meet.interval)
    return found


def by_joint_fit(table: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    fits = fit_mixes(table, MIXES, {s: s for s in SKILLS})
    found = {}
    for skill in SKILLS:
        slope = fits[skill].slope(FLOPS)
        found[skill] = (slope.value, *slope.interval)
    meet = align(fits["code"], fits["knowledge"], FLOPS, rest=REST)
    found[ALIGNED] = _part(meet.ratio, meet.interval)
    return found


def _part(ratio: float, interval: tuple[float, float]) -> tuple[float, float, float]:
    """Code's part of code and knowledge, r / (1 + r): finite whatever the ratio."""
    low, high = (r / (1 + r) if math.isfinite(r) else 1.0 for r in interval)
    return ratio / (1 + ratio), low, high


def one(seed: int, *, bent: bool) -> list[dict[str, object]]:
    truth = world(seed, bent=bent)
    design = paper_design(truth, seed)
    full = design["trial_id"].nunique()
    arms: dict[str, Callable[[], dict[str, tuple[float, float, float]]]] = {
        "paper's grid, parabolas": lambda: by_parabolas(design),
        "paper's grid, joint fit": lambda: by_joint_fit(design),
    }
    searched = mix_search(truth, seed, int(max(SHARES) * full))
    for share in SHARES:
        # A search stopped earlier is the beginning of the longer one.
        first = searched["trial_id"].drop_duplicates()[: int(share * full)]
        table = searched[searched["trial_id"].isin(first)]
        arms[f"mix search, {share:.0%} of its FLOPs"] = partial(by_joint_fit, table)
    wanted = truth.wanted()
    # The line in ln ratio is another computation than the lines in shares: held to its own truth.
    plain = {s: np.array([truth.log_optimum(s, m[s]) for m in MIXES.values()]) for s in SKILLS}
    ratio = [m["code"] / m["knowledge"] for m in MIXES.values()]
    meet = aligning_ratio(ratio, np.exp(plain["code"]), np.exp(plain["knowledge"])).ratio
    own = meet / (1 + meet)
    rows: list[dict[str, object]] = []
    for arm, read in arms.items():
        for what, (value, low, high) in read().items():
            true = own if what == ALIGNED and "parabolas" in arm else wanted[what]
            rows.append(
                {"world": "bent" if bent else "straight", "seed": seed, "arm": arm,
                 "what": what, "error": value - true, "width": (high - low) / 2,
                 "holds": low <= true <= high}
            )  # fmt: skip
    return rows


def main() -> None:
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    kept = Path(__file__).parent / "results" / "datamix_design.csv"
    start, rows = time.process_time(), []
    for seed in counted(range(replicates), "replicates"):
        for bent in (False, True):
            rows += one(seed, bent=bent)
        pd.DataFrame(rows).to_csv(kept, index=False, float_format="%.5g")
    for name, table in pd.read_csv(kept).groupby("world", sort=False):
        print(f"\n## {str(name).capitalize()} responses\n\n{summary(table)}")
    if replicates:
        print(
            f"\n{time.strftime('%Y-%m-%d')}, {replicates} replicates (seeds 0 to "
            f"{replicates - 1}), {time.process_time() - start:.0f} CPU-s, one thread of "
            f"{platform.machine()}"
        )


def summary(table: pd.DataFrame) -> str:
    lines = [
        "| what | design | rms error | 90 % of errors within | median half-width said "
        "| interval holds | the same, stretched to hold 90 % | no number |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (what, arm), group in table.groupby(["what", "arm"], sort=False):
        known = group["error"].dropna()
        stretch = (group["error"].abs() / group["width"]).quantile(0.9)
        lines.append(
            f"| {what} | {arm} | {math.sqrt((known**2).mean()):.3f} "
            f"| {known.abs().quantile(0.9):.3f} | {group['width'].median():.3f} "
            f"| {group['holds'].mean():.0%} | {stretch * group['width'].median():.3f} "
            f"| {group['error'].isna().mean():.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
