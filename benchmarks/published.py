"""Published numbers beside ours, every method printed.

    python benchmarks/published.py [--write]

Reads measured data kept beside the checkout (chinchilla-epoch, llama3-isoflop, porian); what is
missing is skipped aloud. No seeds matter but the Akima draws' (0). The skills paper's own points
are in examples/03_published_points.py.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from akima import akima_optimum

import fitting
from fitting import Optimum, Surface, fit_isoflop, fit_power_law, fit_surface
from fitting.reference import CHINCHILLA_STANDARD_ERRORS, LLAMA3_TOKENS

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
FLAGSHIP = 3.8e25  # FLOPs of Llama 3's largest model
REACH = 1.6  # the search's, `SearchSettings.reach`
PORIAN = {0: 0.834, 1: 0.701, 2: 0.604, 3: 0.571, 4: 0.497}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the tables in results/")
    lines = [f"# Published numbers, {date.today()}", "", "`python benchmarks/published.py`"]
    lines += [*chinchilla(), *llama3(), *porian()]
    print("\n".join(lines))
    if parser.parse_args().write:
        (HERE / "results" / "published.md").write_text("\n".join(lines) + "\n")


def chinchilla() -> Iterator[str]:
    title = "\n## Chinchilla's 240 points (log-Huber, delta 1e-3)\n"
    path = DATA / "chinchilla-epoch" / "svg_extracted_data.csv"
    if not path.exists():
        yield from (title, "data not at hand")
        return
    frame = fitting.prepare(path).frame.nsmallest(240, "loss")
    yield from (title, *constants(frame), *distance(frame))


def constants(frame: pd.DataFrame) -> Iterator[str]:
    columns = [frame[c] for c in ("params", "tokens", "loss")]
    found = fit_surface(*columns)
    draws = fitting.bootstrap_surface(*columns, n=4000, seed=0)
    known = {"E": 1.81722, "A": 477.8, "B": 2143.5, "alpha": 0.34731, "beta": 0.36717}
    yield f"objective {1e3 * found.objective:.6f}e-3, known minimum 1.018274e-3\n"
    yield "| | ours | known | se, 4000 bootstraps | se, Besiroglu et al. |"
    yield "|---|---|---|---|---|"
    for name, value in known.items():
        ours, se = getattr(found, name), draws[name].std()
        published = CHINCHILLA_STANDARD_ERRORS[name]
        yield f"| {name} | {ours:.6g} | {value:g} | {se:.4g} | {published:g} |"


def distance(frame: pd.DataFrame) -> Iterator[str]:
    yield "\n## How far from the optimum Chinchilla's law holds\n"
    columns = ["params", "tokens", "loss"]
    law = fit_surface(*(frame[c] for c in columns)).law()
    away = np.log(frame["params"] / law(frame["flops"]))
    near = frame[away.abs() < REACH]
    found = fit_surface(*(near[c] for c in columns))
    rest = frame["loss"] - found.loss(frame["params"], frame["tokens"])
    yield f"Surface through the {len(near)} runs within {REACH} of ln p*; measured less fitted.\n"
    yield "| ln p - ln p* | runs | mean, nats | root mean square |"
    yield "|---|---|---|---|"
    edges = (-np.inf, -0.8, 0.8, REACH, np.inf)
    for low, high in itertools.pairwise(edges):
        here = rest[(away >= low) & (away < high)]
        rms = np.sqrt((here**2).mean())
        yield f"| {low:g} to {high:g} | {len(here)} | {here.mean():+.4f} | {rms:.4f} |"


def llama3() -> Iterator[str]:
    yield f"\n## Llama 3's 133 points, extrapolated to {FLAGSHIP:g} FLOPs\n"
    path = DATA / "llama3-isoflop" / "isoflops_points.csv"
    if not path.exists():
        yield "data not at hand"
        return
    seen = fitting.prepare(path)
    yield "| method | exponent of tokens | tokens (T) | params (B) | 90 % interval of params (B) |"
    yield "|---|---|---|---|---|"
    curves = [(b, seen.curve("loss", b)) for b in seen.budgets]
    methods: dict[str, Callable[..., Optimum]]
    methods = {"parabola": fit_isoflop, "akima": akima_optimum}
    for name, fit in methods.items():
        optima = [fit(c["params"], c["loss"], flops=b) for b, c in curves]
        yield row(f"{name}, all {len(optima)} budgets", law_of(optima))
        usable = [o for o in optima if o.ok]
        yield row(f"{name}, {len(usable)} budgets with status ok", law_of(usable))
    for kind in ("log-huber", "least-squares"):
        frame = seen.frame
        surface: Surface = fit_surface(
            frame["params"], frame["tokens"], frame["loss"], loss_function=kind
        )
        yield row(f"surface, {kind}", surface.law())
    yield from guarded(seen)
    yield f"\nPrinted in Llama 3's Figure 3: .537, .299; used as reference: {LLAMA3_TOKENS}"


def guarded(seen: fitting.Observations) -> Iterator[str]:
    """The guarded mixture's answer at the flagship."""
    one = fitting.fit_skills(seen.frame)["loss"]
    best, law = one.at(FLAGSHIP), one.law
    low, high = (v / 1e9 for v in best.interval)
    yield (
        f"| guarded mixture | {1 - law.exponent:.3f} | {best.tokens / 1e12:.1f} "
        f"| {best.params / 1e9:.0f} | {low:.0f} to {high:.0f} |"
    )


def law_of(optima: list[Optimum]) -> fitting.PowerLaw:
    return fit_power_law([o.flops for o in optima], [o.params for o in optima])


def row(name: str, law: fitting.PowerLaw) -> str:
    """One line: the law of params read off at the flagship."""
    params = float(law(FLAGSHIP))
    low, high = (float(v) / 1e9 for v in law.interval(FLAGSHIP))
    tokens = FLAGSHIP / (6 * params) / 1e12
    return (
        f"| {name} | {1 - law.exponent:.3f} | {tokens:.1f} | {params / 1e9:.0f} "
        f"| {low:.0f} to {high:.0f} |"
    )


def porian() -> Iterator[str]:
    yield "\n## Porian et al.: exponent of N*(C), RefinedWeb, their five settings\n"
    folder = DATA / "porian"
    if not folder.exists():
        yield "data not at hand"
        return
    points = pd.read_csv(folder / "isoflop_points.csv")
    points = points[points["file"] == "summary_df"]
    yield "| setting | published | akima, unweighted | akima, weighted | parabola | budgets |"
    yield "|---|---|---|---|---|---|"
    for setting, published in PORIAN.items():
        curves = points[points["setting"] == setting].groupby("flops")
        akima = [akima_optimum(c["n"], c["loss"], flops=f) for f, c in curves]
        vertex = [fit_isoflop(c["n"], c["loss"], flops=f) for f, c in curves]
        usable, sure = [o for o in akima if o.ok], [o for o in vertex if o.ok]
        weighted = fit_power_law(
            [o.flops for o in usable],
            [o.params for o in usable],
            se=[o.log_params_se for o in usable],
        )
        yield (
            f"| {setting} | {published} | {law_of(usable).exponent:.3f} | {weighted.exponent:.3f} "
            f"| {law_of(sure).exponent:.3f} | {len(usable)} akima, {len(sure)} parabola, "
            f"of {len(akima)} |"
        )


if __name__ == "__main__":
    main()
