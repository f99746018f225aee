"""A plan: what a sweep will do and cost, as a value, as JSON and as a terminal shows it."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fitting.values import plain
from sweeper.plan.recipe import Line, shown
from sweeper.spec.scoring import Scoring
from sweeper.text import duration, gigabytes, grid, money, number, ratio, si, within

if TYPE_CHECKING:
    from sweeper.plan.expected import Need


@dataclass(frozen=True)
class Plan:
    """A sweep's cost and shape.

    Attributes:
        table: one row per budget: ``flops, sizes, params_low, params_high, params, tokens,
            tokens_per_param, steps, memory_bytes, gpus, hours, wall_hours`` (memory of each
            device; hours of one device for one trial, the mean over sizes near the guess, and
            hours until the longest of them ends); ``params`` is the guessed optimum's realisable
            size; ``epochs`` is how often its trial sees the class of a prepared corpus that is
            repeated most, ``epochs_most`` the smallest size's.
        trials: fewest and most trials the allowance pays for, or the grid's exact number.
        allowance: FLOPs the sweep may spend.
        device_hours: what the allowance takes on the spec's device.
        price: money, or NaN if no price per hour was given.
        device: the spec's device.
        placement: what trials hold by size, a row per rule on GPUs: ``params_low, params_high,
            gpus, sharded, recompute, memory_bytes`` (needed on each by the largest size, with one
            sequence at a time) ``, device_bytes`` (its share of each).
        speed: where the hours come from: a pilot, a stated or an assumed utilisation.
        devices: of its kind at hand; 0 if that is not known.
        wall_hours: time the whole sweep takes on them; NaN if they are not known.
        policies: what each way of searching costs: ``policy, trials, flops, hours, price``, and
            from a simulated sweep of each, where asked for, ``half_width``, that of the widest
            90 % interval of ln p*.
        expected: from one simulated sweep, where it was asked for: one row per budget with
            ``flops, trials, half_width`` of the widest skill, and ``by_skill``.
        simulated: trials of that sweep: ``flops, params, tokens`` of each.
        world: what was simulated, in words.
        need: the allowance that a tolerance needs, where asked for.
        warnings: what to think twice about, a sentence each.
        scoring: what measuring the skills adds; None where losses are simulated.
        recipe: what trials are trained with, a line for each part, with what is doubtful in it.
    """

    table: pd.DataFrame
    trials: tuple[int, int]
    allowance: float
    device_hours: float
    price: float
    device: str
    placement: pd.DataFrame
    speed: str
    devices: int
    wall_hours: float
    policies: pd.DataFrame
    expected: pd.DataFrame | None = None
    simulated: pd.DataFrame | None = None
    world: str = ""
    need: Need | None = None
    warnings: tuple[str, ...] = ()
    scoring: Scoring | None = None
    recipe: tuple[Line, ...] = ()

    def to_json(self) -> str:
        """The plan as JSON; what is not known is null, what was not asked for is left out."""
        values = asdict(self)
        values["budgets"] = values.pop("table")
        if self.need is not None:
            values["need"]["possible"] = self.need.possible
        absent = {"expected", "simulated", "world"} if self.expected is None else set()
        absent |= {"need"} if self.need is None else set()
        kept = {name: _records(value) for name, value in values.items() if name not in absent}
        return json.dumps(plain(kept), indent=2, allow_nan=False)

    def figure(self, path: str | Path) -> Path:
        """Draw the ladder, a simulated sweep's trials and the intervals to expect of it.

        Args:
            path: a name that ends in .svg, .png or .pdf.

        Raises:
            SpecError: nothing was simulated, or the ending is of no known kind.
        """
        from sweeper.plan.figure import draw

        return draw(self.table, self.simulated, self.expected, Path(path))

    def __str__(self) -> str:
        """The plan as a terminal shows it."""
        return _text(self)

    def _repr_html_(self) -> str:
        words = html.escape(str(self).split("\n\n", 2)[2]).replace("\n", "<br>")
        recipe = html.escape("\n".join(shown(self.recipe)))
        return f"{_columns(self.table).to_html(index=False)}<p>{words}</p><pre>{recipe}</pre>"


def _records(value: Any) -> Any:
    return value.to_dict(orient="records") if isinstance(value, pd.DataFrame) else value


def in_words(compared: pd.DataFrame) -> str:
    """Several devices side by side, as a terminal shows them."""
    fits = compared["reason"] == ""
    shown = pd.DataFrame({"device": compared["device"]})
    for name, title in (("hours", "device time"), ("wall_hours", "wall time"),
                        ("longest_hours", "longest trial")):  # fmt: skip
        column = compared.get(name, pd.Series(math.nan, compared.index))
        shown[title] = [
            duration(3600 * v) if ok else "-" for v, ok in zip(column, fits, strict=True)
        ]
    if "price" in compared and compared["price"].notna().any():
        shown["cost"] = [money(v) for v in compared["price"]]
    refused = compared[~fits]
    reasons = [f"{row.device}: {row.reason}" for row in refused.itertuples()]
    return "\n".join([*_grid(shown), *reasons])


def _text(plan: Plan) -> str:
    """The whole plan."""
    few, many = plan.trials
    count = f"{few}" if few == many else f"{few} to {many}"
    cost = "" if math.isnan(plan.price) else f", cost {money(plan.price)}"
    return "\n".join(
        [
            *shown(plan.recipe),
            "",
            *_grid(_columns(plan.table)),
            "",
            f"{count} trials within {number(plan.allowance)} FLOPs: "
            f"{_hours(plan.device_hours)} of one {plan.device}{cost} ({plan.speed})",
            _wall(plan),
            *_costs(plan),
            *_measuring(plan.scoring),
            *_placed(plan),
            *(f"warning: {warning}" for warning in plan.warnings),
            *_expectation(plan),
            *(["", str(plan.need)] if plan.need else []),
        ]
    )


def _grid(shown: pd.DataFrame) -> list[str]:
    return grid(list(shown), shown.astype(str).to_numpy().tolist(), right="r" * shown.shape[1])


def _columns(table: pd.DataFrame) -> pd.DataFrame:
    """What is shown of the budgets, in words."""
    shown = pd.DataFrame(
        {
            "budget": [number(v) for v in table["flops"]],
            "sizes": table["sizes"],
            "from": [si(v) for v in table["params_low"]],
            "to": [si(v) for v in table["params_high"]],
            "guess p*": [si(v) for v in table["params"]],
            "tokens": [si(v) for v in table["tokens"]],
            "t/p": [ratio(v) for v in table["tokens_per_param"]],
            "steps": [_known(v, "{:,.0f}".format) for v in table["steps"]],
            "memory": [_known(v, gigabytes) for v in table["memory_bytes"]],
            "time": [duration(3600 * v) for v in table["hours"]],
        }
    )
    if (table["gpus"] > 0).any():
        shown.insert(9, "GPUs", [_gpus(v) for v in table["gpus"]])
    if (table["epochs_most"] > 0).any():
        pairs = zip(table["epochs"], table["epochs_most"], strict=True)
        shown["epochs"] = [f"{guess:.2g} (to {most:.2g})" for guess, most in pairs]
    return shown


def _hours(hours: float) -> str:
    """A device's time: hours also where they are many, as they are paid for."""
    return duration(3600 * hours) if hours < 36 else f"{hours:,.0f} h"


