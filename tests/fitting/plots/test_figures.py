from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from examples import paper_figures as paper
from fitting import plots
from fitting.compare.optima import compare_optima
from fitting.datamix.alignment import aligning_ratio
from fitting.datamix.shares import fit_share_response
from fitting.errors import Status
from fitting.isoflop import fit_isoflop
from fitting.laws.powerlaw import PowerLaw, fit_power_law
from fitting.laws.surface import Surface
from fitting.plots.drawing import LINE, few, light_to_dark, literal, one_panel, save
from fitting.reading.observations import prepare
from fitting.reference import LLAMA3_PARAMS, mix_optima, mix_points, skills_optima, skills_points
from fitting.values import Optimum


@dataclass
class Fit:
    optima: list[Optimum]
    law: PowerLaw
    observations: pd.DataFrame


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    frame = prepare(skills_points()).frame
    found = {}
    for skill, rows in frame.groupby("skill"):
        optima = [
            fit_isoflop(curve["params"], curve["loss"], flops=float(budget))
            for budget, curve in rows.groupby("budget")
        ]
        law = fit_power_law([o.flops for o in optima], [o.params for o in optima])
        found[str(skill)] = Fit(optima, law, rows)
    return found


def test_long_names_keep_what_tells_them_apart() -> None:
    names = [f"MMLU professional medicine, five-shot, variant {i}" for i in (1, 2)]
    shown = [literal(name) for name in names]
    assert len(set(shown)) == 2 and {len(name) for name in shown} == {LINE}
    assert literal("code") == "code" and literal("x" * LINE) == "x" * LINE


@pytest.mark.parametrize(("ending", "told"), [(".png", True), (".svg", False)])
def test_names_beyond_the_fonts_are_told_or_kept(tmp_path: Path, ending: str, told: bool) -> None:
    figure, axes = one_panel(3, 2)
    axes.set_title("\U00013000")  # a hieroglyph, which matplotlib's own fonts lack
    path = tmp_path / f"figure{ending}"
    assert ("drawn as boxes" in save(figure, path)) is told
    assert told or "\U00013000" in path.read_text(encoding="utf-8")


def crosses(figure: object, colour: str) -> int:
    (axes,) = figure.axes  # type: ignore[attr-defined]
    return sum(
        line.get_marker() == "x" and line.get_color() == colour and len(line.get_xdata()) == 1
        for line in axes.lines
    )


def test_isoflop_panel_with_the_aggregates_law(fits: dict[str, Fit], tmp_path: Path) -> None:
    one = fits["code"]
    figure = plots.figure_isoflops(
        one.observations, one.optima, law=one.law, aggregate=LLAMA3_PARAMS, title="code"
    )
    assert [a.get_title() for a in figure.axes] == ["code"]
    figure.savefig(tmp_path / "fits.png", dpi=60)
    assert (tmp_path / "fits.png").stat().st_size > 10_000
    figure.savefig(tmp_path / "fits.pdf")
    assert crosses(figure, "black") == 9


def test_every_optimum_has_a_cross_and_unusable_ones_are_named(fits: dict[str, Fit]) -> None:
    one = fits["code"]
    figure = plots.figure_isoflops(one.observations, one.optima, title="code")
    assert crosses(figure, "#C1121F") == 9
    flawed = [replace(one.optima[0], status=Status.FLAT), *one.optima[1:]]
    figure = plots.figure_isoflops(one.observations, flawed)
    assert crosses(figure, "#C1121F") == 8
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "6e18 (no optimum)"


def test_crosses_lie_on_their_curves(fits: dict[str, Fit]) -> None:
    one = fits["knowledge"]
    (axes,) = plots.figure_isoflops(one.observations, one.optima).axes
    marks = [
        line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata()) == 1
    ]
    heights = [float(line.get_ydata()[0]) for line in marks]
    np.testing.assert_allclose(heights, [o.loss for o in one.optima], rtol=1e-9)


def test_flops_without_a_ladder_show_points_and_path_only() -> None:
    surface = Surface(E=1.7, A=400.0, B=1500.0, alpha=0.34, beta=0.35, points=60)
    flops = np.geomspace(1e18, 1e21, 60)
    params = 0.1 * flops**0.5 * np.tile([0.5, 1.0, 2.0], 20)
    points = pd.DataFrame(
        {"flops": flops, "params": params, "loss": surface.loss(params, flops / 6 / params)}
    )
    optima = [replace(surface, flops_range=(1e18, 1e21)).optimum(c) for c in flops]
    figure = plots.figure_isoflops(points, optima)
    assert crosses(figure, "#C1121F") == 0
    assert len(figure.axes[0].get_legend().get_texts()) <= 17
    (path,) = [line for line in figure.axes[0].lines if line.get_label() == "skill's optimum"]
    np.testing.assert_allclose(path.get_ydata(), [o.loss for o in optima])


