"""Checkpoints with known pass@k laws: what the fits of test-time scaling are tested against.

Legend: p = params, t = tokens, k = samples; losses in nats.

The grid is that of T^2 (arXiv 2604.01411): the sixteen sizes and twelve budgets of Porian et al.
(arXiv 2406.19146), 85 checkpoints around the usual tokens per parameter and 21 trained far
longer. Which cells were trained is not printed; ours are those of the same counts and extremes.
The eight tasks are assumptions: constants spread over the ranges that published surfaces span.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fitting.decisions.nll_law import NllLaw
from fitting.decisions.pass_law import PassLaw
from fitting.decisions.passk import SAMPLES, PassCurves, pass_at_k
from fitting.laws.surface import Surface
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

SIZES = tuple(
    1e6 * m for m in (5, 7, 9, 15, 22, 28, 37, 57, 84, 108, 149, 220, 347, 455, 611, 901)
)
"""Porian et al. 2024, table of T^2's appendix."""

BUDGETS = tuple(1.25e16 * 2.0**i for i in range(12))
"""Porian et al. 2024."""

USUAL, OVERTRAINED = 85, 21
"""Checkpoints of either kind (T^2, section 4)."""

_LEAST_RATIO, _MOST_RATIO = 0.8, 14_000  # tokens per parameter; the latter is T^2's 9 M at 6.4e18
_MOST_TOKENS = 1.21e11  # T^2: about 50 M to 120 B tokens

# name: E, A, B, G, alpha, beta, gamma. Assumptions, see above.
TASKS = {
    "recall": NllLaw(0.9, 420.0, 2400.0, 2.4, 0.32, 0.36, 0.30),
    "cloze": NllLaw(0.6, 260.0, 900.0, 1.8, 0.30, 0.33, 0.42),
    "science": NllLaw(1.4, 700.0, 3100.0, 3.0, 0.35, 0.37, 0.25),
    "exam": NllLaw(2.2, 900.0, 1500.0, 3.6, 0.36, 0.32, 0.35),
    "open-book": NllLaw(3.0, 330.0, 4200.0, 4.2, 0.29, 0.39, 0.28),
    "arithmetic": NllLaw(0.4, 1500.0, 700.0, 1.5, 0.41, 0.29, 0.50),
    "causal": NllLaw(1.0, 240.0, 1900.0, 2.0, 0.28, 0.35, 0.38),
    "spatial": NllLaw(1.7, 1100.0, 600.0, 2.7, 0.38, 0.28, 0.33),
}
"""Eight tasks with known laws of the loss of the best of k samples."""

QUESTIONS = PassLaw(Surface(0.9, 420.0, 2400.0, 0.32, 0.36), 3.2, 0.9, 0.85, 1.6, -0.15)
"""One benchmark whose questions' success probabilities follow a Beta law (assumption)."""


def checkpoint_grid() -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Params, tokens, and which of the 106 checkpoints are over-trained."""
    p, c = (v.ravel() for v in np.meshgrid(SIZES, BUDGETS, indexing="ij"))
    t = c / (FLOPS_PER_PARAM_TOKEN * p)
    ratio = t / p
    order = np.argsort(np.where(ratio >= _LEAST_RATIO, ratio, np.inf), kind="stable")
    usual, rest = order[:USUAL], order[USUAL:]
    near = (ratio[rest] <= _MOST_RATIO) & (t[rest] <= _MOST_TOKENS) & (p[rest] >= SIZES[2])
    candidates = rest[near & (ratio[rest] >= _LEAST_RATIO) & (c[rest] >= BUDGETS[-4] * 0.99)]
    picked = np.concatenate([usual, candidates[-OVERTRAINED:]])
    return p[picked], t[picked], np.arange(len(picked)) >= USUAL


def sample_nll(law: NllLaw, noise: float, rng: np.random.Generator) -> PassCurves:
    """Curves of one task on the grid with relative noise per checkpoint, common to its k."""
    p, t, _ = checkpoint_grid()
    k = np.array(SAMPLES, dtype=float)
    clean = law.value(p[:, None], t[:, None], k)
    measured = clean * (1 + noise * rng.standard_normal((len(p), 1)))
    return PassCurves(p, t, k, measured[:, 0], measured, np.exp(-measured))


def sample_questions(
    law: PassLaw, questions: int, rng: np.random.Generator, *, noise: float = 0.01
) -> PassCurves:
    """Curves of one benchmark: every checkpoint answers its own draw of Beta questions.

    Args:
        law: the truth.
        questions: per checkpoint.
        rng: source of the draws.
        noise: relative standard deviation of the mean loss that the surface is fitted to.
    """
    p, t, _ = checkpoint_grid()
    k = np.array(SAMPLES, dtype=float)
    loss = law.surface.loss(p, t)
    a, b = law.shape(loss)
    chance = rng.beta(a[:, None], b[:, None], (len(p), questions))
    nll = -np.log(np.maximum(chance, 1e-300))
    rate = pass_at_k(nll[:, :, None], k).mean(axis=1)
    seen = loss * (1 + noise * rng.standard_normal(len(p)))
    return PassCurves(p, t, k, seen, -np.log(np.maximum(rate, 1e-300)), rate)
