"""Other people's tables of runs, and where their losses are least by the nearby sizes alone.

Tables: the pools kept beside the checkout (`../shared/data`; what is missing is skipped), and the
skills paper's points. `local_optima` is the truth that fits and searches are judged by: the least
of a robust cubic in ln p through the sizes within a factor e^1.2 of it, with its standard error.

Legend: p = params; losses in the table's unit, logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import fitting
from fitting.reference import skills_points
from fitting.values import Z90, FloatArray

DATA = Path(__file__).parents[2] / "shared/data"
WINDOW = 1.2
CUTS = 5
SHORT = {"summary_df": "", "summary_df_att": "att ", "summary_df_owt2": "owt2 "}

# -- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """One table of runs, with the losses of larger runs of the same recipe where known."""

    name: str
    frame: pd.DataFrame
    beyond: pd.DataFrame | None = None

    @classmethod
    def of(cls, name: str, source: object, beyond: pd.DataFrame | None = None) -> Table:
        """Read as `fitting` reads it."""
        return cls(name, fitting.prepare(source).frame, beyond)

    @property
    def per_param_token(self) -> float:
        """The table's own flops / (params tokens)."""
        return float((self.frame["flops"] / self.frame["params"] / self.frame["tokens"]).median())

    def cuts(self) -> list[float]:
        """Budgets to fit up to: at least three budgets and 15 trials below or on, some above."""
        trials = self.frame.drop_duplicates("trial_id")["budget"]
        budgets = np.sort(trials.unique())
        good = [b for b in budgets[2:] if (trials <= b).sum() >= 15 and budgets[-1] > 2 * b]
        if not good:
            return []
        picked = np.unique(np.linspace(0, len(good) - 1, CUTS).round().astype(int))
        return [float(good[i]) for i in picked]

    def up_to(self, budget: float) -> Table:
        """The part that is fitted."""
        return Table(self.name, self.frame[self.frame["budget"] <= budget])


def tables() -> Iterator[Table]:
    """Every table at hand."""
    pools = DATA / "pools"
    large = pools / "l2l_large.parquet"
    for path in sorted(pools.glob("*.parquet")):
        frame = pd.read_parquet(path).query("flops > 0 and params > 0 and loss > 0")
        if path != large:
            runs = pd.read_parquet(large) if large.exists() else None
            runs = None if runs is None else runs[runs["mix"].isin(frame["mix"].unique())]
            yield Table.of(path.stem, frame, runs)
    points = DATA / "chinchilla-epoch/svg_extracted_data.csv"
    if points.exists():
        yield Table.of("chinchilla", fitting.prepare(points).frame.nsmallest(240, "loss"))
    if (points := DATA / "llama3-isoflop/isoflops_points.csv").exists():
        yield Table.of("llama3", points)
    if (points := DATA / "porian/isoflop_points.csv").exists():
        for (file, setting), rows in pd.read_csv(points).groupby(["file", "setting"]):
            name = f"porian {SHORT.get(str(file), 'tuned ')}{setting}"
            columns = rows.rename(columns={"n": "params", "t": "tokens"})
            yield Table.of(name, columns[["flops", "params", "tokens", "loss"]])
    yield Table.of("skills-paper", skills_points())


# -- the local truth ------------------------------------------------------------------------------


def local_optima(frame: pd.DataFrame) -> pd.DataFrame:
    """Where each skill's loss is least on each budget, by the nearby sizes alone.

    Returns:
        Columns skill, budget, log_params, se, loss, bend (half the curvature there); curves that
        tell it to worse than .1 left out.
    """
    rows = []
    for skill, mine in frame.groupby("skill", sort=False):
        curves = {float(b): _curve(c) for b, c in mine.groupby("budget")}
        first = {b: f for b, c in curves.items() if (f := _cubic(*c, noise=None))}
        if not first:
            continue
        square = {b: float(f.residual @ f.residual) for b, f in first.items()}
        spare = {b: max(len(f.residual) - 4, 0.5) for b, f in first.items()}
        usual = sum(square.values()) / sum(spare.values())
        # A curve of few sizes may fit itself by chance: four residuals' worth of the others.
        noise = {b: math.sqrt((square[b] + 4 * usual) / (spare[b] + 4)) for b in first}
        found = {b: f for b in first if (f := _cubic(*curves[b], noise=noise[b]))}
        # One that chance made too steep claims too small an error: the usual bend counts.
        bend = np.median([f.bend for f in found.values()]) if found else 1.0
        errors = [
            math.hypot(SE_SCALE * f.se * max(f.bend / bend, 1), SE_FLOOR) for f in found.values()
        ]
        unknown = [9.0] * (len(curves) - len(found))
        if np.quantile(errors + unknown, 0.5) < 0.1:  # else those below .1 are so by chance
            each = zip(found.items(), errors, strict=True)
            rows += [
                (skill, b, f.log_params, se, f.loss, f.bend) for (b, f), se in each if se < 0.1
            ]
    return pd.DataFrame(rows, columns=["skill", "budget", "log_params", "se", "loss", "bend"])


