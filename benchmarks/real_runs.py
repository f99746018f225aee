"""How the fits hold on other people's training runs: optima, forecasts, losses, intervals.

    OMP_NUM_THREADS=1 python benchmarks/real_runs.py [runs.csv ...] [--only NAME ...] [--write]

Tables: the pools kept beside the checkout (`../shared/data`; what is missing is skipped aloud),
the skills paper's points, and any file given. Every table is fitted whole, and again without all
budgets above each of up to five cuts; what lies above is then foretold. Asked are

* the optima of trained budgets against a local truth: the minimum of a robust cubic in ln p
  through the sizes within a factor e^1.2 of it, with its standard error (`local_optima`);
* the optimum, and the loss of every trial within a factor e^1.6 of it, on budgets 3, 5, 10 and 20
  times the largest one fitted; the label is the nearest of these;
* the losses of the published larger runs of the same recipe (l2l_large, 20.7 times).

Beside the guarded fit stand simple rivals: the plain surface (log-Huber), the same on the upper
half of the budgets, a parabola per budget with a power law, the same with local minima, and the
top budget's local minimum times C^.5. `LEFT_OUT` was looked at after every setting was chosen.

Legend: p = params, t = tokens, C = flops; losses in the table's unit, logarithms natural.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

import fitting
from fitting.reference import skills_points
from fitting.values import Z90, FloatArray

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared/data"
LEFT_OUT = ("l2l_proof", "xlstm_llama_ctx2048", "porian att 0", "porian att 1", "porian att 2",
            "porian att 3")  # fmt: skip
"""Named before the first fit was changed: one mix, one isoFLOP pool, one family of settings."""

LABELS = (3, 5, 10, 20)
WINDOW = 1.2
NEAR = 1.6
CUTS = 5
SHORT = {"summary_df": "", "summary_df_att": "att ", "summary_df_owt2": "owt2 "}

Point = Callable[[float], float]
"""ln p*(C)."""

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
        return cls(name, fitting.prepare(source).frame, beyond)  # type: ignore[arg-type]

    @property
    def per_param_token(self) -> float:
        """The table's own flops / (params tokens)."""
        return float((self.frame["flops"] / self.frame["params"] / self.frame["tokens"]).median())

    def cuts(self) -> list[float]:
        """Budgets to fit up to: at least three budgets and 15 trials below or on, some above."""
        trials = self.frame.drop_duplicates("trial_id")["budget"]
        budgets = np.sort(trials.unique())
        good = [b for b in budgets[2:] if (trials <= b).sum() >= 15 and budgets[-1] > 2 * b]
        picked = np.unique(np.linspace(0, len(good) - 1, CUTS).round().astype(int)) if good else []
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
        Columns skill, budget, log_params, se, loss; curves that tell it to worse than .1 left out.
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
            rows += [(skill, b, f.log_params, se, f.loss) for (b, f), se in each if se < 0.1]
    return pd.DataFrame(rows, columns=["skill", "budget", "log_params", "se", "loss"])


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
        if step is None or abs(step) > WINDOW:
            return None
        at += step
    sigma = noise or math.sqrt(float((weights * rest) @ rest) / max(len(rest) - 4, 1))
    slope = -np.array([0.0, 1.0, 2 * step, 3 * step**2]) / (2 * line[2] + 6 * line[3] * step)
    se, bend = sigma * math.sqrt(float(slope @ gram @ slope)), float(line[2] + 3 * line[3] * step)
    clipped = np.clip(rest, -3 * scale, 3 * scale)
    return _Local(at, se, float(np.polyval(line[::-1], step)), bend, clipped)


def _minimum(line: FloatArray) -> float | None:
    """Where a cubic with ascending coefficients has its minimum."""
    _, b, c, d = line
    square = c * c - 3 * b * d
    if square <= 0 or (c <= 0 and d == 0):
        return None
    return float(-b / (c + math.sqrt(square)))  # the root with positive curvature


def calibrate(replicates: int = 40) -> str:
    """Errors of the local truth over its standard errors, on simulated surfaces."""
    from fitting.synthetic import LADDER, world

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


# -- rivals ---------------------------------------------------------------------------------------


