"""Published numbers: the skills paper's points, laws with full digits. Floor 5 of fitting.

Points: "Compute Optimal Scaling of Skills: Knowledge vs Reasoning" (Roberts et al. 2025, arXiv
2503.10061), Figures 1 to 3, our own digitisation; method and errors in ``skills_paper/README.md``.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from fitting.laws.powerlaw import PowerLaw
from fitting.laws.surface import Surface

LLAMA3_TOKENS = PowerLaw(
    coefficient=0.29935514474627917,
    exponent=0.5367791270945959,
    covariance=(
        (0.7233460674908371, -0.0154551684744885),
        (-0.0154551684744885, 0.00033102691901452545),
    ),
    dof=8.0,
    flops_range=(6e18, 1e22),
    quantity="tokens",
    method="parabola",
)
"""Llama 3's t*(C) (arXiv 2407.21783, Figure 3 prints .537 and .299): parabolas through the 133
digitised points of its Figure 2, all digits. The pair printed in its text, (.53, .29), is rounded
so far that 16.1 T tokens at 3.8e25 FLOPs become 10.5 T: never use it."""

LLAMA3_PARAMS = LLAMA3_TOKENS.tokens_law()
"""Llama 3's p*(C) = C / (6 t*(C)): the aggregate of the skills paper (its Figure 1 caption)."""

CHINCHILLA_PUBLISHED = Surface(E=1.69, A=406.4, B=410.7, alpha=0.33917, beta=0.28491)
"""Hoffmann et al. 2022 (arXiv 2203.15556), approach 3; exponents unrounded from its TeX source."""

CHINCHILLA_REFITTED = Surface(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024 (arXiv 2404.10102), the same points fitted to the end."""

CHINCHILLA_STANDARD_ERRORS = {
    "E": 0.0257,
    "A": 124.5,
    "B": 1293.0,
    "alpha": 0.0154,
    "beta": 0.0206,
}
"""Besiroglu et al. 2024: standard deviations over 4000 bootstraps."""


def skills_points() -> pd.DataFrame:
    """Figure 1: flops, params, loss per skill, 232 points (visibility tells how well seen)."""
    return _read("fig1_isoflop_points").rename(columns={"target_nll": "loss"})


def skills_optima() -> pd.DataFrame:
    """Figure 1: the plotted crosses per budget: knowledge, code and aggregate (ape) params."""
    return _read("fig1_optima")


def mix_points() -> pd.DataFrame:
    """Figure 2: params and loss at 6e18 FLOPs for eleven shares of a class."""
    return _read("fig2_mix_points").rename(columns={"target_nll": "loss"})


_MIXES = {
    "code": {
        11.08: "code×0.5", 19.92: "base", 33.11: "code×2", 42.5: "code×3", 49.51: "code×4",
        82.02: "code×20",
    },
    "knowledge": {
        21.95: "knowledge×0.2", 58.44: "base", 73.77: "knowledge×2", 80.83: "knowledge×3",
        84.9: "knowledge×4",
    },
}  # fmt: skip
"""Shares in the legends of Figure 2 and the mixes they belong to (`fitting.datamix.shares`)."""


def mix_table() -> pd.DataFrame:
    """Figure 2 as a long table of losses with a column mix; hidden points are left out."""
    points = mix_points()
    points = points[points["visibility"] != "hidden"]
    mixes = [_MIXES[c][s] for c, s in zip(points["skill"], points["share_percent"], strict=True)]
    table = points[["skill", "params", "loss"]].assign(mix=mixes, flops=6e18)
    return table.assign(tokens=table["flops"] / (6 * table["params"])).reset_index(drop=True)


def mix_optima() -> pd.DataFrame:
    """Figure 3: optima of both skills for thirteen data mixes at 6e18 FLOPs."""
    return _read("fig3_optima_by_share")


@cache
def _table(name: str) -> pd.DataFrame:
    """One of the shipped files."""
    with files(__package__).joinpath("skills_paper", f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _read(name: str) -> pd.DataFrame:
    """A copy that a caller may change."""
    return _table(name).copy()