def _known(value: float, shown: Callable[[float], str]) -> str:
    return "unknown" if math.isnan(value) else shown(value)


def _placed(plan: Plan) -> list[str]:
    if plan.placement.empty:
        return []
    return ["", f"Trials on {plan.device} GPUs, by size:"] + [
        f"  {_sizes(row.params_low, row.params_high):<14}  {_holding(row):<28} {_why(row)}"
        for row in plan.placement.itertuples()
    ]


def _sizes(low: float, high: float) -> str:
    return f"{si(low):>5}" + (f" to {si(high)}" if high > low else "")


def _why(row: Any) -> str:
    """Why trials hold what they hold."""
    if math.isnan(row.memory_bytes):
        return "as cluster.resources says: the memory of a user's models is not known"
    need = f"{gigabytes(row.memory_bytes)} of {gigabytes(row.device_bytes)}"
    return f"the largest needs at least {need}{', recomputing blocks' if row.recompute else ''}"


def _wall(plan: Plan) -> str:
    if not plan.devices:
        return (
            "wall time: not known, as no such device is seen from here; state cluster.gpus or "
            "cluster.cpus, or ask the cluster with --ask-cluster"
        )
    count = f"{plan.devices} devices" if plan.devices > 1 else "the device"
    return f"wall time: about {duration(3600 * plan.wall_hours)} on {count} at hand"


def _costs(plan: Plan) -> Iterator[str]:
    for row in plan.policies.itertuples():
        cost = "" if math.isnan(row.price) else f", cost {money(row.price)}"
        width = getattr(row, "half_width", math.nan)
        found = f", best sizes to within {within(width)}" if math.isfinite(width) else ""
        found += ", more than the allowance pays for" * (row.flops > 1.001 * plan.allowance)
        yield (
            f"policy {row.policy}: {row.trials} trials, {number(row.flops)} FLOPs, "
            f"{_hours(row.hours)}{cost}{found}"
        )


def _expectation(plan: Plan) -> list[str]:
    if plan.expected is None:
        return []
    lines = [
        "", f"Best sizes known to within (90 %), by one simulated sweep in {plan.world}:",
    ]  # fmt: skip
    for row in plan.expected.itertuples():
        skills = ", ".join(f"{s} {within(w)}" for s, w in row.by_skill.items())
        lines.append(f"  {number(row.flops)} FLOPs, {row.trials} trials: {skills}")
    return lines


def _measuring(cost: Scoring | None) -> Iterator[str]:
    """The line about what scoring adds."""
    if cost is not None:
        yield (
            f"scoring {si(cost.tokens)} tokens ({cost.documents} documents per class) adds "
            f"{number(100 * cost.least, 2)} to {number(100 * cost.most, 2)} % to a trial's FLOPs"
        )


def _holding(row: Any) -> str:
    """What a trial holds, in words."""
    if 0 < row.gpus < 1:
        return f"{1 / row.gpus:.0f} share a GPU"
    return "a GPU each" if row.gpus == 1 else f"{row.gpus:g} GPUs each" + row.sharded * ", sharded"


def _gpus(number: float) -> str:
    return f"1/{1 / number:.0f}" if 0 < number < 1 else f"{number:g}"
