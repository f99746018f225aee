"""A forecast as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.text import si

if TYPE_CHECKING:
    from sweeper.analysis.forecast import Forecast, Values


def lines(said: Forecast) -> list[str]:
    """The lines of one forecast."""
    skills = said.skills
    shown = [f"{name:<24} {_optimum(one)}" for name, one in skills.items() if "params" in one]
    shown += _block("A wrong size on the same budget costs (nats, share of the FLOPs):", [
        f"{name:<24} {_costs(one['choices'], 'factor', 'x{:g}')}"
        for name, one in skills.items() if "choices" in one
    ])  # fmt: skip
    shown += _block("Other tokens per parameter cost:", [
        f"{name:<24} {_costs(one['ratios'], 'tokens_per_param', '{:g} t/p')}"
        for name, one in skills.items() if "ratios" in one
    ])  # fmt: skip
    shown += _block("Least lifetime cost (by the plain surface):", [
        f"{name:<24} {_serving(one['serving'])}" for name, one in skills.items()
        if "serving" in one
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
    if any(one.get("status") == "no-common-law" for one in skills.values()):
        shown.append("note: --despite-alarm extrapolates all the same")
    return shown


def _block(title: str, rows: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {row}" for row in rows)] if rows else []


def _refusal(values: Any) -> str:
    return f"no number: {values['status']} ({values['reason']})"


def _optimum(one: Values) -> str:
    if one["status"] != "ok":
        return _refusal(one) + _beyond(one)
    low, high = one["interval"]
    return (
        f"{si(one['params'])} params on {si(one['tokens'])} tokens "
        f"(90 %: {si(low)} to {si(high)}; {one['method']}{_beyond(one)})"
    )


def _beyond(one: Values) -> str:
    factor = one["extrapolates"]
    return f", {factor:.3g}x beyond the data" if factor > 1 else ""


def _costs(rows: Any, key: str, form: str) -> str:
    if isinstance(rows, dict):
        return _refusal(rows)
    return "   ".join(
        f"{form.format(row[key])}: +{max(row['excess'], 0):.2g} ({row['wasted']:.0%})"
        for row in rows
    )


def _serving(one: Values) -> str:
    if one["status"] != "ok":
        return _refusal(one)
    low, high = one["interval"]
    known = f"90 %: {si(low)} to {si(high)}" if high < float("inf") else "no interval"
    reach = (
        f"{si(one['params'])} params ({known}) on {si(one['tokens'])} tokens reach "
        f"{one['loss']:.4g} nats for {one['cost']:.3g} {_unit(one)}"
    )
    if not one["demand_tokens"]:
        return f"{reach}; nothing is served{_beyond(one)}"
    return (
        f"{reach}, {one['saving']:.1%} less than {si(one['compute_optimal_params'])} on "
        f"{si(one['compute_optimal_tokens'])}{_beyond(one)}"
    )


def _unit(one: Values) -> str:
    return "FLOPs" if one["unit"] == "flops" else "in money"


def _sampling(name: str, both: Values) -> Iterator[str]:
    for law, one in both.items():
        title = {"nll": "T^2, loss of the best of k", "pass_rate": "T^2, pass@k"}[law]
        if one["status"] != "ok":
            yield f"{name}: {title}: {_refusal(one)}"
            continue
        yield (
            f"{name}: {title}: {si(one['params'])} params on {si(one['tokens'])} tokens "
            f"({one['tokens_per_param']:.3g} per param), k = {one['k']:.3g}, "
            f"{one['quantity']} {one['value']:.4g}{_beyond(one)}"
        )
        for row in one["frontier"]:
            usual = f"{row['chinchilla_value']:.4g} at {si(row['chinchilla_params'])}"
            if row["chinchilla_status"] != "ok":
                usual = f"{row['chinchilla_status']} ({si(row['chinchilla_params'])})"
            yield (
                f"    train {row['train_flops']:.2g}, serve {row['inference_flops']:.2g}: "
                f"{si(row['params'])}, {row['tokens_per_param']:.3g} t/p, k {row['k']:.3g}: "
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
