"""Works out a plan: trials, FLOPs, memory, hours and money. Loads neither torch nor ray."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pandas as pd

from sweeper.plan.plan import Plan
from sweeper.plan.speed import Speed, devices_at_hand, devices_of, measured_in, speed_of
from sweeper.plan.warnings import cautions
from sweeper.search.grid import GridSearch
from sweeper.spec.placement import shown, working
from sweeper.spec.search import SearchSettings
from sweeper.spec.spec import Spec
from trainables.data import Data

if TYPE_CHECKING:
    from fitting.synthetic import World
    from sweeper.record.record import Record


def plan(
    sweep: Spec,
    *,
    simulate: bool = False,
    pilot: Record | None = None,
    tolerance: float | None = None,
    at: float | None = None,
    devices: int | None = None,
) -> Plan:
    """Work out a sweep's trials, FLOPs, tokens, memory and cost.

    Args:
        sweep: the spec.
        simulate: also run every policy once on a stand-in world, to say what intervals to
            expect; takes seconds.
        pilot: a sweep already run: its speed, and for simulations its losses and noise.
        tolerance: wanted half-width of the 90 % interval of ln p*, to ask which allowance gives
            it; takes half a minute.
        at: budget it is wanted on; None for every budget of the ladder.
        devices: at hand; None to count those of this machine.

    Raises:
        SpecError: the spec names a device nobody knows, or a number is not positive.
    """
    alike = pilot is not None and pilot.sweep.cluster.device == sweep.cluster.device
    speed = speed_of(sweep.cluster, measured_in(pilot) if pilot and alike else None)
    table = pd.DataFrame([_budget(sweep, flops, speed) for flops in sweep.budgets])
    price = math.nan if sweep.cluster.price_per_hour is None else sweep.cluster.price_per_hour
    costs = _policies(sweep, table, price).set_index("policy", drop=False)
    hours = min(_hours(sweep, table), float(costs.loc[sweep.search.policy, "hours"]))
    here = devices_at_hand(sweep.cluster) if devices is None else devices
    whole = Plan(
        table=table,
        trials=_trials(sweep),
        allowance=sweep.allowance,
        device_hours=hours,
        price=hours * price,
        device=sweep.cluster.device,
        placement=pd.DataFrame(
            list(shown(sweep.shapes, sweep.train, sweep.cluster.hardware, sweep.cluster.resources))
        ),
        speed=speed.source,
        devices=here,
        wall_hours=_wall_hours(sweep, table, hours, here),
        policies=costs.reset_index(drop=True),
        warnings=(*cautions(sweep),),
        scoring=sweep.scoring,
        shares=_moved(sweep.data),
    )
    if not simulate and tolerance is None:
        return whole
    from sweeper.plan.expected import needed, world_of

    world = world_of(sweep, None if pilot is None else pilot.fit())
    if simulate:
        whole = _simulated(whole, sweep, world, price)
    if tolerance is not None:
        whole = replace(whole, need=needed(sweep, world, tolerance=tolerance, at=at))
    return whole


def _wall_hours(sweep: Spec, table: pd.DataFrame, hours: float, devices: int) -> float:
    """Device-hours shared among the devices, but no less than the longest trial."""
    if not devices:
        return math.nan
    last = table.iloc[-1]
    alone = float(last["hours"]) / devices_of(sweep.cluster.rule(float(last["params"])))
    return max(hours / devices, alone)


def _policies(sweep: Spec, table: pd.DataFrame, price: float) -> pd.DataFrame:
    """What each policy would spend: the grids what they are made of, the adaptive one all."""
    rows = []
    for name in policies():
        if name == "adaptive":
            few, many = _affordable(sweep)
            trials, flops, hours = f"{few} to {many}", sweep.allowance, _hours(sweep, table)
        else:
            counts = _design(sweep, name)
            trials = str(sum(counts.values()))
            flops = sum(n * budget for budget, n in counts.items())
            hours = float(table["hours"] @ table["flops"].map(counts).fillna(0))
        rows.append(
            {"policy": name, "trials": trials, "flops": flops, "hours": hours}
            | {"price": hours * price}
        )
    return pd.DataFrame(rows)


def _hours(sweep: Spec, table: pd.DataFrame) -> float:
    """Device-hours of the allowance, spent on all budgets alike."""
    return sweep.allowance / sum(sweep.budgets) * float(table["hours"].sum())


def policies() -> tuple[str, ...]:
    """Names of the ways to search."""
    return tuple(get_args(get_type_hints(SearchSettings)["policy"]))


def _simulated(shown: Plan, sweep: Spec, world: World, price: float) -> Plan:
    """Add what one simulated sweep of each policy spends and finds."""
    from sweeper.plan.expected import NOISE, rehearsed

    hours_per_flop = shown.device_hours / shown.allowance
    rows, own = [], None
    for name in policies():
        found = rehearsed(sweep, world, policy=name)
        own = found if name == sweep.search.policy else own
        hours = found.flops * hours_per_flop
        rows.append(
            {"policy": name, "trials": str(len(found.trials)), "flops": found.flops}
            | {"hours": hours, "price": hours * price, "half_width": float(found.widths.max())}
        )
    assert own is not None
    counts = own.trials.groupby("flops").size().reindex(sweep.budgets, fill_value=0)
    expected = pd.DataFrame(
        {
            "flops": sweep.budgets,
            "trials": counts.to_numpy(),
            "half_width": own.widths.max(axis=0),
            "by_skill": [dict(zip(own.skills, row, strict=True)) for row in own.widths.T.tolist()],
        }
    )
    name = "the pilot's world"
    if world.name != "pilot":
        name = f"a stand-in world with noise of {NOISE:g} nats"
    return replace(
        shown,
        policies=pd.DataFrame(rows),
        expected=expected,
        world=name,
        efficiency=own.efficiency,
    )


def _moved(data: Data) -> dict[str, float]:
    """The mix, where shares or multipliers make it another than the default."""
    usual = replace(data, shares={}, multipliers={}).mix
    return {} if usual == data.mix else data.mix


def _budget(sweep: Spec, flops: float, speed: Speed) -> dict[str, Any]:
    space = sweep.space
    allowed = [space.params[i] for i in space.allowed(flops)]
    guess = math.sqrt(flops / 6 / sweep.search.tokens_per_param)
    allocation = space.allocation(flops, min(max(guess, allowed[0]), allowed[-1]))
    trial = sweep.trial(allocation)
    batch_tokens = trial.recipe.batch * sweep.model.context
    rule = sweep.cluster.rule(allocation.params)

    def most_epochs(tokens: int) -> float:
        return max(sweep.epochs(tokens).values(), default=0.0)

    return {
        "flops": flops,
        "sizes": len(allowed),
        "params_low": allowed[0],
        "params_high": allowed[-1],
        "params": allocation.params,
        "tokens": allocation.tokens,
        "tokens_per_param": allocation.tokens / allocation.params,
        "steps": trial.recipe.steps,
        "memory_bytes": working(
            trial.shape, batch_tokens, trial.train, sweep.cluster.hardware, rule
        ).total,
        "gpus": rule.devices,
        "hours": speed.hours(flops, allocation.params),
        "epochs": most_epochs(allocation.tokens),
        "epochs_most": most_epochs(space.tokens(flops, space.allowed(flops)[0])),
    }


def _trials(sweep: Spec) -> tuple[int, int]:
    """Fewest and most trials of the spec's policy."""
    if sweep.search.policy == "adaptive":
        return _affordable(sweep)
    affordable, left = 0, sweep.allowance
    for flops, wanted in _design(sweep, sweep.search.policy).items():
        here = min(wanted, int(left / flops))
        affordable, left = affordable + here, left - here * flops
    return affordable, affordable


def _affordable(sweep: Spec) -> tuple[int, int]:
    """Trials the allowance pays for on the dearest budget alone, and on the cheapest."""
    return int(sweep.allowance / sweep.budgets[-1]), int(sweep.allowance / sweep.budgets[0])


def _design(sweep: Spec, policy: str) -> dict[float, int]:
    """Trials per budget of a policy that fixes them."""
    mixes = max(len(sweep.mixes), 1)
    if policy == "grid":
        foreseen = GridSearch(sweep.search, sweep.space).foreseen()
        return {flops: n * mixes for flops, n in foreseen.items()}
    return dict.fromkeys(sweep.budgets, sweep.search.sizes_per_budget * mixes)
