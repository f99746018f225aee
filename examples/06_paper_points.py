"""The skills paper's three studies on the points of its own figures, by its method and by ours.

    python examples/06_paper_points.py [folder for the figures]

Data: arXiv 2503.10061, Figures 1 to 3, digitised, shipped with `fitting.reference`. Half a minute,
downloads nothing. `isoskill study datamix|validation|skills paper` says the same in the console;
here the paper's numbers stand beside ours, and where the guarded method disagrees it is said.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from paper_figures import figure_alignment, figure_mix_curves, figure_residuals, figure_shares

from fitting import Fits, Observations, Optimum, PowerLaw, Status, compare_optima, fit_skills
from fitting.datamix.alignment import aligning_ratio
from fitting.datamix.shares import fit_share_response, slope_difference
from fitting.plots import figure_isoflops
from fitting.reference import mix_optima, mix_points, skills_optima
from sweeper.analysis.studies import source
from sweeper.analysis.studies.figures import figures
from sweeper.analysis.studies.run import analyse

SKILLS = ("knowledge", "code")
METHODS = ("parabola", "guarded", "surface")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    fits = {m: fit_skills(source.paper("skills").table, m) for m in METHODS}
    drawn = {}
    show_optima(fits)
    drawn |= show_residuals(fits)
    show_laws(fits)
    drawn |= show_shares()
    for name in ("datamix", "validation", "skills"):
        study = analyse(name, source.paper(name))
        print(f"\n{name}: {study.source.title}")
        print("\n".join(f"  {line}" for line in study.sentences()))
        drawn |= {f"study_{name}_{d.name}": d.figure for d in figures(study)}
    show_disagreements(fits)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=110)
        print(f"\n{len(drawn)} figures in {folder}")


def crosses(skill: str) -> list[Optimum]:
    """The crosses drawn in Figure 1 as optima; they are drawn without errors."""
    table = skills_optima()[["flops", f"{skill}_params"]].to_numpy()
    return [Optimum(params, 0.0, Status.OK, math.nan, flops) for flops, params in table]


def show_optima(fits: dict[str, Fits]) -> None:
    """Figure 1: every optimum, and how near the parabola comes to the plotted cross."""
    print("Figure 1. Optima in M params; 90 % intervals; last column: guarded over parabola")
    worst = 0.0
    for skill in SKILLS:
        print(f"{skill}: FLOPs, plotted, parabola, guarded, surface")
        for cross in crosses(skill):
            found = {m: fits[m][skill].at(cross.flops) for m in METHODS}
            off = found["parabola"].params / cross.params - 1
            worst = max(worst, abs(off))
            cells = "  ".join(
                f"{o.params / 1e6:5.0f} [{o.interval[0] / 1e6:5.0f}, {o.interval[1] / 1e6:5.0f}]"
                for o in found.values()
            )
            ratio = found["guarded"].params / found["parabola"].params
            print(
                f"  {cross.flops:.0e} {cross.params / 1e6:6.0f} {off:+5.1%}  {cells}  {ratio:.2f}"
            )
    print(f"Largest distance of a parabola from its plotted cross: {worst:.1%}.")


def show_residuals(fits: dict[str, Fits]) -> dict[str, object]:
    """Figure 1c: mean log ratio to the plotted aggregate, which is Llama 3's law."""
    print("\nFigure 1c. Mean of ln(optimum / plotted aggregate) over nine budgets")
    aggregate = crosses("ape")
    drawn: dict[str, object] = {}
    for method, optima in (
        ("plotted crosses", {s: crosses(s) for s in SKILLS}),
        *((m, {s: list(fits[m][s].optima) for s in SKILLS}) for m in METHODS),
    ):
        found = {s: compare_optima(optima[s], aggregate) for s in SKILLS}
        pair = compare_optima(optima["knowledge"], optima["code"])
        print(
            f"  {method:16}"
            + "".join(f"{s} {_log(c.pooled, c.interval())}   " for s, c in found.items())
            + f"knowledge over code x{math.exp(pair.pooled):.2f}"
        )
        if method == "parabola":
            drawn["figure_1c"] = figure_residuals(found)
    seen: Observations = fits["parabola"].observations
    for skill in SKILLS:
        drawn[f"figure_1_{skill}"] = figure_isoflops(
            seen.of_skill(skill), fits["parabola"][skill].optima,
            law=fits["parabola"][skill].law, aggregate=aggregate, title=skill,
        )  # fmt: skip
    return drawn


