"""A plan as a terminal shows it: a table of budgets, and a line for whatever else matters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from sweeper.budget import si
from sweeper.spec.placement import gigabytes
from sweeper.spec.scoring import Scoring

if TYPE_CHECKING:
    from sweeper.plan.plan import Plan


def text(plan: Plan) -> str:
    """The whole plan."""
    few, many = plan.trials
    count = f"{few}" if few == many else f"{few} to {many}"
    money = "" if math.isnan(plan.price) else f", {plan.price:,.2f} in money"
    return "\n".join(
        [
            columns(plan.table).to_string(index=False),
            "",
            f"{count} trials within {plan.allowance:.3g} FLOPs: "
            f"{plan.device_hours:.3g} {plan.device} hours{money} ({plan.speed})",
            _wall(plan),
            *_costs(plan),
            *_documents(plan),
            *_measuring(plan.scoring),
            *_placed(plan),
            *(f"warning: {warning}" for warning in plan.warnings),
            *_expectation(plan),
            *(["", str(plan.need)] if plan.need else []),
        ]
    )


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """What is shown of the budgets, in words."""
    shown = pd.DataFrame(
        {
            "budget": [f"{v:.3g}" for v in table["flops"]],
            "sizes": table["sizes"],
            "from": [si(v) for v in table["params_low"]],
            "to": [si(v) for v in table["params_high"]],
            "guess p*": [si(v) for v in table["params"]],
            "tokens": [si(v) for v in table["tokens"]],
            "t/p": [f"{v:.3g}" for v in table["tokens_per_param"]],
            "steps": table["steps"],
            "memory": [gigabytes(v) for v in table["memory_bytes"]],
            "time": [_duration(v) for v in table["hours"]],
        }
    )
    if (table["gpus"] > 0).any():
        shown.insert(9, "GPUs", [_gpus(v) for v in table["gpus"]])
    if (table["epochs_most"] > 0).any():
        pairs = zip(table["epochs"], table["epochs_most"], strict=True)
        shown["epochs"] = [f"{guess:.2g} (to {most:.2g})" for guess, most in pairs]
    return shown


def _documents(plan: Plan) -> list[str]:
    parts = ", ".join(f"{name} {share:.3g}" for name, share in plan.shares.items())
    return [f"shares of documents: {parts}"] if parts else []


def _placed(plan: Plan) -> list[str]:
    if plan.placement.empty:
        return []
    return ["", f"Trials on {plan.device} GPUs, by size:"] + [
        f"  {si(row.params_low):>5} to {si(row.params_high):<5}  {_holding(row):<28} the "
        f"largest needs {gigabytes(row.memory_bytes)} of {gigabytes(row.device_bytes)}"
        + row.recompute
        * ", recomputing blocks"
        for row in plan.placement.itertuples()
    ]


def _wall(plan: Plan) -> str:
    if not plan.devices:
        return (
            "wall time: not known, as no such device is seen from here; state cluster.gpus or "
            "cluster.cpus, or ask the cluster with --ask-cluster"
        )
    return f"wall time: {_duration(plan.wall_hours)} or more on {plan.devices} device(s) at hand"


def _costs(plan: Plan) -> Iterator[str]:
    for row in plan.policies.itertuples():
        money = "" if math.isnan(row.price) else f", {row.price:,.2f} in money"
        width = getattr(row, "half_width", math.nan)
        found = f", p* to within x/÷ {math.exp(width):.3g}" if math.isfinite(width) else ""
        yield (
            f"policy {row.policy}: {row.trials} trials, {row.flops:.3g} FLOPs, "
            f"{row.hours:.3g} hours{money}{found}"
        )


def _expectation(plan: Plan) -> list[str]:
    if plan.expected is None:
        return []
    lines = ["", f"Expected of one simulated sweep in {plan.world}:"]
    for row in plan.expected.itertuples():
        skills = ", ".join(f"{s} x/÷ {math.exp(w):.3g}" for s, w in row.by_skill.items())
        lines.append(
            f"  C={row.flops:.3g}: {row.trials} trials, p* to within "
            f"x/÷ {math.exp(row.half_width):.3g} (90 %, widest skill; {skills})"
        )
    if math.isfinite(plan.efficiency):
        lines.append(
            f"  The best possible design would need {plan.efficiency:.0%} of these FLOPs."
        )
    return lines


def _measuring(cost: Scoring | None) -> Iterator[str]:
    """The line about what scoring adds."""
    if cost is not None:
        yield (
            f"scoring {si(cost.tokens)} tokens ({cost.documents} documents per class) adds "
            f"{cost.least:.2%} to {cost.most:.2%} to a trial's FLOPs"
        )


def _holding(row: Any) -> str:
    """What a trial holds, in words."""
    if 0 < row.gpus < 1:
        return f"{1 / row.gpus:.0f} share a GPU"
    return "a GPU each" if row.gpus == 1 else f"{row.gpus:g} GPUs each" + row.sharded * ", sharded"


def _gpus(number: float) -> str:
    return f"1/{1 / number:.0f}" if 0 < number < 1 else f"{number:g}"


def _duration(hours: float) -> str:
    for unit, size in (("d", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 1.5 * size:
            return f"{hours / size:.3g} {unit}"
    return f"{hours * 3600:.3g} s"
