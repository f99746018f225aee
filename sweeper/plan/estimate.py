"""Works out a plan: trials, FLOPs, memory, hours and money. Loads neither torch nor ray."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fitting import Fits
from fitting.synthetic import World
from sweeper.budget import Allocation
from sweeper.errors import SpecError
from sweeper.plan.plan import Plan
from sweeper.plan.recipe import allocations, recipe_lines
from sweeper.plan.speed import NEAR, Speed, devices_at_hand, held, measured_in, speed_of, trained
from sweeper.plan.warnings import cautions
from sweeper.record.record import Record
from sweeper.search.grid import GridSearch
from sweeper.spec.devices import device_of
from sweeper.spec.spec import Spec
from sweeper.text import duration, plural

LONGEST = 1.5
"""A trial that lasts longer than all others together by this factor is warned of (assumption)."""

THINNING = 0.6
"""Searches train in proportion to C^-THINNING on a budget C: of .45 to 1.1 in the demo and in four
sweeps of own text (benchmarks/results/own_text.md)."""

AROUND_S = {"cpu": 25.0, "gpu": 60.0}
"""Seconds of a sweep before the first and after the last training: Ray, processes, fits, report
(assumption; a first run on a CPU under load took about as much)."""


def plan(
    spec: Spec,
    *,
    simulate: bool = False,
    pilot: Record | Fits | None = None,
    tolerance: float | None = None,
    at: float | None = None,
    devices: int | None = None,
    measured: pd.DataFrame | None = None,
) -> Plan:
    """Work out a sweep's trials, FLOPs, tokens, memory and cost; see `Sweep.plan`.

    Without a pilot, ``measured`` trials of this machine (`sweeper.plan.measured`) give the speed.
    """
    if not isinstance(pilot, Record | Fits | None):
        raise SpecError(f"pilot: give Results(DIRECTORY), or the fits of a table, got {pilot!r}")
    if devices is not None and devices < 0:
        raise SpecError(f"devices={devices}: how many are at hand, or 0 where that is not known")
    record = pilot if isinstance(pilot, Record) else None
    alike = record is not None and record.sweep.cluster.device == spec.cluster.device
    speed = speed_of(spec.cluster, measured_in(record) if record and alike else measured)
    whole = _without_simulation(spec, speed, devices)
    if not simulate and tolerance is None:
        return whole
    from sweeper.plan.expected import needed, world_of

    world = world_of(spec, pilot.fit() if isinstance(pilot, Record) else pilot)
    if simulate:
        whole = _with_simulation(whole, spec, world)
    if tolerance is not None:
        whole = replace(whole, need=needed(spec, world, tolerance=tolerance, at=at))
    return whole


def _without_simulation(spec: Spec, speed: Speed, devices: int | None) -> Plan:
    table = pd.DataFrame([_budget(spec, flops, speed) for flops in spec.budgets])
    price, designs = _price(spec), _designs(spec)
    costs = _policies(spec, table, designs)
    own = costs.set_index("policy").loc[spec.search.policy]
    hours = min(_hours(spec, table), float(own["hours"]))
    here = devices_at_hand(spec.cluster) if devices is None else devices
    return Plan(
        table=table,
        trials=_trials(spec, designs),
        allowance=spec.allowance,
        device_hours=hours,
        price=hours * price,
        device=str(spec.cluster.device),
        placement=pd.DataFrame(list(spec.placement.rows(spec.rungs))),
        speed=speed.source,
        devices=here,
        wall_hours=_wall_hours(spec, table, hours, here),
        policies=costs.assign(price=costs["hours"] * price),
        warnings=(*cautions(spec), *_waiting(spec, table, hours, here, speed)),
        scoring=spec.scoring,
        recipe=recipe_lines(spec),
    )


def _price(spec: Spec) -> float:
    """Money per hour and device; NaN where it was not said."""
    price = spec.cluster.price_per_hour
    return math.nan if price is None else price


def side_by_side(spec: Spec, devices: Sequence[str]) -> pd.DataFrame:
    """What the same sweep takes on several devices.

    Returns:
        One row per device: ``device, hours`` (of one device, the whole allowance),
        ``wall_hours`` (on ``cluster.gpus`` of them, or one), ``longest_hours`` (of one
        trial), ``gpus`` (of the largest trial), ``price`` (NaN without ``price_per_hour``);
        ``reason`` where a trial does not fit.

    Raises:
        SpecError: a device nobody knows.
    """
    rows: list[dict[str, Any]] = []
    for name in devices:
        device_of(name, field="--devices")
        try:
            on = replace(spec, cluster=replace(spec.cluster, device=name))
            found = plan(on, devices=spec.cluster.gpus or 1)
        except SpecError as error:
            rows.append({"device": name, "reason": str(error)})
            continue
        rows.append(
            {
                "device": name,
                "hours": found.device_hours,
                "wall_hours": found.wall_hours,
                "longest_hours": float(found.table["wall_hours"].max()),
                "gpus": on.placement.rule(on.space.params[-1]).devices,
                "price": found.price,
                "reason": "",
            }
        )
    return pd.DataFrame(rows)


def _wall_hours(spec: Spec, table: pd.DataFrame, hours: float, devices: int) -> float:
    """Device-hours shared among the devices, and the closing check, which trains alone."""
    if not devices:
        return math.nan
    longest = float(table["wall_hours"].iloc[-1])
    return around_s(spec) / 3600 + hours / devices + longest * (devices > 1)


def around_s(spec: Spec) -> float:
    """Seconds that a sweep takes around its trainings."""
    return AROUND_S["gpu" if spec.cluster.hardware.is_gpu else "cpu"]


def _waiting(
    spec: Spec, table: pd.DataFrame, hours: float, devices: int, speed: Speed
) -> Iterator[str]:
    """Warn where the longest trial outlasts all others together, with the limit that helps."""
    alone = longest = float(table["wall_hours"].iloc[-1])
    if spec.cluster.resources or not spec.cluster.hardware.is_gpu or not devices:
        return
    best, limit = spec, alone
    while longest > LONGEST * hours / devices:
        limit /= 2
        tried = replace(spec, cluster=replace(spec.cluster, max_trial_hours=limit))
        taken = float(_budget(tried, spec.budgets[-1], speed)["wall_hours"])
        if taken > 0.9 * longest:
            break
        best, longest = tried, taken
    if best is not spec:
        gpus = max(best.placement.rule(p).devices for p in best.space.params)
        yield (
            f"the longest trial takes {duration(3600 * alone)}, all together "
            f"{duration(3600 * hours / devices)} on {plural(devices, 'device')}; cluster: "
            f"{{max_trial_hours: {best.cluster.max_trial_hours:.3g}}} gives the largest trials "
            f"{plural(gpus, 'GPU')} each and the longest {duration(3600 * longest)}"
        )


def _policies(
    spec: Spec, table: pd.DataFrame, designs: Mapping[str, Mapping[float, int]]
) -> pd.DataFrame:
    """What each policy would spend: the grids what they are made of, the adaptive one all."""
    few, many = _affordable(spec)
    rows = [
        {"policy": "adaptive", "trials": f"{few} to {many}", "flops": spec.allowance}
        | {"hours": _hours(spec, table)}
    ]
    for name, counts in designs.items():
        flops = sum(n * budget for budget, n in counts.items())
        hours = float(table["hours"] @ table["flops"].map(counts).fillna(0))
        rows.append(
            {"policy": name, "trials": str(sum(counts.values())), "flops": flops, "hours": hours}
        )
    return pd.DataFrame(rows)


def _hours(spec: Spec, table: pd.DataFrame) -> float:
    """Device-hours of the allowance, spent as searches do."""
    flops = np.array(spec.budgets)
    trials = flops**-THINNING
    return float(spec.allowance * (trials @ table["hours"]) / (trials @ flops))


def _with_simulation(shown: Plan, spec: Spec, world: World) -> Plan:
    """Add what one simulated sweep of each policy spends and finds."""
    from sweeper.plan.expected import NOISE, simulate_policy

    hours_per_flop, price = shown.device_hours / shown.allowance, _price(spec)
    rows, own = [], None
    for name in shown.policies["policy"]:
        found = simulate_policy(spec, world, policy=name)
        own = found if name == spec.search.policy else own
        hours = found.flops * hours_per_flop
        rows.append(
            {"policy": name, "trials": str(len(found.trials)), "flops": found.flops}
            | {"hours": hours, "price": hours * price, "half_width": float(found.widths.max())}
        )
    assert own is not None
    counts = own.trials.groupby("flops").size().reindex(spec.budgets, fill_value=0)
    expected = pd.DataFrame(
        {
            "flops": spec.budgets,
            "trials": counts.to_numpy(),
            "half_width": own.widths.max(axis=0),
            "by_skill": [dict(zip(own.skills, row, strict=True)) for row in own.widths.T.tolist()],
        }
    )
    name = "the pilot's world"
    if world.name != "pilot":
        name = f"a stand-in world with noise of {NOISE:g} nats"
    if len(spec.spaces) > 1:
        name += ", alike under every mix or variant"
    return replace(
        shown,
        policies=pd.DataFrame(rows),
        expected=expected,
        simulated=own.trials[["flops", "params", "tokens"]].reset_index(drop=True),
        world=name,
    )


def _budget(spec: Spec, flops: float, speed: Speed) -> dict[str, Any]:
    space, guess = spec.space, spec.search.guess(flops)
    low, allocation, high = allocations(spec, flops)
    steps, memory_bytes = _working(spec, allocation)
    allowed = space.allowed(flops)
    near = [i for i in allowed if 1 / NEAR < space.params[i] / guess < NEAR]
    taken = [
        _taken(spec, flops, i, speed) for i in near or [space.params.index(allocation.params)]
    ]
    epochs = [max(spec.epochs(a.tokens).values(), default=0.0) for a in (allocation, low)]
    return {
        "flops": flops,
        "sizes": len(allowed),
        "params_low": low.params,
        "params_high": high.params,
        "params": allocation.params,
        "tokens": allocation.tokens,
        "tokens_per_param": allocation.tokens / allocation.params,
        "steps": steps,
        "memory_bytes": memory_bytes,
        "gpus": spec.placement.rule(allocation.params).devices,
        "hours": float(np.mean([hours for hours, _ in taken])),
        "wall_hours": max(wall for _, wall in taken),
        "epochs": epochs[0],
        "epochs_most": epochs[1],
    }


def _taken(spec: Spec, flops: float, index: int, speed: Speed) -> tuple[float, float]:
    """Device-hours and wall hours of a trial, by its size's place in the ladder."""
    space = spec.space
    params, rule = space.params[index], spec.placement.rule(space.params[index])
    model = trained(spec, params, space.tokens(flops, index))
    wall_hours = speed.wall_s(flops, params, spec.placement, model) / 3600
    return wall_hours * held(rule), wall_hours


