"""The members of the mixture: how far each departs from the law, and how often it is right.

Legend: p = params, C = flops; u = ln p less the vertex; logarithms natural.
"""

from __future__ import annotations

from dataclasses import replace

from fitting.mixture.discrepancy import Kind, Walk
from fitting.mixture.vertex_form import REACH

CALM = Walk(own=0.001, tilt=0.07, wander=0.03)
LEVEL = Walk(own=0.003, tilt=0.07, wander=0.08)
"""Levels of real runs bend against E + G C^-gamma. Of the levels of 50 real ladders (local minima,
benchmarks/real_runs.py, chosen on the public pools) the part below three to seven budgets told
the rest best with wander .05 to .07 and own errors of .001 to .003."""

CURVATURE = Walk(own=0.1, tilt=0.15, wander=0.1, offset=0.5)
"""Curvatures of real curves lie off the law by a factor of their own; chosen likewise."""

FIRM = Walk(own=0.03, tilt=0.05, wander=0.03, offset=0.15)
"""Curvature of members whose curves all but keep the law's form, also far from the optimum. Few
trials tell a skew from a shift no better than chance does: of 3 budgets x 6 sizes free curves
alone gave optima that scatter by .045, a parabola's by .036, these with the rest by .033
(tests/fitting/mixture/test_fit.py)."""

SKEWNESS = Walk(own=0.35, tilt=0.4, wander=0.15)
"""Of k3 over the budgets: curves may lean one way below and another above. Chosen on the public
pools: on half of them the members that have it explain 5 to 30 nats more, on the others as many
less (benchmarks/real_runs.py)."""

LEAN = 0.5
"""Expected k3 of all but the plain surface: real curves rise faster towards large sizes, and few
tokens, than the law's. Of 43 skills on 20 public tables u^3 is .30 of u^2 (mean of the tables'
medians, -.02 to .57), of 14 skills of our own trainings .27 to .53; this is .10 to .16
(benchmarks/real_runs.py, benchmarks/live.py). With .8 optima err alike there and more in world
fail, with .3 more on our own."""

LEAN_SD = 0.3
"""Least sd of k3 about it: with the .05 of firm members, intervals hold .63 and .62 of the time in
worlds lrbump and interact, whose curves do not lean, instead of .94 and .85 (8 draws)."""

QUARTIC = 2.0
"""Sd of k4 where curves are free. Of 76 small trainings on Python's library the valleys flatten by
.16 of their curvature per u^2, which k4 of +-.15 took for a shift of -.1 in all optima; with +-2
an adaptive sweep of 46 trials errs by .04 there (benchmarks/live.py). On the public pools either
is as near, and Porian's intervals hold more often (.84, .81)."""

RECIPE = 0.4
"""Sd of a slope of ln p*, per decade, that the skills of one sweep have in common: an exponent of
p* is the recipe's more than the skill's. Fitted to each skill's local minima, those of one public
table scatter by .010 to .020 (7 to 10 skills, standard errors .01), the means of eleven tables and
of our own three worlds lie .00 to .22 from `fitting.mixture.problem.EXPONENT`, by .11 in the mean
square (.47 to .52 where rates were tuned, .53 to .71 where not; benchmarks/real_runs.py,
benchmarks/live.py). This is .17. With .11 (.25) own trainings chosen by the search are read worse
(squared error .97, .89, .84 of that without it at W = .3, .5, 1, so .98, .85, .80), replays alike,
and three sizes a budget better (1.07; 1.13 so). With a sway of .4 all are read as well, but one
spoiled dear trial may move the optima of all skills (by .72 in one of 72 tables of
benchmarks/coverage.py)."""

