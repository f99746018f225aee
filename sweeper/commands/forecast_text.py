"""A forecast as a terminal shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.analysis.conclusions import status_word
from sweeper.analysis.summary import METHODS
from sweeper.text import (
    columns,
    duration,
    gigabytes,
    grid,
    money,
    number,
    padded,
    percent,
    ratio,
    si,
)

if TYPE_CHECKING:
    from sweeper.analysis.forecast import Forecast, Values
    from sweeper.analysis.hardware import Hardware

WIDTHS = 16, 40
"""Least and most columns for a skill's name; the line of a longer one is shifted."""


def lines(said: Forecast) -> list[str]:
    """The lines of one forecast."""
    skills, width = said.skills, _width(said.skills)
    shown = [*_held(said), *_optima(skills)]
    shown += _choices(said, "choices", "factor", _times, "A wrong size on the same budget costs")
    shown += _block("Half and twice as much would train:", [
        f"{padded(name, width)} " + ";   ".join(
            f"{_times(near['factor'])} ({number(near['flops'], 2)} FLOPs): {_short(near)}"
            for near in one["around"]
        )
        for name, one in skills.items() if "around" in one
    ])  # fmt: skip
    shown += _block("Loss of the allocation that was asked about:", [
        f"{padded(name, width)} {_allocation(one['allocation'], said.unit)}"
        for name, one in skills.items() if "allocation" in one
    ])  # fmt: skip
    shown += _choices(
        said, "ratios", "tokens_per_param", "{:g} t/p".format, "Other tokens per parameter cost"
    )
    shown += _block("Not knowing the size exactly wastes on average, trained at the best guess:", [
        f"{padded(name, width)} {_doubt(one['doubt'])}"
        for name, one in skills.items() if "doubt" in one
    ])  # fmt: skip
    served = said.ask.demand is not None
    title = (
        "Least lifetime cost"
        if served
        else f"Least compute for {said.ask.target_loss} {said.unit}"
    )
    shown += _block(f"{title} (by the plain surface):", [
        f"{padded(name, width)} {_serving(one['serving'], said.unit)}"
        for name, one in skills.items() if "serving" in one
    ])  # fmt: skip
    for name, one in skills.items():
        if "sampling" in one:
            shown += ["", *_sampling(name, one["sampling"])]
    if said.front:
        shown += ["", *_front(said.front)]
    if said.run is not None:
        shown += ["", *str(said.run).splitlines()]
    shown += [f"wrote {path}" for path in said.files]
    shown += [f"note: {warning}" for warning in said.warnings]
    return shown


def _width(names: Iterable[str]) -> int:
    """Columns that hold the longest of some names, within reason."""
    least, most = WIDTHS
    return min(max([least, *map(columns, names)]), most)


def _optima(skills: Mapping[str, Values]) -> list[str]:
    """The best size of every skill, and by which method."""
    named = {name: one for name, one in skills.items() if "params" in one}
    if not named:
        return []
    width = _width(skills)
    shown = [f"{padded(name, width)} {_optimum(one)}" for name, one in named.items()]
    methods = {one["method"] for one in named.values() if one["status"] == "ok"}
    return shown + [f"Method {name}: {METHODS[name]}." for name in sorted(methods & set(METHODS))]


def _times(factor: float) -> str:
    """A size as a multiple of the best."""
    return {0.5: "half", 2.0: "twice"}.get(factor, f"{factor:g} times")


def _choices(
    said: Forecast, part: str, key: str, title: Callable[[float], str], what: str
) -> list[str]:
    """What other choices cost every skill: loss, and the share of the compute they waste."""
    rows = {name: one[part] for name, one in said.skills.items() if part in one}
    known = {name: row for name, row in rows.items() if not isinstance(row, dict)}
    width = _width(said.skills)
    refused = [
        f"{padded(name, width)} {_refusal(rows[name])}" for name in rows if name not in known
    ]
    if not known:
        return _block(f"{what}:", refused)
    head = ["", *(title(one[key]) for one in next(iter(known.values())))]
    cells = [
        [name, *(f"{one['excess']:+.2g}, {percent(one['wasted'])}" for one in row)]
        for name, row in known.items()
    ]
    # Below the table: a sentence in a cell would stretch its column.
    shown = [*grid(head, cells), *refused]
    return _block(f"{what} ({said.unit}, and the share of the compute wasted):", shown)