def _working(spec: Spec, allocation: Allocation) -> tuple[float, float]:
    """Steps of a trial, and bytes that each of its devices holds; NaN where a trainer decides."""
    if spec.trainer is not None:
        steps = spec.foreign_trial(allocation).recipe.get("steps", math.nan)
        return float(steps), math.nan
    trial = spec.own_trial(allocation)
    batch_tokens = trial.recipe.batch * spec.model.context
    held = spec.placement.memory(trial.shape, allocation.params, batch_tokens)
    return trial.recipe.steps, held.total


def _trials(spec: Spec, designs: Mapping[str, Mapping[float, int]]) -> tuple[int, int]:
    """Fewest and most trials of the spec's policy."""
    if spec.search.policy not in designs:
        return _affordable(spec)
    affordable, left = 0, spec.allowance
    for flops, wanted in designs[spec.search.policy].items():
        here = min(wanted, int(left / flops))
        affordable, left = affordable + here, left - here * flops
    return affordable, affordable


def _affordable(spec: Spec) -> tuple[int, int]:
    """Trials the allowance pays for on the most expensive budget alone, and on the cheapest."""
    return int(spec.allowance / spec.budgets[-1]), int(spec.allowance / spec.budgets[0])


def _designs(spec: Spec) -> dict[str, dict[float, int]]:
    """Trials per budget of the policies that fix them; Optuna's knows no mixes."""
    mixes = len(spec.spaces)
    foreseen = GridSearch(spec.search, spec.space).foreseen()
    designs = {"grid": {flops: n * mixes for flops, n in foreseen.items()}}
    if mixes == 1:
        designs["optuna"] = dict.fromkeys(spec.budgets, spec.search.sizes_per_budget)
    return designs
