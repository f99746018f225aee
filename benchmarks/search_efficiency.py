"""FLOPs each search policy needs to know all skills' optima, in worlds with known answers.

    OMP_NUM_THREADS=1 python benchmarks/search_efficiency.py run --replicates 40 --jobs 2
    python benchmarks/search_efficiency.py report

`run` appends to results/search_efficiency.csv.gz and skips what is there; `report` writes the
tables and the figure, and keeps the section "Reading", which is written by hand. W is FLOPs spent
over those of the usual grid (8 sizes on each of 7 budgets, 1.2e22). Error is the root mean square
of ln p* over the ladder and replicates, of the worst skill unless said otherwise. Each point of
the adaptive search is a sweep of its own with that allowance, as many slots spend a larger one
differently from the start; only W = .1 in worlds other than fail is the first half of a sweep.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from worlds import LADDER, WORLDS, World, world

from fitting.isoflop import fit_isoflop
from fitting.laws.powerlaw import fit_power_law
from fitting.mixture.design import Candidates
from fitting.mixture.fit import fit_guarded
from fitting.mixture.kinds import SURFACE
from fitting.mixture.lack_of_fit import guarded_by, lack_of_fit
from fitting.mixture.member import Component
from fitting.values import Z90, FloatArray
from sweeper.budget import Allocation, Space
from sweeper.search.build import build
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

RESULTS = Path(__file__).parent / "results"
CSV = RESULTS / "search_efficiency.csv.gz"
GRID_FLOPS = 8 * sum(LADDER)
BEYOND = 1e22
TARGETS = np.array([*LADDER, BEYOND])
ALLOWANCES = (0.02, 0.05, 0.1, 0.2)
ELSEWHERE = (0.05, 0.2)
HALF_WAY = 0.1
SIZES = tuple(int(p) for p in np.exp(np.arange(math.log(5e6), math.log(4e10), 0.08)))
SPACE = Space(LADDER, SIZES, tuple(6.0 * p for p in SIZES))
COLUMNS = (
    "world", "policy", "replicate", "step", "spent", "trials", "skill", "ladder_ms", "top_ms",
    "beyond_error", "ladder_cover", "beyond_cover", "alarm", "seconds",
)  # fmt: skip

Estimate = tuple[np.ndarray, np.ndarray, bool]  # ln p* and its standard error (S, 8), alarm


@dataclass(frozen=True)
class Policy:
    """How trials are chosen and what is made of them: one estimator or more, by name."""

    settings: SearchSettings
    estimators: Mapping[str, Callable[[pd.DataFrame, World], Estimate]]
    slots: int = 1
    allowances: tuple[float, ...] = (2.0,)  # of the usual grid's FLOPs; a grid ends by itself
    elsewhere: tuple[float, ...] = (2.0,)  # the same in worlds other than fail


def guarded(table: pd.DataFrame, truth: World) -> Estimate:
    """The mixture, as a report has it."""
    fit = fit_guarded(table, ladder=LADDER)
    checked = lack_of_fit(table, fit)
    fit = guarded_by(checked, fit)
    mean, se = fit.log_optimum(TARGETS)
    order = [fit.skills.index(skill) for skill in truth.skills]
    return mean[order], se[order], checked.alarm


def surface(table: pd.DataFrame, truth: World) -> Estimate:
    """The plain surface (Approach 3) with its own intervals."""
    fit = fit_guarded(table, ladder=LADDER, components=(SURFACE,))
    mean, se = fit.log_optimum(TARGETS)
    order = [fit.skills.index(skill) for skill in truth.skills]
    return mean[order], se[order], False


def parabolas(table: pd.DataFrame, truth: World) -> Estimate:
    """A parabola per budget and a power law through the vertices (Approach 2)."""
    mean = np.full((len(truth.skills), len(TARGETS)), math.nan)
    se = mean.copy()
    for i, skill in enumerate(truth.skills):
        found = []
        for flops, rows in table[table["skill"] == skill].groupby("flops"):
            optimum = fit_isoflop(rows["params"].to_numpy(), rows["loss"].to_numpy())
            if optimum.ok:
                found.append((flops, optimum.params, optimum.log_params_se))
        if len(found) > 1:
            flops, params, errors = np.array(found).T
            law = fit_power_law(flops, params, se=errors)
            mean[i], se[i] = np.log(law(TARGETS)), law.log_se(TARGETS)
    return mean, se, False


def policies() -> dict[str, Policy]:
    """By name; the number after the policy is sizes per budget, slots, or the allowance."""
    both = {" + parabola": parabolas, " + surface": surface}
    found = {}
    for n in (3, 8, 12):
        settings = SearchSettings("grid", sizes_per_budget=n, half_width=1.5)
        found[f"grid {n}"] = Policy(settings, both)
    tpe = SearchSettings("optuna", half_width=1.5)
    gp = SearchSettings("optuna", sampler="gp", half_width=1.5)
    found |= {"tpe 8": Policy(tpe, both), "gp 8": Policy(gp, both)}
    ours, guarded_only = SearchSettings(tolerance=0.03), {"": guarded}
    for q in (1, 4, 16, 64):
        found[f"adaptive q={q}"] = Policy(ours, guarded_only, q, ALLOWANCES, ELSEWHERE)
    far = SearchSettings(tolerance=0.03, reach=3.2)
    found["adaptive q=4, reach 3.2"] = Policy(far, guarded_only, 4, (0.05, 0.2), ())
    for name, ratio in (("small", 25.0), ("large", 1 / 25)):
        wrong = SearchSettings(tolerance=0.03, tokens_per_param=20.0 * ratio)
        label = f"adaptive q=4, guess 5x too {name}"
        found[label] = Policy(wrong, guarded_only, 4, ALLOWANCES, ())
    return found


def simulate(name: str, label: str, replicate: int, allowance: float) -> list[dict[str, object]]:
    """One sweep, evaluated at its end: a row per estimator and skill."""
    begin = time.process_time()
    policy, truth = policies()[label], world(name)
    wanted = np.array([[truth.log_optimum(s, c) for c in TARGETS] for s in truth.skills])

    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        return truth.loss(allocation.params, allocation.tokens, rng)

    table = run(
        build(policy.settings, SPACE, truth.skills), SPACE, loss, skills=truth.skills,
        allowance=allowance * GRID_FLOPS, slots=policy.slots, seed=replicate,
    )  # fmt: skip
    trials = table.drop_duplicates("trial_id")
    spent = trials["spent_flops"].cumsum() / GRID_FLOPS
    steps = [allowance]
    if allowance == ALLOWANCES[-1] and HALF_WAY not in _allowances(policy, name):
        steps.append(HALF_WAY)
    rows: list[dict[str, object]] = []
    for step, (suffix, estimate) in itertools.product(steps, policy.estimators.items()):
        kept = trials["trial_id"][spent <= step * 1.0001]
        part = table[table["trial_id"].isin(kept) & table["loss"].notna()]
        mean, se, alarm = estimate(part, truth)
        about = {"world": name, "policy": label + suffix, "replicate": replicate}
        about |= {"step": f"{step:.4g}", "alarm": int(alarm), "trials": len(kept)}
        about |= {"spent": f"{spent[: len(kept)].iloc[-1]:.4g}"}
        rows += [{**about, **row} for row in scores(truth, mean - wanted, se)]
    seconds = f"{time.process_time() - begin:.2f}"
    return [{**row, "seconds": seconds} for row in rows]


def scores(truth: World, error: np.ndarray, se: np.ndarray) -> Iterator[dict[str, object]]:
    """One row per skill: squared errors and coverage."""
    inside = np.abs(error) <= Z90 * se
    for i, skill in enumerate(truth.skills):
        yield {
            "skill": skill,
            "ladder_ms": f"{np.mean(error[i, :-1] ** 2):.4g}",
            "top_ms": f"{error[i, -2] ** 2:.4g}",
            "beyond_error": f"{error[i, -1]:.4g}",
            "ladder_cover": f"{inside[i, :-1].mean():.3f}",
            "beyond_cover": int(inside[i, -1]),
        }


def run_all(args: argparse.Namespace) -> None:
    """Run what is not in the file yet, replicate by replicate, until the time is up."""
    done = set()
    if CSV.exists():
        old = pd.read_csv(CSV)
        label = old["policy"].str.split(" + ", regex=False).str[0]
        done = set(zip(old["world"], label, old["replicate"], old["step"], strict=True))
    start = time.monotonic()
    jobs = [job for job in _jobs(args) if job not in done]
    with multiprocessing.Pool(args.jobs) as pool:
        for rows in pool.imap_unordered(_simulate, jobs):
            _append(rows)
            if time.monotonic() - start > args.seconds:
                return


def _simulate(job: tuple[str, str, int, float]) -> list[dict[str, object]]:
    return simulate(*job)


def _allowances(policy: Policy, name: str) -> tuple[float, ...]:
    return policy.allowances if name == "fail" else policy.elsewhere


def _jobs(args: argparse.Namespace) -> Iterator[tuple[str, str, int, float]]:
    every = policies()
    for replicate in range(args.replicates):
        for name in args.worlds:
            for label, policy in every.items():
                wanted = label in args.policies or any(
                    label.startswith(p) for p in args.policies if p not in every
                )
                for allowance in _allowances(policy, name) if wanted else ():
                    if args.allowances is None or allowance in args.allowances:
                        yield name, label, replicate, allowance


def _append(rows: list[dict[str, object]]) -> None:
    fresh = not CSV.exists()
    RESULTS.mkdir(exist_ok=True)
    with gzip.open(CSV, "at", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


def limit(name: str = "fail", *, tolerance: float = 0.05, reach: float = 1.6) -> float:
    """W of the c-optimal design for a standard error, if the plain law were known to hold."""
    truth = world(name)
    centres = np.array([[truth.log_optimum(s, c) for c in LADDER] for s in truth.skills])
    grids = [np.linspace(x.min() - reach, x.max() + reach, 25) for x in centres.T]
    log_params, flops = np.concatenate(grids), np.repeat(LADDER, 25)
    places = Candidates(log_params, flops, flops, np.ones(len(flops)))
    exact = truth.expected(np.exp(log_params), flops / 6 / np.exp(log_params))
    table = pd.concat(
        pd.DataFrame(
            {"flops": flops, "params": np.exp(log_params), "skill": skill, "loss": loss}
        ).assign(tokens=lambda t: t["flops"] / 6 / t["params"])
        for skill, loss in zip(truth.skills, exact, strict=True)
    )
    component = fit_guarded(table, components=(SURFACE,)).components[0]
    noise = np.array([t.noise for t in truth.truths])
    flops_needed = bound(
        component, noise, places, targets=LADDER, tolerance=Z90 * tolerance, steps=2000
    )
    return flops_needed / GRID_FLOPS


def bound(
    component: Component,
    noise: FloatArray,
    candidates: Candidates,
    *,
    targets: Sequence[float],
    tolerance: float,
    steps: int,
) -> float:
    """Least FLOPs that give every skill its tolerance if the component were the truth.

    The tolerance holds for the root mean square of a skill's intervals over the targets.

    The minimax c-optimal design of continuous shares (Pronzato and Pazman 2013, chapter 5) by
    multiplicative updates: no rounding to whole trials, known noise, no prior. No search does
    better.

    Args:
        noise: (S,) standard deviation of one loss, nats.
        tolerance: half-width of the 90 % interval of ln p*.
        steps: updates; the result is within a few per cent of its limit after 100.
    """
    rows = component.jacobian(candidates.log_params, candidates.flops)
    own = noise[:, None] * component.blur(candidates.log_params, candidates.flops)
    rows = rows / (own * np.sqrt(candidates.cost))[:, :, None]
    aims = component.target(np.asarray(targets, float))
    shares = np.full(len(candidates), 1.0 / len(candidates))
    weights = np.full(len(aims), 1.0 / len(aims))
    unit = np.eye(rows.shape[2])
    least = np.inf
    for _ in range(steps):
        information = np.einsum("snp,n,snq->spq", rows, shares, rows)
        # What the places cannot tell apart stays (nearly) unknown instead of singular.
        information += 1e-12 * np.einsum("spp->s", information)[:, None, None] * unit
        spread = np.linalg.solve(information, np.swapaxes(aims, 1, 2))
        variance = np.einsum("stp,spt->st", aims, spread).mean(axis=1)
        least = min(least, float(variance.max()))
        teaches = np.einsum("s,snt->n", weights, (rows @ spread) ** 2)
        shares = shares * np.sqrt(teaches)
        shares /= shares.sum()
        weights = weights * np.sqrt(variance)
        weights /= weights.sum()
    return least * (Z90 / tolerance) ** 2


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per world, policy and step."""
    by = ["world", "policy", "step"]
    skills = rows.groupby([*by, "skill"]).agg(
        spent=("spent", "mean"),
        error=("ladder_ms", lambda x: math.sqrt(x.mean())),
        top=("top_ms", lambda x: math.sqrt(x.mean())),
        beyond=("beyond_error", lambda x: math.sqrt((x**2).mean())),
        cover=("ladder_cover", "mean"),
        beyond_cover=("beyond_cover", "mean"),
        alarm=("alarm", "mean"),
        lost=("ladder_ms", lambda x: x.isna().mean()),
        n=("replicate", "nunique"),
        trials=("trials", "mean"),
    )
    return skills.groupby(by).agg(
        W=("spent", "mean"), trials=("trials", "mean"), n=("n", "min"),
        mean=("error", "mean"), worst=("error", "max"), top=("top", "mean"),
        beyond_mean=("beyond", "mean"), beyond=("beyond", "max"), cover=("cover", "mean"),
        beyond_cover=("beyond_cover", "mean"), alarm=("alarm", "mean"), lost=("lost", "mean"),
    ).reset_index()  # fmt: skip