def test_residuals(fits: dict[str, Fit]) -> None:
    aggregate = [
        replace(fits["code"].optima[0], params=p, flops=c)
        for c, p in skills_optima()[["flops", "ape_params"]].to_numpy()
    ]
    comparisons = {name: compare_optima(fit.optima, aggregate) for name, fit in fits.items()}
    (axes,) = paper.figure_residuals(comparisons).axes
    assert sum(p.get_height() for p in axes.patches if hasattr(p, "get_height")) >= 18
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["code: mean -0.084", "knowledge: mean +0.117"]


def test_mix_figures() -> None:
    points = mix_points()
    (axes,) = paper.figure_mix_curves(points[points["varied_class"] == "code"], title="code").axes
    assert len(axes.get_legend().get_texts()) == 6
    table = mix_optima()
    values = {s: (table[f"{s}_share"], table[f"{s}_params"]) for s in ("knowledge", "code")}
    responses = {s: fit_share_response(*v) for s, v in values.items()}
    (axes,) = paper.figure_shares(responses, values).axes
    assert "slope +0.35" in axes.get_legend().get_texts()[0].get_text()
    ratio = table["code_share"] / table["knowledge_share"]
    optima = {s: table[f"{s}_params"] for s in ("knowledge", "code")}
    found = aligning_ratio(ratio, optima["code"], optima["knowledge"])
    (axes,) = paper.figure_alignment(ratio, optima, found).axes
    assert "equal at 3.1" in [t.get_text() for t in axes.get_legend().get_texts()]


def test_laws_with_one_that_failed(fits: dict[str, Fit]) -> None:
    laws = {name: fit.law for name, fit in fits.items()}
    laws["maths"] = fit_power_law([], [])
    optima = {name: fit.optima for name, fit in fits.items()} | {"maths": []}
    (axes,) = plots.figure_laws(laws, optima).axes
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert "maths: no law" in labels and "code: b = 0.4" in labels[0]


def test_no_global_state() -> None:
    # Other tests may import pyplot; drawing must not.
    import subprocess

    code = (
        "import sys; from fitting import plots; from fitting.reference import skills_points;"
        "plots.figure_isoflops(skills_points(), []);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ratios_by_budget(fits: dict[str, Fit]) -> None:
    aggregate = [
        replace(fits["code"].optima[0], params=p, flops=c)
        for c, p in skills_optima()[["flops", "ape_params"]].to_numpy()
    ]
    comparisons = {name: compare_optima(fit.optima, aggregate) for name, fit in fits.items()}
    (axes,) = plots.figure_ratios(comparisons).axes
    points = [len(line.get_xdata()) for line in axes.lines if line.get_marker() in "os"]
    assert points.count(9) == 2
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["code: mean 0.92", "knowledge: mean 1.12"]
    assert axes.get_xticklabels()[-1].get_text() == "mean"
    # A skill without an optimum moves no other's points, and leaves every colour its skill.
    none = compare_optima([replace(o, status=Status.FLAT) for o in fits["code"].optima], aggregate)
    one = {"code": none, "knowledge": comparisons["knowledge"]}
    (alone,) = plots.figure_ratios(one).axes
    line = next(line for line in alone.lines if len(line.get_xdata()) == 9)
    assert list(line.get_xdata()) == [o.flops for o in aggregate]
    assert line.get_color() == plots.COLOURS[1]


def test_no_cross_beyond_the_sizes_trained(fits: dict[str, Fit]) -> None:
    own = fits["code"].optima
    points = pd.DataFrame(
        {"flops": own[0].flops, "params": [1e8, 2e8, 4e8], "loss": [2.0, 1.9, 2.1]}
    )
    for params, crosses in ((2e8, 1), (9e9, 0)):
        (axes,) = plots.figure_isoflops(points, [replace(own[0], params=params)]).axes
        assert sum(line.get_marker() == "x" for line in axes.lines) == crosses


def test_a_single_budget_is_drawn_dark() -> None:
    assert light_to_dark(1) == light_to_dark(3)[-1:]


def test_labels_of_many_budgets_have_room() -> None:
    assert [list(few(range(n))) for n in (0, 3, 9)] == [[], [0, 1, 2], [0, 2, 4, 6, 8]]