def rivals(part: Table, skill: str) -> dict[str, tuple[Point, fitting.Surface | None]]:
    """Simple ways to ln p*(C), and to losses where they have any."""
    rows = part.frame[part.frame["skill"] == skill]
    budgets = np.sort(rows["budget"].unique())
    upper = rows[rows["budget"] >= budgets[len(budgets) // 2]] if len(budgets) > 5 else rows
    out: dict[str, tuple[Point, fitting.Surface | None]] = {}
    for name, some in (("surface", rows), ("upper surface", upper)):
        surface = fitting.fit_surface(
            *(some[c].to_numpy(float) for c in ("params", "tokens", "loss"))
        )
        if surface.ok:
            out[name] = (_surface_line(surface, part.per_param_token), surface)
    curves = [(float(b), c) for b, c in rows.groupby("budget") if c["params"].nunique() >= 4]
    vertices = [fitting.fit_isoflop(c["params"], c["loss"], flops=b) for b, c in curves]
    good = [v for v in vertices if v.ok]
    local = local_optima(rows)
    for name, at, p in (
        ("parabola law", [v.flops for v in good], [math.log(v.params) for v in good]),
        ("local law", list(local["budget"]), list(local["log_params"])),
    ):
        if len(at) >= 2:
            out[name] = (_line(np.log(at), np.array(p)), None)
    if len(local):
        top = local.loc[local["budget"].idxmax()]
        start, size = math.log(top["budget"]), float(top["log_params"])
        out["top x C^.5"] = (lambda c: size + 0.5 * (math.log(c) - start), None)
    return out


def _surface_line(surface: fitting.Surface, k: float) -> Point:
    s = surface
    ratio = math.log(s.alpha * s.A / (s.beta * s.B))
    return lambda c: (ratio + s.beta * math.log(c / k)) / (s.alpha + s.beta)


def _line(x: FloatArray, y: FloatArray) -> Point:
    b, a = np.polyfit(x, y, 1)
    return lambda c: float(a + b * math.log(c))


# -- judging one table ----------------------------------------------------------------------------


def judge(table: Table) -> pd.DataFrame:
    """Every comparison of one table: pool, what, label, method, skill, error, half, se, shown."""
    truth = local_optima(table.frame)
    cases = [_trained(table, truth)]
    cases += [_foretold(table, truth, cut) for cut in table.cuts()]
    if table.beyond is not None and len(table.beyond):
        top = float(table.frame["budget"].max())
        cases.append(_losses(table, table.beyond, "larger runs", lambda _: top))
    found = pd.concat([c for c in cases if len(c)], ignore_index=True)
    return found.assign(pool=table.name)


def _trained(table: Table, truth: pd.DataFrame) -> pd.DataFrame:
    rows = _optima(table, truth, "trained")
    for skill in truth["skill"].unique():
        mine = table.frame[table.frame["skill"] == skill]
        for budget, curve in mine.groupby("budget"):
            found = fitting.fit_isoflop(curve["params"], curve["loss"], flops=float(budget))
            at = truth[(truth["skill"] == skill) & (truth["budget"] == budget)]
            if found.ok and len(at):
                error = math.log(found.params) - float(at["log_params"].iloc[0])
                rows.append(
                    (
                        "optimum",
                        "trained",
                        "parabola",
                        skill,
                        error,
                        Z90 * found.log_params_se,
                        float(at["se"].iloc[0]),
                        True,
                    )
                )
    return _cases(rows)


def _foretold(table: Table, truth: pd.DataFrame, cut: float) -> pd.DataFrame:
    part = table.up_to(cut)
    beyond = truth[truth["budget"] > 2 * cut]
    rows = _cases(_optima(part, beyond, None, top=cut))
    above = table.frame[table.frame["budget"] > 2 * cut]
    if len(truth):
        where = truth.set_index(["skill", "budget"])["log_params"]
        keys = pd.MultiIndex.from_frame(above[["skill", "budget"]])
        away = np.log(above["params"].to_numpy(float)) - where.reindex(keys).to_numpy()
        above = above[np.abs(away) < NEAR] if above["budget"].nunique() < len(above) / 3 else above
    return pd.concat([rows, _losses(part, above, None, lambda _: cut)], ignore_index=True)


def _label(ratio: float) -> str:
    return f"x{min(LABELS, key=lambda k: abs(math.log(ratio / k)))}"


def _optima(part: Table, truth: pd.DataFrame, label: str | None, top: float = math.nan) -> list:  # type: ignore[type-arg]
    rows = []
    fits = fitting.fit_skills(part.frame)
    for skill, mine in truth.groupby("skill", sort=False):
        others = rivals(part, str(skill))
        for at in mine.itertuples():
            name = label or _label(at.budget / top)
            best = fits[skill].at(at.budget)
            error = math.log(best.params) - at.log_params
            ok = math.isfinite(best.params)
            rows.append(
                ("optimum", name, "guarded", skill, error, Z90 * best.log_params_se, at.se, ok)
            )
            for method, (line, _) in others.items():
                error = line(at.budget) - at.log_params
                rows.append(("optimum", name, method, skill, error, math.nan, at.se, True))
    return rows


def _losses(
    part: Table, runs: pd.DataFrame, label: str | None, top: Callable[[str], float]
) -> pd.DataFrame:
    """Relative errors of foretold losses."""
    rows = []
    fits = fitting.fit_skills(part.frame)
    for skill, mine in runs.groupby("skill", sort=False):
        if skill not in fits or not fits[skill].ok:
            continue
        places = [mine[c].to_numpy(float) for c in ("params", "tokens")]
        value, low, high = foretell(fits[skill], *places)
        loss, ratio = mine["loss"].to_numpy(float), mine["flops"].to_numpy(float) / top(str(skill))
        names = [label or _label(r) for r in ratio]
        inside = (high - low) / 2 / loss
        rows += list(
            zip(
                ["loss"] * len(loss),
                names,
                ["guarded"] * len(loss),
                mine["skill"],
                value / loss - 1,
                inside,
                np.zeros(len(loss)),
                np.isfinite(value),
                strict=True,
            )
        )
        for method, (_, surface) in rivals(part, str(skill)).items():
            if surface:
                error = surface.loss(*places) / loss - 1
                rows += [
                    ("loss", n, method, skill, e, math.nan, 0.0, True)
                    for n, e in zip(names, error, strict=True)
                ]
    return _cases(rows)


def foretell(
    fit: fitting.SkillFit, params: FloatArray, tokens: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Losses of a skill with their 90 % intervals."""
    try:
        found = [fit.loss(p, t) for p, t in zip(params, tokens, strict=True)]
    except fitting.FitError:  # withheld: counted as not shown
        nothing = np.full(len(params), math.nan)
        return nothing, nothing, nothing
    low, high = np.array([f.interval for f in found]).T
    return np.array([f.value for f in found]), low, high


COLUMNS = ["what", "label", "method", "skill", "error", "half", "se", "shown"]


def _cases(rows: Sequence[object]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=COLUMNS)
    return found.astype(dict.fromkeys(("error", "half", "se"), float) | {"shown": bool})


# -- the page -------------------------------------------------------------------------------------


def covered(cases: pd.DataFrame) -> pd.Series:
    """Whether each interval, with the truth's own error, holds."""
    return cases["error"].abs() <= np.hypot(cases["half"], Z90 * cases["se"])


def summary(cases: pd.DataFrame) -> pd.DataFrame:
    """One row per label: cases, error of guarded and its coverage, error of each rival."""
    rows = []
    for (what, label), some in cases.groupby(["what", "label"]):
        size = (
            (lambda e: float(np.sqrt(np.nanmean(e**2))))
            if what == "optimum"
            else (lambda e: float(np.nanmedian(np.abs(e))))
        )
        ours = some[some["method"] == "guarded"]
        row = {"what": what, "label": label, "cases": len(ours), "coverage": covered(ours).mean()}
        row["p90"] = float(ours["error"].abs().quantile(0.9))
        row["bias"], row["shown"] = float(ours["error"].median()), float(ours["shown"].mean())
        row |= {str(m): size(c["error"].to_numpy()) for m, c in some.groupby("method")}
        rows.append(row)
    return pd.DataFrame(rows)


def page(cases: pd.DataFrame) -> Iterator[str]:
    """Markdown: by label over all pools, then by pool."""
    left = cases["pool"].isin(LEFT_OUT)
    for title, some in (
        ("Pools that settings were chosen on", cases[~left]),
        ("Pools left out while choosing", cases[left]),
    ):
        if len(some):
            yield f"\n## {title}: {some['pool'].nunique()}\n"
            yield shown(summary(some))
    for pool, some in cases.groupby("pool", sort=False):
        yield f"\n### {pool}\n"
        yield shown(summary(some))


def shown(found: pd.DataFrame) -> str:
    """As a Markdown table; optima in rms of ln p, losses in median relative error, per cent."""
    found = found.sort_values(["what", "label"], key=lambda c: c.map(_order), ascending=True)
    methods = [
        c for c in found if c not in ("what", "label", "cases", "coverage", "shown", "bias", "p90")
    ]
    head = ["what", "cases", "shown", "bias", "90th", "coverage", *methods]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in found.to_dict("records"):
        unit, digits = (1, 3) if row["what"] == "optimum" else (100, 2)
        cells = [f"{row['what']} {row['label']}", f"{row['cases']}", f"{row['shown']:.2f}"]
        cells += [f"{unit * row['bias']:+.{digits}f}", f"{unit * row['p90']:.{digits}f}"]
        cells.append(f"{row['coverage']:.2f}")
        cells += ["" if math.isnan(row[m]) else f"{unit * row[m]:.{digits}f}" for m in methods]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _order(value: object) -> object:
    keys = ["optimum", "loss", "trained", *(f"x{k}" for k in LABELS), "larger runs"]
    return keys.index(value) if value in keys else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="further tables")
    parser.add_argument("--only", nargs="+", help="tables whose name begins so")
    parser.add_argument("--calibrate", action="store_true", help="the local truth's own errors")
    parser.add_argument("--write", action="store_true", help="keep the page in results/")
    parser.add_argument("--cases", type=Path, help="keep every comparison in this Parquet file")
    args = parser.parse_args()
    if args.calibrate:
        print(calibrate())
        return
    started, parts = time.process_time(), []
    given = [Table.of(path.stem, path) for path in args.files]
    for table in [*given, *([] if given else tables())]:
        if not args.only or table.name.startswith(tuple(args.only)):
            parts.append(judge(table))
            print(table.name, f"{time.process_time() - started:.0f} CPU s", flush=True)
    cases = pd.concat(parts, ignore_index=True)
    if args.cases:
        cases.to_parquet(args.cases)
    head = f"# Other people's runs, {date.today()}\n\n`python benchmarks/real_runs.py`; "
    head += f"2 shared CPU cores; {time.process_time() - started:.0f} CPU s."
    text = "\n".join([head, *page(cases)])
    print(text)
    if args.write:
        (HERE / "results/real_runs.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