def needed(curve: pd.DataFrame, error: float) -> str:
    """W at which the worst skill's error falls to a value, on a log-log line between points."""
    curve = curve.dropna(subset="worst").sort_values("W")
    if curve.empty:
        return "no fit"
    x, y = np.log(curve["W"].to_numpy()), np.log(curve["worst"].to_numpy())
    y = np.minimum.accumulate(y)
    below = np.flatnonzero(y <= math.log(error))
    if not len(below):
        return f">{curve['W'].max():.2g}"
    if below[0] == 0:
        return f"<{curve['W'].min():.2g}"
    j = below[0]
    share = (y[j - 1] - math.log(error)) / (y[j - 1] - y[j])
    return f"{math.exp(x[j - 1] + share * (x[j] - x[j - 1])):.3f}"


def report(args: argparse.Namespace) -> None:
    """Write the tables and the figure from what has been run."""
    rows = pd.read_csv(CSV)
    table = summary(rows)
    curves = table.assign(family=table["policy"].str.replace(r"grid \d+", "grid n", regex=True))
    text = [
        "# FLOPs needed by each search policy", "",
        f"Written {date.today()} by `python benchmarks/search_efficiency.py run`, then `report`; "
        "seeds are the replicates' numbers.", "",
        *_needed_table(curves), "", *_errors_table(table), "", *_alarm_table(table), "",
        *_bound_lines(curves), "",
    ]  # fmt: skip
    page = RESULTS / "search_efficiency.md"
    reading = page.read_text().partition("## Reading")[1:] if page.exists() else ()
    page.write_text("\n".join(text) + "\n" + "".join(reading))
    _figure(curves)
    print("\n".join(text))


