"""What a sweep will do and cost, before a FLOP is spent. Loads neither torch nor ray."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pandas as pd

from sweeper.plan.warnings import cautions
from sweeper.search.grid import GridSearch
from sweeper.spec.devices import Speed, devices_at_hand, devices_of, measured_in, speed_of
from sweeper.spec.placement import shown, working
from sweeper.spec.scoring import Scoring
from sweeper.spec.search import SearchSettings
from sweeper.spec.spec import Sweep
from trainables.config import Data

if TYPE_CHECKING:
    from fitting.synthetic import World
    from sweeper.plan.expected import Need
    from sweeper.record.record import Results


@dataclass(frozen=True)
class Plan:
    """A sweep's cost and shape.

    Attributes:
        table: one row per budget: ``flops, sizes, params_low, params_high, params, tokens,
            tokens_per_param, steps, memory_bytes, gpus, hours`` (memory of each device, hours of
            one device, for one trial); ``params`` is the guessed optimum's realisable size;
            ``epochs`` is how often its trial sees the class of a prepared corpus that is repeated
            most, ``epochs_most`` the smallest size's.
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
        wall_hours: least time the allowance takes on them; NaN if they are not known.
        policies: what each way of searching costs: ``policy, trials, flops, hours, price``, and
            from a simulated sweep of each, where asked for, ``half_width``, that of the widest
            90 % interval of ln p*.
        expected: from one simulated sweep, where it was asked for: one row per budget with
            ``flops, trials, half_width`` of the widest skill, and ``by_skill``.
        world: what was simulated, in words.
        efficiency: share of the simulated FLOPs that the best possible design would need
            (c-optimal bound); NaN where unknown.
        need: the allowance that a tolerance needs, where asked for.
        warnings: what to think twice about, a sentence each.
        scoring: what measuring the skills adds; None where losses are simulated.
        shares: of documents per class, where the spec moves them from what they are by default.
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
    world: str = ""
    efficiency: float = math.nan
    need: Need | None = None
    warnings: tuple[str, ...] = ()
    scoring: Scoring | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as JSON."""
        values: dict[str, Any] = {
            "trials": list(self.trials),
            "allowance": self.allowance,
            "device": self.device,
            "device_hours": self.device_hours,
            "price": self.price,
            "speed": self.speed,
            "devices": self.devices,
            "wall_hours": self.wall_hours,
            "policies": self.policies.to_dict(orient="records"),
            "budgets": self.table.to_dict(orient="records"),
            "placement": self.placement.to_dict(orient="records"),
            "warnings": list(self.warnings),
            "scoring": None if self.scoring is None else asdict(self.scoring),
            "shares": dict(self.shares),
        }
        if self.expected is not None:
            values["expected"] = self.expected.to_dict(orient="records")
            values |= {"world": self.world, "efficiency": self.efficiency}
        if self.need is not None:
            values["need"] = {**asdict(self.need), "possible": self.need.possible}
        return json.dumps(_plain(values), indent=2, allow_nan=False)

    def __str__(self) -> str:
        """The plan as a terminal shows it."""
        from sweeper.plan.text import text

        return text(self)

    def _repr_html_(self) -> str:
        from sweeper.plan.text import columns

        words = str(self).partition("\n\n")[2].replace("\n", "<br>")
        return f"{columns(self.table).to_html(index=False)}<p>{words}</p>"


def plan(
    sweep: Sweep,
    *,
    simulate: bool = False,
    pilot: Results | None = None,
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


def _wall_hours(sweep: Sweep, table: pd.DataFrame, hours: float, devices: int) -> float:
    """Device-hours shared among the devices, but no less than the longest trial."""
    if not devices:
        return math.nan
    last = table.iloc[-1]
    alone = float(last["hours"]) / devices_of(sweep.cluster.rule(float(last["params"])))
    return max(hours / devices, alone)


def _policies(sweep: Sweep, table: pd.DataFrame, price: float) -> pd.DataFrame:
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


def _hours(sweep: Sweep, table: pd.DataFrame) -> float:
    """Device-hours of the allowance, spent on all budgets alike."""
    return sweep.allowance / sum(sweep.budgets) * float(table["hours"].sum())


def policies() -> tuple[str, ...]:
    """Names of the ways to search."""
    return tuple(get_args(get_type_hints(SearchSettings)["policy"]))


def _simulated(shown: Plan, sweep: Sweep, world: World, price: float) -> Plan:
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


def _budget(sweep: Sweep, flops: float, speed: Speed) -> dict[str, Any]:
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


def _trials(sweep: Sweep) -> tuple[int, int]:
    """Fewest and most trials of the spec's policy."""
    if sweep.search.policy == "adaptive":
        return _affordable(sweep)
    affordable, left = 0, sweep.allowance
    for flops, wanted in _design(sweep, sweep.search.policy).items():
        here = min(wanted, int(left / flops))
        affordable, left = affordable + here, left - here * flops
    return affordable, affordable


def _affordable(sweep: Sweep) -> tuple[int, int]:
    """Trials the allowance pays for on the dearest budget alone, and on the cheapest."""
    return int(sweep.allowance / sweep.budgets[-1]), int(sweep.allowance / sweep.budgets[0])


def _design(sweep: Sweep, policy: str) -> dict[float, int]:
    """Trials per budget of a policy that fixes them."""
    mixes = max(len(sweep.mixes), 1)
    if policy == "grid":
        foreseen = GridSearch(sweep.search, sweep.space).foreseen()
        return {flops: n * mixes for flops, n in foreseen.items()}
    return dict.fromkeys(sweep.budgets, sweep.search.sizes_per_budget * mixes)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