def _held(said: Forecast) -> list[str]:
    """What the devices can train, and how the models lie on them."""
    hardware = said.ask.hardware
    if hardware is None or said.ask.flops is None:
        return []
    kept = hardware.to_dict()
    assumed = " (assumed: --mfu states another)" if kept["mfu_assumed"] else ""
    cost = "" if kept["price"] is None else f", cost {money(kept['price'])}"
    shown = [
        f"{hardware.count} {hardware.name} for {duration(3600 * hardware.hours)} at "
        f"{percent(hardware.utilisation)} of {hardware.device.peak_flops / 1e12:.4g} TFLOP/s"
        f"{assumed}: {number(hardware.flops)} FLOPs, {money(kept['device_hours'])} "
        f"device-hours{cost}"
    ]
    largest = max(
        (one["params"] for one in said.skills.values() if one.get("memory")), default=0.0
    )
    return [*shown, *([_memory(hardware, largest)] if largest else []), ""]


def _memory(hardware: Hardware, params: float) -> str:
    """Whether the largest of the models fits."""
    held = hardware.fit(params)
    state = f"{si(params)} params with Adam's state take {gigabytes(held['state_bytes'])}"
    if not math.isfinite(hardware.device.memory_bytes):
        return f"{state} of the machine's memory"
    each = f"{gigabytes(hardware.device.memory_bytes)} each"
    if not held["holds"]:
        return (
            f"{state}: {hardware.count} x {each} do not hold it, {held['least_devices']} would; "
            "train a smaller model, or on more devices for fewer days"
        )
    if held["least_devices"] == 1:
        return f"{state}: every device ({each}) holds a copy, so plain data parallelism will do"
    return (
        f"{state}: shard it over at least {held['least_devices']} devices ({each}); over all "
        f"{hardware.count} it is {gigabytes(held['state_bytes_per_device'])} each"
    )


def _short(one: Values) -> str:
    if not math.isfinite(one["params"]):
        return status_word(one["status"])
    return f"{si(one['params'])} on {si(one['tokens'])} tokens"


def _allocation(one: Values, unit: str) -> str:
    if one["status"] != "ok":
        return _refusal(one)
    said = f"{one['loss']:.4g}"
    if math.isfinite(one["high"]):
        said += f" (90 %: {one['low']:.4g} to {one['high']:.4g})"
    else:
        said += " (no interval by this method; --method guarded has one)"
    said += f" for {number(one['flops'])} FLOPs{_beyond(one)}"
    best = one["optimum"]
    if "wasted" not in one:
        return f"{said}; the best size there has no number ({status_word(best['status'])})"
    return (
        f"{said}; the best size for them is {si(best['params'])} on {si(best['tokens'])}: "
        f"{one['params'] / best['params']:.2g} times that size costs {one['excess']:+.2g} {unit} "
        f"and wastes {percent(one['wasted'])} of the compute"
    )


def _doubt(one: Values) -> str:
    if "wasted" not in one:
        return _refusal(one)
    cost = f", cost {money(one['money'])}" if "money" in one else ""
    return f"{100 * one['wasted']:.2g} % of the FLOPs ({number(one['flops'], 2)}{cost})"


