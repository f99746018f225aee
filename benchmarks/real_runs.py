"""How the fits hold on other people's training runs: optima, forecasts, losses, intervals.

    OMP_NUM_THREADS=1 python benchmarks/real_runs.py [runs.csv ...] [--only NAME ...] [--write]

Tables: those of `public_tables` at hand, and any file given. Every table is fitted whole and again
without all budgets above each of up to five cuts; what lies above is then predicted. Asked are

* the optima of trained budgets against a local truth (`public_tables.local_optima`);
* the optimum, and the loss of every trial within a factor e^1.6 of it, on budgets 3, 5, 10 and 20
  times the largest one fitted, the label is the nearest of these, or beyond 40 times;
* the losses of the published larger runs of the same recipe (l2l_large, 20.7 times).

Beside the guarded fit stand simple rivals: the plain surface (log-Huber), the same on the upper
half of the budgets, a parabola per budget with a power law, the same with local minima, the top
budget's local minimum times C^.5, and where known the published fit (of the whole table). A rival
that has no answer where one is hard (few budgets, no local minimum) is not better for it: beside
each rival's error stands ours on the cases that it answers.
`LEFT_OUT` was looked at after every setting was chosen.

Legend: p = params, t = tokens, C = flops; losses in the table's unit, logarithms natural.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from public_tables import Table, calibrate, exponents, local_optima, tables

import fitting
from fitting.reference import CHINCHILLA_REFITTED, LLAMA3_PARAMS
from fitting.values import Z90, FloatArray

HERE = Path(__file__).parent
LEFT_OUT = ("l2l_proof", "xlstm_llama_ctx2048", "porian att 0", "porian att 1", "porian att 2",
            "porian att 3")  # fmt: skip
"""Named before the first fit was changed: one mix, one isoFLOP pool, one family of settings."""

PAGE = HERE / "results/real_runs.md"
LABELS = (3, 5, 10, 20)
FARTHEST = 40.0
NEAR = 1.6

Point = Callable[[float], float]
"""ln p*(C)."""

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
    if part.name == "chinchilla":
        known = CHINCHILLA_REFITTED
        out["published"] = (_surface_line(known, part.per_param_token), known)
    if part.name == "llama3":
        out["published"] = (lambda c: math.log(float(LLAMA3_PARAMS(c))), None)
    return out


def _surface_line(surface: fitting.Surface, k: float) -> Point:
    s = surface
    ratio = math.log(s.alpha * s.A / (s.beta * s.B))
    return lambda c: (ratio + s.beta * math.log(c / k)) / (s.alpha + s.beta)


def _line(x: FloatArray, y: FloatArray) -> Point:
    b, a = np.polyfit(x, y, 1)
    return lambda c: float(a + b * math.log(c))


# -- judging one table ----------------------------------------------------------------------------


Row = tuple[str, str, str, str, str, float, float, float, bool]
"""what, label, case, method, skill, error, half, se, shown."""


class Part:
    """The trials up to some budget, fitted once by every method."""

    def __init__(self, table: Table, top: float) -> None:
        self.top = top
        self.table = table.up_to(top)
        self.fits = fitting.fit_skills(self.table.frame)
        self.rivals = {skill: rivals(self.table, skill) for skill in self.fits}

    def label(self, flops: float) -> str:
        """How far beyond the part a budget lies."""
        ratio = flops / self.top
        if ratio > FARTHEST:
            return "beyond x40"
        nearest = min(LABELS, key=lambda k: abs(math.log(ratio / k)))
        return f"x{nearest}" if ratio > 1 else "trained"

    def optima(self, truth: pd.DataFrame) -> Iterator[Row]:
        """Errors of ln p*."""
        for at in truth.itertuples():
            best, name = self.fits[at.skill].at(at.budget), self.label(at.budget)
            error, half = math.log(best.params) - at.log_params, Z90 * best.log_params_se
            shown = math.isfinite(best.params)
            case = f"{self.top:.6g} {at.budget:.6g}"
            yield "optimum", name, case, "guarded", at.skill, error, half, at.se, shown
            for method, (line, _) in self.rivals[at.skill].items():
                error = line(at.budget) - at.log_params
                yield "optimum", name, case, method, at.skill, error, math.nan, at.se, True

    def losses(self, runs: pd.DataFrame, label: str = "") -> Iterator[Row]:
        """Relative errors of predicted losses; skills without a fit are left out."""
        for skill, mine in runs.groupby("skill", sort=False):
            if skill not in self.fits or not self.fits[skill].ok:
                continue
            places = [mine[c].to_numpy(float) for c in ("params", "tokens")]
            loss = mine["loss"].to_numpy(float)
            names = [label or self.label(c) for c in mine["flops"]]
            cases = [f"{self.top:.6g} {p:.6g} {t:.6g}" for p, t in zip(*places, strict=True)]
            value, low, high = predict_losses(self.fits[skill], *places)
            errors, halves = value / loss - 1, (high - low) / 2 / loss
            for name, case, error, half in zip(names, cases, errors, halves, strict=True):
                yield "loss", name, case, "guarded", skill, error, half, 0.0, math.isfinite(error)
            for method, (_, surface) in self.rivals[skill].items():
                if surface:
                    off = surface.loss(*places) / loss - 1
                    for name, case, error in zip(names, cases, off, strict=True):
                        yield "loss", name, case, method, skill, error, math.nan, 0.0, True


def judge(table: Table) -> pd.DataFrame:
    """Every comparison of one table, one row each."""
    truth = local_optima(table.frame)
    whole = Part(table, float(table.frame["budget"].max()))
    rows = [*whole.optima(truth), *_parabolas(table, truth)]
    if table.beyond is not None:
        rows += whole.losses(table.beyond, "larger runs")
    for cut in table.cuts():
        part = Part(table, cut)
        rows += part.optima(truth[truth["budget"] > 2 * cut])
        rows += part.losses(_near(table.frame[table.frame["budget"] > 2 * cut], truth))
    return pd.DataFrame(rows, columns=COLUMNS).assign(pool=table.name)


def _parabolas(table: Table, truth: pd.DataFrame) -> Iterator[Row]:
    """Each budget's own parabola against the local truth."""
    for at in truth.itertuples():
        own = (table.frame["skill"] == at.skill) & (table.frame["budget"] == at.budget)
        found = fitting.fit_isoflop(*(table.frame.loc[own, c] for c in ("params", "loss")))
        if found.ok:
            error, half = math.log(found.params) - at.log_params, Z90 * found.log_params_se
            case = f"{table.frame['budget'].max():.6g} {at.budget:.6g}"
            yield "optimum", "trained", case, "parabola", at.skill, error, half, at.se, True


