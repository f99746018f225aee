"""How sure the plain surface's constants are: every skill's trials resampled and fitted again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from fitting import bootstrap_surface
from fitting.errors import FitError
from sweeper.errors import SpecError
from trainables.progress import Countdown, to_stderr

if TYPE_CHECKING:
    from fitting import Fits

FEWEST = 100
"""Draws that a 90 % interval needs at the least: five beyond each end (assumption)."""

ENDS = (0.05, 0.5, 0.95)
"""Quantiles: a 90 % interval and the median."""


def resample(fits: Fits, n: int, *, say: Callable[[str], None] = to_stderr) -> dict[str, Any]:
    """Bootstrap the surface E + A/p^alpha + B/t^beta of every skill, with progress.

    Args:
        fits: whose observations are drawn from; their method does not matter.
        n: draws.
        say: where progress goes.

    Returns:
        Skill to constant (and ``exponent``, b of p* = a C^b) to ``se``, ``low``, ``median`` and
        ``high``, and to ``unconverged`` draws; or to the ``reason`` why it has no surface.

    Raises:
        SpecError: too few draws.
    """
    if n < FEWEST:
        raise SpecError(f"bootstrap={n}: ask for {FEWEST} draws or more (4000 are usual)")
    countdown, found = Countdown(say), dict[str, Any]()
    for i, skill in enumerate(fits):

        def progress(share: float, skill: str = skill, i: int = i) -> None:
            done = (i + share) / len(fits)
            countdown.tell(done, f"{skill}: {share:.0%} of {n} draws, {i} of {len(fits)} skills")

        seen = fits[skill].observations
        try:
            draws = bootstrap_surface(
                seen["params"], seen["tokens"], seen["loss"], n=n, progress=progress
            )
            found[skill] = _summary(draws)
        except FitError as error:
            found[skill] = {"reason": str(error)}
    return found


def _summary(draws: pd.DataFrame) -> dict[str, Any]:
    """Standard error and quantiles of each constant."""
    unconverged = draws.attrs["unconverged"]
    draws = draws.assign(exponent=draws["beta"] / (draws["alpha"] + draws["beta"]))
    told = draws.quantile(list(ENDS)).set_axis(["low", "median", "high"])
    told = pd.concat([draws.std().to_frame("se").T, told])
    return {name: dict(own) for name, own in told.to_dict().items()} | {"unconverged": unconverged}


def lines(found: dict[str, Any]) -> list[str]:
    """What `resample` found, for a terminal; nothing of nothing."""
    if not found:
        return []
    said = ["resampled surface E + A/p^alpha + B/t^beta, p* = a C^exponent; median [90 %]:"]
    for skill, values in found.items():
        if "reason" in values:
            said.append(f"  {skill}  {values['reason']}")
            continue
        lost = values["unconverged"]
        said.append(f"  {skill}" + (f"  ({lost} draws ran out of steps)" if lost else ""))
        cells = [
            f"{name:<8} {v['median']:.3g} [{v['low']:.3g}, {v['high']:.3g}]"
            for name, v in values.items()
            if name != "unconverged"
        ]
        half = len(cells) // 2
        pairs = zip(cells[:half], cells[half:], strict=True)
        said += [f"    {left:<40}{right}" for left, right in pairs]
    return said