def _block(title: str, rows: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {row}" for row in rows)] if rows else []


def _refusal(values: Any, where: str = "") -> str:
    return f"no number{where}: {values['reason'].rstrip('.') or status_word(values['status'])}"


def _optimum(one: Values) -> str:
    if not math.isfinite(one["params"]):
        return _refusal(one, _beyond(one))
    low, high = one["interval"]
    mark = "" if one["status"] == "ok" else f", {status_word(one['status'])}: {one['reason']}"
    return (
        f"{si(one['params'])} params on {si(one['tokens'])} tokens "
        f"(90 %: {si(low)} to {si(high)}){_beyond(one)}{mark.rstrip('.')}"
    )


def _beyond(one: Values) -> str:
    factor = one["extrapolates"]
    return f", {number(factor)} times beyond the data" if factor > 1.01 else ""


def _serving(one: Values, unit: str) -> str:
    if one["status"] != "ok":
        return _refusal(one)
    low, high = one["interval"]
    known = f"90 %: {si(low)} to {si(high)}" if high < float("inf") else "no interval"
    of = "FLOPs" if one["unit"] == "flops" else "of money"
    reach = (
        f"{si(one['params'])} params ({known}) on {si(one['tokens'])} tokens reach "
        f"{one['loss']:.4g} {unit} for {_amount(one)(one['cost'])} {of}"
    )
    if not one["demand_tokens"]:
        return f"{reach} ({_reaching(one)}){_time(one)}{_beyond(one)}"
    return (
        f"{reach}{_time(one)}, {percent(one['saving'], 1)} less than "
        f"{si(one['compute_optimal_params'])} on {si(one['compute_optimal_tokens'])}{_beyond(one)}"
    )


def _time(one: Values) -> str:
    """How long the training takes the devices that were asked about."""
    if "hours" not in one:
        return ""
    held = one["hardware"]
    assumed = " (assumed)" if held["mfu_assumed"] else ""
    cost = "" if held["price"] is None else f", cost {money(held['price'])}"
    return (
        f", trained in {duration(3600 * one['hours'])} on {held['devices']} {held['device']} at "
        f"{percent(held['mfu'])} of their peak{assumed}{cost}"
    )


def _reaching(one: Values) -> str:
    """The interval of what reaches a loss, in its unit."""
    per_flop = one["cost"] / one["training_flops"]
    low, high = (per_flop * flops for flops in one["training_flops_interval"])
    if not low < math.inf:
        return "no interval"
    shown = _amount(one)
    if high == math.inf:
        return f"90 %: {shown(low)} or more"
    return f"90 %: {shown(low)} to {shown(high)}" if low else f"90 %: up to {shown(high)}"


def _amount(one: Values) -> Callable[[float], str]:
    return number if one["unit"] == "flops" else money


def _sampling(name: str, both: Values) -> Iterator[str]:
    for law, one in both.items():
        title = {"nll": "T^2, loss of the best of k", "pass_rate": "T^2, pass@k"}[law]
        if one["status"] != "ok":
            yield f"{name}: {title}: {_refusal(one)}"
            continue
        yield (
            f"{name}: {title}: {si(one['params'])} params on {si(one['tokens'])} tokens "
            f"({ratio(one['tokens_per_param'])} per param), k = {ratio(one['k'])}, "
            f"{one['quantity']} {one['value']:.4g}{_beyond(one)}"
        )
        for row in one["frontier"]:
            usual = f"{row['chinchilla_value']:.4g} at {si(row['chinchilla_params'])}"
            if row["chinchilla_status"] != "ok":
                usual = f"{row['chinchilla_status']} ({si(row['chinchilla_params'])})"
            yield (
                f"    train {number(row['train_flops'], 2)}, "
                f"serve {number(row['inference_flops'], 2)}: "
                f"{si(row['params'])}, {ratio(row['tokens_per_param'])} t/p, k {ratio(row['k'])}: "
                f"{row['value']:.4g}; Chinchilla {usual}"
            )


def _front(rows: Any) -> Iterator[str]:
    if isinstance(rows, dict):
        yield f"Front: {_refusal(rows)}"
        return
    first, second = [key for key in rows[0] if f"{key}_low" in rows[0]]
    yield f"Every size between the two optima is a fair trade ({first}, {second}, nats):"
    for row in rows:
        parts = [
            f"{name} {row[name]:.4f} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
            for name in (first, second)
        ]
        yield f"  {si(row['params']):>6} on {si(row['tokens']):>6}   {'   '.join(parts)}"