def _log(value: float, interval: tuple[float, float]) -> str:
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def show_laws(fits: dict[str, Fits]) -> None:
    print("\nExponent b of p* = a C^b (standard error)")
    for method in METHODS:
        laws: dict[str, PowerLaw] = {s: fits[method][s].law for s in SKILLS}
        said = "   ".join(f"{s} {w.exponent:.3f} ({w.exponent_se:.3f})" for s, w in laws.items())
        print(f"  {method:9} {said}")


def show_shares() -> dict[str, object]:
    """Figures 2, 3 and 5a: slopes and where the optima meet, from the plotted optima."""
    table = mix_optima()
    values = {s: (table[f"{s}_share"], table[f"{s}_params"]) for s in SKILLS}
    lines = {s: fit_share_response(*values[s]) for s in SKILLS}
    print("\nFigure 3. Change of ln p* per unit of the own class's share (6e18 FLOPs, 13 mixes)")
    for skill, line in lines.items():
        print(f"  {skill:10} {_log(line.slope, line.slope_interval())}")
    gap = slope_difference(lines["knowledge"], lines["code"])
    print(f"  difference {_log(gap.value, gap.interval)}, p = {gap.p_value:.2g}")
    ratio = (table["code_share"] / table["knowledge_share"]).to_numpy()
    optima = {s: table[f"{s}_params"].to_numpy() for s in SKILLS}
    print(
        "Figure 5a. code/knowledge ratio at which both want one size; the paper prints 2.1, 288 M"
    )
    found = {}
    for curve in ("quadratic", "monotone", "line"):
        one = aligning_ratio(ratio, optima["code"], optima["knowledge"], curve=curve)
        found[curve] = one
        low, high = one.interval
        print(
            f"  {curve:10} {one.ratio:.2f} [{low:.2f}, {high:.2f}] at {one.params / 1e6:.0f} M "
            f"({_CURVES[curve]})"
        )
    away = table["mix"] != "code×20"
    without = aligning_ratio(ratio[away], optima["code"][away], optima["knowledge"][away])
    print(
        f"  Of {len(ratio)} mixes one, code×20 at {ratio.max():.1f}, lies beyond the crossing, "
        f"the next is at {np.sort(ratio)[-2]:.1f}: in between every curve is its own guess. "
        f"Without that mix the lines meet {'inside' if without.within else 'outside'} the ratios "
        f"tried, at {without.ratio:.2f}."
    )
    points = mix_points()
    drawn: dict[str, object] = {
        f"figure_2_{skill}": figure_mix_curves(points[points["skill"] == skill], title=skill)
        for skill in SKILLS
    }
    return drawn | {
        "figure_3": figure_shares(lines, values),
        "figure_5a": figure_alignment(ratio, optima, found["line"]),
    }


_CURVES = {
    "quadratic": "second-order fits of p* in the ratio, as the paper fits everything",
    "monotone": "nearest rising and falling curves, in ln ratio",
    "line": "lines of ln p* in ln ratio, all mixes alike; our default, for its interval",
}


def show_disagreements(fits: dict[str, Fits]) -> None:
    """Where the methods do not say the same of the same points."""
    print("\nWhere the methods disagree")
    for skill in SKILLS:
        ratios = {
            m: np.array([o.params for o in fits[m][skill].optima])
            / np.array([o.params for o in fits["parabola"][skill].optima])
            for m in ("guarded", "surface")
        }
        said = ", ".join(f"{m} {r.min():.2f} to {r.max():.2f}" for m, r in ratios.items())
        print(f"  {skill}: times the parabola's optimum: {said}")
    plotted = [o.params for o in crosses("ape")]
    for method in METHODS:
        above = sum(
            o.interval[0] > a
            for o, a in zip(fits[method]["knowledge"].optima, plotted, strict=True)
        )
        below = sum(
            o.interval[1] < a for o, a in zip(fits[method]["code"].optima, plotted, strict=True)
        )
        print(
            f"  {method}: knowledge clearly above the plotted aggregate on {above} of 9 budgets, "
            f"code clearly below on {below}"
        )


if __name__ == "__main__":
    main()
