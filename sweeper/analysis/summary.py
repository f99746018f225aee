"""What a fit found, as a terminal shows it: the best size of every skill, and how it grows."""

from __future__ import annotations

import math

from fitting import Fits, PowerLaw, SkillFit
from sweeper.analysis.conclusions import exponent_interval, status_word
from sweeper.text import between, grid, number, si

METHODS = {
    "guarded": "an average of models, weighted by how well each explains the data",
    "parabola": "a parabola per budget",
    "surface": "one loss surface E + A/p^alpha + B/t^beta",
}
"""Methods in a few words, for the first line of an answer."""


def summary(fits: Fits) -> list[str]:
    """Best sizes on the largest budget, and the laws' exponents, with 90 % intervals."""
    top = max(fits.observations.budgets)
    head = ("", f"best size at {number(top)} FLOPs", "tokens", "grows as C to the power")
    rows = [(name, *_best(fit), _law(fit.law)) for name, fit in fits.items()]
    return [
        *grid(head, rows),
        f"Brackets are 90 % intervals. Method {fits.method}: {METHODS[fits.method]}.",
    ]


def _best(fit: SkillFit) -> tuple[str, str]:
    best = fit.optima[-1] if fit.optima else None
    if best is None or not math.isfinite(best.params):
        return f"none: {status_word(best.status if best else fit.status)}", ""
    doubt = "" if best.ok else f" ({status_word(best.status)})"
    return f"{si(best.params)} [{between(best.interval, word='to')}]{doubt}", si(best.tokens)


def _law(law: PowerLaw) -> str:
    if not law.ok:
        return f"no law: {status_word(law.status)}"
    return f"{law.exponent:.2f} [{between(exponent_interval(law), '{:.2f}', word='to')}]"
