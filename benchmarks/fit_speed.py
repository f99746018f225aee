"""CPU seconds of surface fits and bootstraps beside the published procedures, in one run.

    OMP_NUM_THREADS=1 python benchmarks/fit_speed.py [--points runs.csv] [--write]

Objective: sum of Huber(1e-3) of log residuals, the same for all. Rivals, all warm-started from the
full fit as published (Besiroglu et al. 2024, arXiv 2404.10102): scipy's BFGS with its numerical
gradient, and, harder to beat, with a hand-written gradient; and the package `chinchilla` from
PyPI where it can be imported (install it in an environment of its own). Rivals are timed on a
subset of the same resamplings and scaled up; every table says so. Data: Chinchilla's 240 points
if at hand, else a made-up table of the same size.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import scipy
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

import fitting
from fitting.laws.bootstrap import bootstrap_weights
from fitting.laws.newton import CELLS

Found = TypeVar("Found")
HERE = Path(__file__).parent
CHINCHILLA = HERE.parents[1] / "shared/data/chinchilla-epoch/svg_extracted_data.csv"
DELTA = 1e-3
# Objective values near 1e-3 stop BFGS early; the replication scales them up, and so do we.
SCALE = 1e3


def main() -> None:
    args = parse()
    points = load(args.points)
    rows = [*time_bootstraps(points, args), *time_single_fits(points, args), *time_kyo(points)]
    report = render(rows, points, args)
    print(report)
    if args.write:
        (HERE / "results" / "fit_speed.md").write_text(report + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=Path, default=CHINCHILLA)
    parser.add_argument("--rival-fits", type=int, default=200, help="rival bootstraps timed")
    parser.add_argument("--rival-starts", type=int, default=100, help="of the 4500 starts, timed")
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the table in results/")
    return parser.parse_args()


def load(path: Path) -> pd.DataFrame:
    """Chinchilla's 240 lowest losses, or a table of that size from its surface."""
    if path.exists():
        return fitting.prepare(path).frame.nsmallest(240, "loss").reset_index(drop=True)
    from fitting.reference import CHINCHILLA_REFITTED

    rng = np.random.default_rng(0)
    flops = 10 ** rng.uniform(18.3, 21.5, 240)
    params = 0.1 * flops**0.5 * np.exp(rng.uniform(-1.5, 1.5, 240))
    tokens = flops / (6 * params)
    loss = CHINCHILLA_REFITTED.loss(params, tokens) * np.exp(0.005 * rng.standard_t(3, 240))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def cpu(work: Callable[..., Found], *given: bool) -> tuple[float, Found]:
    """CPU seconds of a call and what it returned."""
    start = time.process_time()
    value = work(*given)
    return time.process_time() - start, value


class Rival:
    """The published objective on one resampling, parameters (a, b, e, alpha, beta)."""

    def __init__(self, points: pd.DataFrame, rows: np.ndarray) -> None:
        self.x = np.log(points["params"].to_numpy()[rows])
        self.y = np.log(points["tokens"].to_numpy()[rows])
        self.ln_loss = np.log(points["loss"].to_numpy()[rows])

    def terms(self, theta: np.ndarray) -> np.ndarray:
        """Logarithms of the three terms, shape (3, n)."""
        a, b, e, alpha, beta = theta
        return np.stack([a - alpha * self.x, b - beta * self.y, np.full_like(self.x, e)])

    def value(self, theta: np.ndarray) -> float:
        """The objective as published: logsumexp, then Huber."""
        residual = self.ln_loss - logsumexp(self.terms(theta), axis=0)
        return float(SCALE * huber(DELTA, residual).sum())

    def value_and_gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The same with its gradient by hand."""
        terms = self.terms(theta)
        top = terms.max(axis=0)
        terms = np.exp(terms - top)
        total = terms.sum(axis=0)
        residual = np.log(total) + top - self.ln_loss
        inner = np.clip(residual, -DELTA, DELTA)
        one, two, three = terms * (inner / total)
        sums = [one.sum(), two.sum(), three.sum(), -one @ self.x, -two @ self.y]
        return float(SCALE * (inner @ (residual - inner / 2))), SCALE * np.array(sums)

    def fit(self, start: np.ndarray, *, gradient: bool) -> np.ndarray:
        """BFGS from a start."""
        function = self.value_and_gradient if gradient else self.value
        return np.asarray(minimize(function, start, method="BFGS", jac=gradient).x)


def time_bootstraps(points: pd.DataFrame, args: argparse.Namespace) -> list[dict[str, object]]:
    columns = [points[c].to_numpy() for c in ("params", "tokens", "loss")]
    fitting.bootstrap_surface(*columns, n=50)  # imports and caches
    ours, draws = cpu(lambda: fitting.bootstrap_surface(*columns, n=args.n, seed=args.seed))
    full = fitting.fit_surface(*columns)
    start = np.array([np.log(full.A), np.log(full.B), np.log(full.E), full.alpha, full.beta])
    counts = bootstrap_weights(len(points), args.n, seed=args.seed)[: args.rival_fits].astype(int)
    samples = [Rival(points, np.repeat(np.arange(len(points)), c)) for c in counts]
    job = f"{args.n} bootstraps"
    table = [row(job, "fitting.bootstrap_surface", ours, ours, spread(draws, samples))]
    for gradient, name in (
        (False, "scipy BFGS, numerical gradient"),
        (True, "scipy BFGS, gradient"),
    ):
        spent, found = cpu(lambda g: [s.fit(start, gradient=g) for s in samples], gradient)
        scaled = spent * args.n / len(samples)
        note = f"{len(samples)} of {args.n} timed; mean objective {mean_value(found, samples):.6f}"
        table.append(row(job, name, scaled, ours, note))
    return table


def spread(draws: pd.DataFrame, samples: list[Rival]) -> str:
    """Standard errors, and the mean objective on the rivals' own resamplings."""
    theta = draws.assign(A=np.log(draws["A"]), B=np.log(draws["B"]), E=np.log(draws["E"]))
    found = theta[["A", "B", "E", "alpha", "beta"]].to_numpy()[: len(samples)]
    errors = ", ".join(f"{c} {draws[c].std():.3g}" for c in draws)
    return f"standard errors {errors}; mean objective {mean_value(found, samples):.6f}"