@dataclass(frozen=True)
class _Local:
    log_params: float
    se: float
    loss: float
    bend: float
    residual: FloatArray


def _curve(rows: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    return np.log(rows["params"].to_numpy(float)), rows["loss"].to_numpy(float)


SE_SCALE, SE_FLOOR = 1.3, 0.01
"""What the standard error of the cubic is multiplied by, and what is added in quadrature: with
them its errors are as large as said on simulated surfaces (`--calibrate`)."""


def _cubic(x: FloatArray, y: FloatArray, *, noise: float | None) -> _Local | None:
    """Robust cubic within `WINDOW` of its minimum; None without two sizes on either side."""
    at = float(x[np.argmin(y)])
    for _ in range(4):
        u = x - at
        near = np.abs(u) <= WINDOW
        if len(np.unique(x[near])) < 6 or min((u[near] > 0.05).sum(), (u[near] < -0.05).sum()) < 2:
            return None
        design = np.vander(u[near], 4, increasing=True)
        weights, loss = np.ones(len(design)), y[near]
        for _ in range(12):
            gram = np.linalg.pinv(design.T @ (weights[:, None] * design))
            line = gram @ design.T @ (weights * loss)
            rest = loss - design @ line
            scale = noise or 1.48 * float(np.median(np.abs(rest))) + 1e-9
            weights = 5 / (4 + (rest / scale) ** 2)
        step = _minimum(line)
        if not abs(step) <= WINDOW:  # nor where there is none
            return None
        at += step
    sigma = noise or math.sqrt(float((weights * rest) @ rest) / max(len(rest) - 4, 1))
    slope = -np.array([0.0, 1.0, 2 * step, 3 * step**2]) / (2 * line[2] + 6 * line[3] * step)
    se, bend = sigma * math.sqrt(float(slope @ gram @ slope)), float(line[2] + 3 * line[3] * step)
    clipped = np.clip(rest, -3 * scale, 3 * scale)
    return _Local(at, se, float(np.polyval(line[::-1], step)), bend, clipped)


def _minimum(line: FloatArray) -> float:
    """Where a cubic with ascending coefficients has its minimum; nan without one."""
    _, b, c, d = line
    square = c * c - 3 * b * d
    if square <= 0 or (c <= 0 and d == 0):
        return math.nan
    return float(-b / (c + math.sqrt(square)))  # the root with positive curvature


def calibrate(replicates: int = 40) -> str:
    """Errors of the local truth over its standard errors, on simulated surfaces."""
    from worlds import LADDER, world

    place, z = world("fail"), []
    quiet = tuple(replace(t, noise=0.4 * t.noise) for t in place.truths)
    place = replace(place, truths=quiet)  # about the errors of real curves
    for seed in range(replicates):
        rng = np.random.default_rng(seed)
        size = np.array([place.log_optimum("aggregate", c) for c in LADDER])
        sizes = np.exp((size[:, None] + np.linspace(-1.6, 1.6, 12)).ravel())
        table = place.table(np.repeat(LADDER, 12), sizes, rng).dropna()
        for row in local_optima(table.assign(budget=table["flops"])).itertuples():
            z.append((row.log_params - place.log_optimum(row.skill, row.budget)) / row.se)
    inside = np.mean(np.abs(z) < Z90)
    return f"local truth: {len(z)} simulated optima, {inside:.2f} within 1.645 standard errors"


OWN_ERROR, LEAST_TOLD, SKILLS_APART = 0.03, 0.15, 0.02
"""Of exponents: error of each minimum beside its standard error, ln p; standard error from which
an exponent is left out; scatter of the skills in the mean's weights (assumptions)."""


def exponents() -> str:
    """Of each table: straight lines through its skills' local minima, in Markdown.

    Of ln p*(ln C), and, its skills' median, of the ln curvature over decades.
    """
    lines = [
        "| table | skills | mean exponent | scatter | standard error | ln curvature per decade |",
        "|---|---|---|---|---|---|",
    ]
    for table in tables():
        found = []
        for _, at in local_optima(table.frame).groupby("skill"):
            weight = 1 / (at["se"].to_numpy() ** 2 + OWN_ERROR**2)
            x, y = np.log(at["budget"].to_numpy()), at["log_params"].to_numpy()
            x = x - np.average(x, weights=weight)
            power = float(weight @ x**2)
            if len(at) > 2 and power > LEAST_TOLD**-2:
                deeper = np.polyfit(x / math.log(10), np.log(at["bend"]), 1)[0]
                found.append((float(weight @ (x * y)) / power, power**-0.5, deeper))
        if found:
            slope, error, deeper = np.array(found).T
            mean = np.average(slope, weights=1 / (error**2 + SKILLS_APART**2))
            scatter = f"{slope.std(ddof=1):.3f}" if len(slope) > 1 else ""
            line = f"{table.name} | {len(slope)} | {mean:.3f} | {scatter} | {np.median(error):.3f}"
            lines.append(f"| {line} | {np.median(deeper):+.2f} |")
    return "\n".join(lines)