DEEPEN = 0.7
"""Sd of a slope of the ln curvature, per decade, beside the walk's and the law's own of -.35.
Curves of 19 public tables grow flatter by .06 to .92 a decade (benchmarks/real_runs.py
--exponents), those of our own skills deeper by up to 1.9: some are learnt on larger budgets only
(benchmarks/live.py). Sizes off an optimum whose curve is taken for too flat are taken for farther
off. With .05 in firm members and .15 in free ones optima of own trainings came out lower the
larger the budget (.02, -.11, -.17, -.27), alike however wide the belief in the exponent. On the
same trials squared errors of the worst skill are .86, .82, .88 of those (W = .3, .5, 1), of grids
.58, .79, .77; with .5 .88, .84, .91, with 1 .84, .82, .85. Where curves are as deep on every
budget it costs nothing; public tables are read alike (.0390, .0386). On the ladder alone: optima
ten times beyond would err by .168 instead of .141, losses by a fifth to a third more. The search's
fits and the firm member that bends by size are without it: world lrbump, W = .2, would err by .12
instead of .06, and own trainings chosen with it are no nearer."""

PUBLISHED = 0.09
"""Sd of logit a of optima in line: a = .49 +- .02, the scatter of those published, see
`fitting.mixture.problem.EXPONENT`. With twice that, .16, optima five and twenty times beyond err
by .077 and .115 on real runs other than Porian's untuned ones instead of .071 and .096
(benchmarks/real_runs.py), and losses by 2 to 20 % more. Of the plain surface +- .06: one that
holds is not found wanting for its exponent, as in world asym, whose exponents are .36 to .64."""

FAR_REACH = 1.25
"""Instead of `vertex_form.REACH` where levels are asked as much as optima, in forecasts of losses
and comparisons of variants, and where trials are chosen: with that one losses twenty times beyond
err more (benchmarks/real_runs.py), and replays need a tenth more FLOPs to an error of .10
(benchmarks/replay.py)."""

SURFACE = Kind("surface", slope=0.24, often=1.0, further=3e-4, in_line=True)
"""On the ladder believed as often as each free member. Real runs with 50 trials and more tell it
for themselves: with .0003 to 3 trained optima err alike to four places (benchmarks/real_runs.py).
Few trials of a world whose law holds do not (benchmarks/search_efficiency.py). Beyond the ladder
believed as seldom as forecasts of real runs bear: all but Porian's, twenty times beyond, err by
.096, by .112 with .3 there."""

STEADY = Kind(
    "steady",
    Walk(0.03, sway=0.18),
    CALM,
    FIRM,
    skew=0.05,
    often=3.0,
    recipe=RECIPE,
    deepen=DEEPEN,
)
NEAR = Kind(
    "near one line",
    Walk(0.03, sway=0.18),
    LEVEL,
    CURVATURE,
    quartic=QUARTIC,
    reach=REACH,
    recipe=RECIPE,
    deepen=DEEPEN,
)
STRAIGHT = Walk(0.015, sway=0.07)
"""Drift of optima that are all but on one line."""

FIRM_LINE = replace(
    STEADY, name="firm line", drift=STRAIGHT, slope=PUBLISHED, often=0.1, in_line=True
)
LINE = replace(
    NEAR, name="one line", drift=STRAIGHT, level=CALM, slope=PUBLISHED, often=0.25, in_line=True
)
SKEWED_LINE = replace(LINE, name="one line, skewed", skewness=SKEWNESS)
SKEWED = replace(NEAR, name="near one line, skewed", skewness=SKEWNESS)
LOOSE = replace(NEAR, name="loose", drift=Walk(0.1, sway=0.18))
APART = replace(
    NEAR, name="every budget apart", drift=Walk(0.6, sway=0.18), level=Walk(0.05, 0.05, 0.02)
)
BENT = replace(NEAR, name="bent by size", level=CALM, recipe=0.0, bent=True, often=3.0)
FIRM_BENT = replace(
    FIRM_LINE,
    name="bent by size, firm",
    recipe=0.0,
    deepen=0.0,
    bent=True,
    often=0.003,
    in_line=False,
)
"""Believed as seldom as forecasts of real runs bear (optima five times beyond, all but Porian's:
.077; .079 with .03, .084 with .3, .075 without it), and found where losses do bend by size: world
lrbump, W = .2, errs by .049 instead of .180 (worst skill)."""
KINDS = (
    *(SURFACE, FIRM_LINE, LINE, SKEWED_LINE, STEADY, NEAR, SKEWED),
    *(LOOSE, APART, BENT, FIRM_BENT),
)
"""Members of the mixture; how often each is right was chosen on the public pools."""