def mean_value(found: Iterable[np.ndarray], samples: list[Rival]) -> float:
    return float(np.mean([s.value(t) for s, t in zip(samples, found, strict=True)]))


def time_single_fits(points: pd.DataFrame, args: argparse.Namespace) -> list[dict[str, object]]:
    columns = [points[c].to_numpy() for c in ("params", "tokens", "loss")]
    repeats = 20
    ours, fits = cpu(lambda: [fitting.fit_surface(*columns) for _ in range(repeats)])
    ours /= repeats
    objective = f"objective {SCALE * fits[0].objective:.6f}e-3"
    table = [row("one fit", "fitting.fit_surface", ours, ours, objective)]
    # Starts of Hoffmann et al. 2022, appendix D.2: 4500 of them.
    axes = [np.arange(0, 26, 5)] * 2 + [np.arange(-1, 1.5, 0.5)] + [np.arange(0, 2.5, 0.5)] * 2
    starts = np.array(list(itertools.product(*axes)))
    some = np.random.default_rng(args.seed).permutation(len(starts))[: args.rival_starts]
    whole = Rival(points, np.arange(len(points)))
    for gradient, name in ((False, "numerical gradient"), (True, "gradient")):
        spent, found = cpu(lambda g: [whole.fit(s, gradient=g) for s in starts[some]], gradient)
        best = min(whole.value(t) for t in found)
        scaled = spent * len(starts) / len(some)
        note = f"{len(some)} of {len(starts)} timed; best objective of those {best:.6f}e-3"
        table.append(row("one fit", f"scipy BFGS, 4500 starts, {name}", scaled, ours, note))
    return table


def time_kyo(points: pd.DataFrame) -> list[dict[str, object]]:
    """The package `chinchilla` from PyPI, where importable."""
    try:
        from chinchilla import Chinchilla
    except ImportError:
        return []
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        grid = {
            "E": np.linspace(1, 2, 5),
            "a": np.linspace(1, 10, 5),
            "b": np.linspace(1, 10, 5),
            "alpha": np.linspace(0.1, 0.7, 5),
            "beta": np.linspace(0.1, 0.7, 5),
        }
        seeds = {"C": (1e18, 1e21), "N_to_D": (10, 100)}
        model = Chinchilla(folder, param_grid=grid, seed_ranges=seeds, log_level=50)
        frame = points.rename(columns={"params": "N", "tokens": "D"})
        frame["C"] = 6 * frame["N"] * frame["D"]
        model.database.df = frame[["C", "N", "D", "loss"]]
        spent, _ = cpu(lambda: model.fit(parallel=False))
    logs = [np.log(float(v)) for v in (model.A, model.B, model.E)]
    theta = np.array([*logs, float(model.alpha), float(model.beta)])
    value = Rival(points, np.arange(len(points))).value(theta)
    ours, _ = cpu(lambda: fitting.fit_surface(points["params"], points["tokens"], points["loss"]))
    note = f"its own loss, its README's 3125 starts; this objective there {value:.6f}e-3"
    return [row("one fit", "chinchilla (PyPI)", spent, ours, note)]


def row(job: str, who: str, seconds: float, ours: float, note: str) -> dict[str, object]:
    return {"job": job, "who": who, "seconds": seconds, "ratio": seconds / ours, "note": note}


def render(rows: list[dict[str, object]], points: pd.DataFrame, args: argparse.Namespace) -> str:
    lines = [
        f"# Speed of surface fits, {date.today()}",
        "",
        f"`python benchmarks/fit_speed.py --rival-fits {args.rival_fits} "
        f"--rival-starts {args.rival_starts}`, seed {args.seed}, {len(points)} points "
        f"({'Chinchilla' if args.points.exists() else 'made up'}); Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}; "
        f"{CELLS} cells a pass.",
        "CPU seconds of one thread; compare the ratios, not the seconds.",
        "",
        "| job | who | CPU s | ratio | remark |",
        "|---|---|---|---|---|",
    ]
    for r in rows:
        seconds = f"{r['seconds']:.3g}"
        lines.append(f"| {r['job']} | {r['who']} | {seconds} | {r['ratio']:.0f} | {r['note']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
