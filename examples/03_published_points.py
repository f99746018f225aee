"""The skills paper's findings from points read off its figures, with the errors it leaves out.

    python examples/03_published_points.py [folder for the figures]

Data: arXiv 2503.10061, Figures 1 to 3, digitised, shipped with `fitting.reference`. Takes seconds,
downloads nothing. Optima are parabolas', as in the paper; how far another method moves them is
said at the end.
"""

import math
import sys
from pathlib import Path

from matplotlib.figure import Figure
from paper_figures import figure_alignment, figure_residuals, figure_shares

from fitting import (
    Observations,
    Optimum,
    PowerLaw,
    Status,
    compare_optima,
    compare_skills,
    composition_range,
    fit_isoflop,
    fit_power_law,
    fit_surface,
    prepare,
)
from fitting.datamix.alignment import aligning_ratio
from fitting.datamix.shares import fit_share_response, slope_difference
from fitting.plots import figure_isoflops
from fitting.reference import (
    LLAMA3_PARAMS,
    LLAMA3_TOKENS,
    mix_optima,
    skills_optima,
    skills_points,
)

SKILLS = ("knowledge", "code")


def main() -> None:
    points = skills_points()
    seen = prepare(points[points["visibility"] != "hidden"])
    optima = {
        skill: [
            fit_isoflop(curve["params"], curve["loss"], flops=budget)
            for budget in seen.budgets
            for curve in [seen.curve(skill, budget)]
        ]
        for skill in SKILLS
    }
    figures: dict[str, Figure] = {}
    for skill in SKILLS:
        law = show_skill(skill, optima[skill])
        figures[f"figure_1_{skill}"] = figure_isoflops(
            seen.of_skill(skill),
            optima[skill],
            law=law,
            aggregate=plotted_aggregate(),
            title=skill,
        )
    print("\nSkill against the aggregate the paper plots (mean log ratio over nine budgets)")
    comparisons = {s: compare_optima(optima[s], plotted_aggregate()) for s in SKILLS}
    for skill, one in comparisons.items():
        print(f"  {skill:10} {one}")
    figures["figure_1c"] = figure_residuals(comparisons)
    print(f"  knowledge over code, paired by trial: {compare_skills(seen, 'knowledge', 'code')}")
    show_aggregate()
    show_composition(seen)
    figures |= show_mixes()
    show_surface(seen)
    save(figures)


def show_skill(skill: str, optima: list[Optimum]) -> PowerLaw:
    """Vertices, and the law through them."""
    crosses = dict(skills_optima()[["flops", f"{skill}_params"]].to_numpy())
    print(f"\n{skill}: optimum by parabola, 90 % interval, plotted cross, bias of the parabola")
    for one in optima:
        low, high = (value / 1e6 for value in one.interval)
        print(
            f"  {one.flops:7.0e}  {one.params / 1e6:6.0f} M  [{low:5.0f}, {high:5.0f}]"
            f"  {crosses[one.flops] / 1e6:6.0f} M  {one.bias:+.1%}"
        )
    law = fit_power_law([o.flops for o in optima], [o.params for o in optima])
    print(f"  {law}")
    return law


def plotted_aggregate() -> list[Optimum]:
    """The paper's black crosses as optima; they are drawn without errors."""
    table = skills_optima()[["flops", "ape_params"]].to_numpy()
    return [Optimum(params, 0.0, Status.OK, math.nan, flops) for flops, params in table]


def show_aggregate() -> None:
    """Llama 3's law as published and as its points give it."""
    print("\nLlama 3's law, unrounded (parabolas through its points)")
    print(f"  {LLAMA3_TOKENS}")
    print(f"  {LLAMA3_PARAMS}")
    print(f"  at 3.8e25 FLOPs: {float(LLAMA3_TOKENS(3.8e25)) / 1e12:.1f} T tokens")
    print(f"  with the rounded (.53, .29) of its text: {0.29 * 3.8e25**0.53 / 1e12:.1f} T tokens")


def show_composition(seen: Observations) -> None:
    """How far the choice of the validation set moves the optimum."""
    print("\nOptimum over all mixtures of the two losses: greatest over least")
    for one in composition_range(seen):
        low, high = (100 * math.expm1(value) for value in one.interval)
        print(f"  {one.flops:7.0e}  +{one.percent:.0f} %  [{low:.0f}, {high:.0f}]")


def show_mixes() -> dict[str, Figure]:
    """Optimum against the share of a class in training, thirteen mixes."""
    table = mix_optima()
    values = {s: (table[f"{s}_share"], table[f"{s}_params"]) for s in SKILLS}
    responses = {s: fit_share_response(*values[s]) for s in SKILLS}
    print(
        "\nChange of ln p* from no documents of the class to nothing else (6e18 FLOPs, 13 mixes)"
    )
    for skill, response in responses.items():
        low, high = response.slope_interval()
        print(f"  {skill:10} {response.slope:+.2f}  [{low:+.2f}, {high:+.2f}]")
    gap = slope_difference(responses["knowledge"], responses["code"])
    print(f"  difference {gap.value:+.2f}, p = {gap.p_value:.2g}")
    ratio = table["code_share"] / table["knowledge_share"]
    optima = {s: table[f"{s}_params"] for s in SKILLS}
    align = aligning_ratio(ratio, optima["code"], optima["knowledge"])
    low, high = align.interval
    print(
        f"  optima meet at code/knowledge = {align.ratio:.1f}  [{low:.1f}, {high:.1f}] (paper 2.1)"
    )
    return {
        "figure_3": figure_shares(responses, values),
        "figure_5a": figure_alignment(ratio, optima, align),
    }


def show_surface(seen: Observations) -> None:
    """The same points through the surface: the method moves optima as much as the skill does."""
    print("\nThe same points by the surface E + A p^-alpha + B t^-beta, p* at 1e20 FLOPs")
    for skill in SKILLS:
        rows = seen.of_skill(skill)
        best = fit_surface(rows["params"], rows["tokens"], rows["loss"]).optimum(1e20)
        low, high = (value / 1e6 for value in best.interval)
        print(f"  {skill:10} {best.params / 1e6:.0f} M  [{low:.0f}, {high:.0f}]")


def save(figures: dict[str, Figure]) -> None:
    """Write the figures where the first argument says, if there is one."""
    if len(sys.argv) < 2:
        return
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    print(f"\n{len(figures)} figures in {folder}")


if __name__ == "__main__":
    main()