def _near(runs: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Of isoFLOP curves, the trials within `NEAR` of a known optimum."""
    if not len(truth) or runs["budget"].nunique() >= len(runs) / 3:
        return runs
    keys = pd.MultiIndex.from_frame(runs[["skill", "budget"]])
    at = truth.set_index(["skill", "budget"])["log_params"].reindex(keys).to_numpy()
    return runs[np.abs(np.log(runs["params"].to_numpy(float)) - at) < NEAR]


def predict_losses(
    fit: fitting.SkillFit, params: FloatArray, tokens: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Losses of a skill with their 90 % intervals; NaN where none is shown."""
    found = np.full((len(params), 3), math.nan)
    for row, p, t in zip(found, params, tokens, strict=True):
        with contextlib.suppress(fitting.FitError):
            said = fit.loss(p, t)
            row[:] = said.value, *said.interval
    value, low, high = found.T
    return value, low, high


COLUMNS = ["what", "label", "case", "method", "skill", "error", "half", "se", "shown"]


# -- the page -------------------------------------------------------------------------------------


def covered(cases: pd.DataFrame) -> pd.Series:
    """Whether each interval, with the truth's own error, holds."""
    return cases["error"].abs() <= np.hypot(cases["half"], Z90 * cases["se"])


def summary(cases: pd.DataFrame) -> pd.DataFrame:
    """One row per label: cases, error of guarded and its coverage, error of each rival.

    Errors and coverage are of what is shown; a rival's column is (its error, that of guarded on
    the same cases).
    """
    rows = []
    keys = ["pool", "case", "skill"]
    for (what, label), some in cases.groupby(["what", "label"]):
        size = _rms if what == "optimum" else _median
        ours = some[some["method"] == "guarded"]
        row = {"what": what, "label": label, "cases": len(ours)}
        row["coverage"] = covered(ours[ours["shown"]]).mean()
        row["p90"] = float(ours["error"].abs().quantile(0.9))
        row["bias"], row["shown"] = float(ours["error"].median()), float(ours["shown"].mean())
        row["guarded"] = size(ours["error"])
        for method, theirs in some[some["method"] != "guarded"].groupby("method"):
            both = theirs.merge(ours[ours["shown"]], on=keys, suffixes=("", "_ours"))
            row[str(method)] = (size(both["error"]), size(both["error_ours"]))
        rows.append(row)
    return pd.DataFrame(rows)


def _rms(error: pd.Series) -> float:
    return math.sqrt((error**2).mean())  # without NaN: cases that have no number


def _median(error: pd.Series) -> float:
    return float(error.abs().median())


def page(cases: pd.DataFrame) -> Iterator[str]:
    """Markdown: by label over all pools, then by pool."""
    left = cases["pool"].isin(LEFT_OUT)
    for title, some in (
        ("Pools that settings were chosen on", cases[~left]),
        ("Pools left out while choosing", cases[left]),
    ):
        if len(some):
            yield f"\n## {title}: {some['pool'].nunique()}\n"
            yield shown(summary(some[some["method"] != "published"]))
    for pool, some in cases.groupby("pool", sort=False):
        yield f"\n### {pool}\n"
        yield shown(summary(some))


def shown(found: pd.DataFrame) -> str:
    """As a Markdown table; optima in rms of ln p, losses in median relative error, per cent.

    In brackets behind the error of a rival that answers fewer cases: that of guarded on these.
    """
    found = found.sort_values(["what", "label"], key=lambda c: c.map(_order), ascending=True)
    methods = [
        c for c in found if c not in ("what", "label", "cases", "coverage", "shown", "bias", "p90")
    ]
    methods.sort(key=lambda m: (m != "guarded", m))
    head = ["what", "cases", "shown", "bias", "90th", "coverage", *methods]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in found.to_dict("records"):
        unit, digits = (1, 3) if row["what"] == "optimum" else (100, 2)
        cells = [f"{row['what']} {row['label']}", f"{row['cases']}", f"{row['shown']:.2f}"]
        cells += [f"{unit * row['bias']:+.{digits}f}", f"{unit * row['p90']:.{digits}f}"]
        cells.append(f"{row['coverage']:.2f}")
        for m in methods:
            pair = row[m] if isinstance(row[m], tuple) else (row[m],)
            text = [f"{unit * v:.{digits}f}" for v in pair if not math.isnan(v)]
            whole = f"{unit * row['guarded']:.{digits}f}"
            cells.append(f"{text[0]} ({text[1]})" if text[1:] not in ([], [whole]) else text[0]
                         if text else "")  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _order(value: object) -> object:
    keys = ["optimum", "loss", "trained", *(f"x{k}" for k in LABELS), "beyond x40", "larger runs"]
    return keys.index(value) if value in keys else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="further tables")
    parser.add_argument("--only", nargs="+", help="tables whose name begins so")
    parser.add_argument("--calibrate", action="store_true", help="the local truth's own errors")
    parser.add_argument(
        "--exponents", action="store_true", help="and curvatures of the skills, by table"
    )
    parser.add_argument("--write", action="store_true", help="keep the page in results/")
    parser.add_argument("--cases", type=Path, help="keep every comparison in this Parquet file")
    args = parser.parse_args()
    if args.calibrate:
        print(calibrate())
        return
    if args.exponents:
        print(exponents())
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
    text = "\n".join(page(cases))
    print(head, text, sep="\n")
    if args.write:
        reading = re.search(r"^## Reading\n.*?(?=^## )", PAGE.read_text(), flags=re.M | re.S)
        kept = f"\n\n{reading[0].rstrip()}" if reading else ""  # written by hand
        PAGE.write_text(f"{head}{kept}\n{text}\n")


if __name__ == "__main__":
    main()
