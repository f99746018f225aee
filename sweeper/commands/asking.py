"""What a person asks `predict`, from its options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeper.commands.console import items
from sweeper.errors import SpecError

if TYPE_CHECKING:
    from fitting.decisions.serving import Demand, Prices
    from sweeper.analysis.hardware import Hardware

QUOTED = "; a name with commas in double quotes"
"""Said where names are refused."""


def hardware(
    gpus: float | None,
    device: str,
    days: float | None,
    flops: float | None,
    mfu: float | None,
    price: float | None,
    target_loss: float | None,
) -> Hardware | None:
    """The devices that were asked about; with a budget, the days it takes them.

    With a loss to reach alone it is a day, as nobody knows the budget yet.
    """
    from sweeper.analysis.hardware import Hardware

    if gpus is None:
        given = {"--device": device, "--days": days, "--mfu": mfu, "--price-per-hour": price}
        together(given, {"--gpus": gpus})
        return None
    if not device:
        raise SpecError("--gpus: of which kind? e.g. --device h100, or --device 165e12:24e9")
    if (days is None) == (flops is None) and (days is not None or target_loss is None):
        raise SpecError(
            "--gpus: give --days (what can they train?), or --flops or --target-loss (how long?)"
        )
    if days is None:
        day = Hardware.of(gpus, device, 1.0, mfu=mfu)
        days = 1.0 if flops is None else flops / day.flops
    return Hardware.of(gpus, device, days, mfu=mfu, price_per_hour=price)


def together(given: Mapping[str, object], needed: Mapping[str, object]) -> None:
    """Refuse options that say nothing without another, of which none is there.

    Raises:
        SpecError: names both.
    """
    for option, value in given.items():
        if value and not any(needed.values()):
            raise SpecError(f"{option} goes with {' or '.join(needed)}: give that, too")


def allocation(
    params: float | None, tokens: float | None, flops: float | None
) -> tuple[float | None, float | None] | None:
    """The size and tokens whose loss is asked; one of them may follow from the budget."""
    if params is None and tokens is None:
        return None
    if flops is None and (params is None or tokens is None):
        missing = "--tokens" if tokens is None else "--params"
        raise SpecError(f"{missing}: give --params and --tokens, or one of them and --flops")
    return params, tokens


def nothing_asked() -> Exception:
    """The refusal of a question without one."""
    return SpecError(
        "predict: what is asked? A budget (--flops 1e21), devices (--gpus 8 --device h100 --days "
        "14), an allocation (--params 7B --tokens 2T), or a loss to reach (--target-loss 2.5)"
    )


def pair(text: str | None) -> tuple[str, str] | None:
    """Two skills of a front."""
    if text is None:
        return None
    names = items(text)
    if len(set(names)) != 2 or len(names) != 2:
        raise SpecError(f"--front {text!r}: name two skills, e.g. knowledge,code{QUOTED}")
    return names[0], names[1]


def demand(tokens: float | None, generated: float) -> Demand | None:
    """Tokens to serve, read and generated."""
    from fitting.decisions.serving import Demand

    if tokens is None and generated == 0:
        return None
    whole = generated if tokens is None else tokens
    if not 0 <= generated <= whole < float("inf"):
        raise SpecError(
            f"--inference-tokens {whole:g}, of which --generated-tokens {generated:g}: give zero "
            "or more, finite, and no more generated than served in all"
        )
    return Demand(prompt_tokens=whole - generated, generated_tokens=generated)


def prices(text: str | None) -> Prices | None:
    """Prices from up to three of DEVICE:PER_HOUR:MFU; prompts as training, generation as those."""
    from fitting.decisions.serving import Machine, Prices
    from sweeper.spec.devices import device_of

    if text is None:
        return None
    machines = []
    for item in text.split(","):
        name, *numbers = item.split(":")
        try:
            price, mfu = (float(number) for number in numbers)
        except ValueError:
            raise SpecError(
                f"--prices {item!r}: write DEVICE:PER_HOUR:MFU, e.g. h100:2.5:0.4"
            ) from None
        machines.append(Machine(price, device_of(name, field="--prices device").peak_flops, mfu))
    prompt = machines[1] if len(machines) > 1 else machines[0]
    generation = machines[2] if len(machines) > 2 else None
    return Prices.of_machines(machines[0], prompt=prompt, generation=generation)


def weights(text: str, option: str = "--weights") -> dict[str, float]:
    """Read ``code=2,knowledge=1``, as an option or argument of this name has it."""
    weights: dict[str, float] = {}
    for item in items(text):
        name, _, value = item.rpartition("=")
        if name.strip() in weights:
            raise SpecError(f"{option} {text!r}: {name.strip()} is there twice")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            name = ""
        if not name.strip() or not math.isfinite(weights[name.strip()]):
            raise SpecError(
                f"{option} {text!r}: write SKILL=NUMBER,..., e.g. code=2,knowledge=1{QUOTED}"
            )
    return weights