def _needed_table(curves: pd.DataFrame) -> list[str]:
    lines = [
        "## W for 5 % and 10 % error of the worst skill on the ladder", "",
        "| world | policy | 5 % | 10 % | replicates |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for (name, family), curve in curves.groupby(["world", "family"], sort=False):
        if "reach" not in family:  # two allowances only
            lines.append(
                f"| {name} | {family} | {needed(curve, 0.05)} | {needed(curve, 0.1)} "
                f"| {curve['n'].min()} |"
            )
    return lines


def _errors_table(table: pd.DataFrame) -> list[str]:
    lines = [
        "## Errors and coverage", "",
        "Ladder: mean / worst skill; 1e21: mean of skills at the top budget; 1e22: one decade "
        "beyond. Coverage of nominal 90 % intervals.", "",
        "| world | policy | W | trials | ladder | 1e21 | 1e22 | cover | cover 1e22 | alarms | n |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    shown = table[~table["step"].isin([0.01, 0.015, 0.03])]
    for r in shown.itertuples():
        lines.append(
            f"| {r.world} | {r.policy} | {r.W:.3f} | {r.trials:.0f} "
            f"| {r.mean:.3f} / {r.worst:.3f} | {r.top:.3f} "
            f"| {r.beyond_mean:.3f} / {r.beyond:.3f} | {r.cover:.2f} "
            f"| {r.beyond_cover:.2f} | {r.alarm:.2f} | {r.n} |"
        )
    return lines


def _alarm_table(table: pd.DataFrame) -> list[str]:
    last = table[(table["step"] == 0.2) & table["policy"].str.match(r"adaptive q=\d+$")]
    wide = last.pivot(index="world", columns="policy", values="alarm").reindex(list(WORLDS))
    lines = ["## Share of sweeps that end with an alarm, W = .2", ""]
    lines += ["| world | " + " | ".join(wide.columns) + " |", "|---" * (wide.shape[1] + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{v:.2f}" for v in row) + " |"
        for name, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return lines


def _bound_lines(curves: pd.DataFrame) -> list[str]:
    least = limit()
    fail = curves[curves["world"] == "fail"]
    lines = ["## Against the information limit, world fail, 5 % error of the worst skill", ""]
    lines.append(
        f"c-optimal design of the true law, range 1.6 beyond the optima: W = {least:.4f}."
    )
    for family, curve in fail.groupby("family", sort=False):
        w = needed(curve, 0.05)
        if w[0] not in "<>":
            lines.append(f"* {family}: {least / float(w):.0%}")
    return lines


def _figure(curves: pd.DataFrame) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharex=True, sharey=True)
    families = [
        "grid n + parabola", "grid n + surface", "tpe 8 + parabola", "gp 8 + parabola",
        "adaptive q=1", "adaptive q=16",
    ]  # fmt: skip
    for axis, name in zip(axes.flat, WORLDS, strict=False):
        for family in families:
            curve = curves[(curves["world"] == name) & (curves["family"] == family)]
            axis.plot(*curve.sort_values("W")[["W", "worst"]].to_numpy().T, ".-", label=family)
        axis.set(title=name, xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[1, 0].set(xlabel="FLOPs / those of the usual grid", ylabel="error of ln p*, worst skill")
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    figure.tight_layout()
    figure.savefig(RESULTS / "search_efficiency.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run", help="simulate what is missing")
    runner.add_argument("--replicates", type=int, default=40)
    runner.add_argument("--worlds", nargs="*", default=list(WORLDS))
    runner.add_argument("--policies", nargs="*", default=["grid", "tpe", "gp", "adaptive"])
    runner.add_argument("--allowances", nargs="*", type=float, help="W, of those of each policy")
    runner.add_argument("--jobs", type=int, default=1, help="sweeps at a time")
    runner.add_argument("--seconds", type=float, default=math.inf, help="stop after this long")
    runner.set_defaults(do=run_all)
    commands.add_parser("report", help="tables and figure").set_defaults(do=report)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
