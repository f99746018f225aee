"""The commands that fit laws and answer questions from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands.console import (
    AsJson,
    MethodName,
    Runs,
    Set,
    Source,
    app,
    load,
    open_runs,
)

if TYPE_CHECKING:
    import pandas as pd

    from fitting import Fits
    from fitting.decisions.serving import Demand, Prices
    from sweeper.analysis.big_run import BigRun
    from sweeper.analysis.forecast import Forecast

DespiteAlarm = Annotated[
    bool,
    typer.Option(
        "--despite-alarm",
        help="Extrapolate although the cheaper budgets do not predict the largest one.",
    ),
]


@app.command()
def fit(
    runs: Source,
    method: MethodName = "guarded",
    bootstrap: Annotated[
        int | None,
        typer.Option(
            "--bootstrap",
            help="Also the plain surface's constants, from so many resamplings.",
            metavar="N",
        ),
    ] = None,
    as_json: AsJson = False,
    despite_alarm: DespiteAlarm = False,
) -> None:
    """Fit every skill's optima and law, from a sweep or from any table of runs."""
    from sweeper.analysis.bootstrap import lines, resample

    fits = open_runs(runs, method).fits
    fits = fits.despite_alarm() if despite_alarm else fits
    drawn = resample(fits, bootstrap) if bootstrap is not None else {}
    if as_json:
        more = {"bootstrap": drawn} if drawn else {}
        print(_json(json.loads(fits.to_json()) | more) if more else fits.to_json())
        return
    print("\n".join([str(fits), *_remarks(fits), *lines(drawn)]))


@app.command()
def predict(
    runs: Source,
    flops: Annotated[float, typer.Option("--flops", help="Training budget in FLOPs.")],
    skill: Annotated[str | None, typer.Option("--skill", help="One skill; default all.")] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Also the optimum of a weighted mean: code=2,knowledge=1."),
    ] = None,
    front: Annotated[
        str | None, typer.Option("--front", help="Trade two skills: knowledge,code.")
    ] = None,
    inference_tokens: Annotated[
        float | None,
        typer.Option("--inference-tokens", help="Tokens to serve: least lifetime cost."),
    ] = None,
    generated_tokens: Annotated[
        float, typer.Option("--generated-tokens", help="Of those, generated one by one.")
    ] = 0.0,
    prices: Annotated[
        str | None,
        typer.Option(
            "--prices",
            help="Count money: DEVICE:PER_HOUR:MFU of training, prompts, generation, "
            "e.g. h100:2.5:0.4,h100:2.5:0.5,h100:2.5:0.01.",
        ),
    ] = None,
    target_loss: Annotated[
        float | None, typer.Option("--target-loss", help="Reach this loss (nats) instead.")
    ] = None,
    inference_flops: Annotated[
        float | None,
        typer.Option("--inference-flops", help="Per token served, answers sampled k times."),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Results per question, CSV or Parquet.")
    ] = None,
    tokens_per_param: Annotated[
        str | None, typer.Option("--tokens-per-param", help="Cost of these ratios: 20,100,500.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Write the run to start: YAML, and a folder for HF."),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", help="Spec of that run; default the directory's.")
    ] = None,
    set_: Set = None,
    method: MethodName = "guarded",
    as_json: AsJson = False,
    despite_alarm: DespiteAlarm = False,
) -> None:
    """Say which size and token count a budget is best spent on, per skill, and what to run."""
    from sweeper.analysis.forecast import Ask, forecast
    from sweeper.commands.forecast_text import lines
    from sweeper.spec.spec import AGGREGATE

    ask = Ask(
        flops=flops,
        skill=skill,
        weights=_weights(weights) if weights else None,
        front=_pair(front),
        demand=_demand(inference_tokens, generated_tokens),
        prices=_prices(prices),
        target_loss=target_loss,
        inference_flops=inference_flops,
        tokens_per_param=_numbers("--tokens-per-param", tokens_per_param),
        despite_alarm=despite_alarm,
    )
    opened = open_runs(runs, method)
    if despite_alarm:
        opened = replace(opened, fits=opened.fits.despite_alarm())
    asked = _questions(opened, questions) if inference_flops else None
    said = forecast(opened.fits, ask, aggregate=AGGREGATE, questions=asked)
    if config is not None or spec is not None:
        said = replace(said, run=_run(runs, opened, spec, set_, said))
    if said.run is not None and config is not None:
        said = replace(said, files=said.run.save(config))
    print(_json(said.to_dict()) if as_json else "\n".join(lines(said)))


SHOWN_ROWS = 10
"""Excluded rows printed to a terminal; `--json` has all."""


def _remarks(fits: Fits) -> list[str]:
    """What was left out and why, and what to know before trusting the numbers."""
    rows = [
        f"  row {row.row}: {row.reason}" for row in fits.excluded.head(SHOWN_ROWS).itertuples()
    ]
    more = len(fits.excluded) - len(rows)
    lines = ["left out:", *rows, *([f"  and {more} more"] if more else [])] if rows else []
    return lines + [f"note: {warning}" for warning in fits.warnings]


def _json(values: dict[str, Any]) -> str:
    from fitting.values import plain

    return json.dumps(plain(values), indent=2, allow_nan=False)


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    from sweeper.errors import SpecError

    try:
        return tuple(float(item) for item in text.split(",")) if text else ()
    except ValueError:
        raise SpecError(f"{option} {text!r}: write numbers, e.g. 20,100,500") from None


def _pair(text: str | None) -> tuple[str, str] | None:
    from sweeper.errors import SpecError

    if text is None:
        return None
    first, separator, second = text.partition(",")
    if not separator or first.strip() == second.strip():
        raise SpecError(f"--front {text!r}: name two skills, e.g. knowledge,code")
    return first.strip(), second.strip()


def _demand(tokens: float | None, generated: float) -> Demand | None:
    from fitting.decisions.serving import Demand
    from sweeper.errors import SpecError

    if tokens is None and generated == 0:
        return None
    whole = generated if tokens is None else tokens
    if not 0 <= generated <= whole < float("inf"):
        raise SpecError(
            f"--inference-tokens {whole:g}, of which --generated-tokens {generated:g}: give zero "
            "or more, finite, and no more generated than served in all"
        )
    return Demand(prompt_tokens=whole - generated, generated_tokens=generated)


def _prices(text: str | None) -> Prices | None:
    """Prices from up to three of DEVICE:PER_HOUR:MFU; prompts as training, generation as those."""
    from fitting.decisions.serving import Machine, Prices
    from sweeper.errors import SpecError
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


def _weights(text: str) -> dict[str, float]:
    """Read ``code=2,knowledge=1``."""
    from sweeper.errors import SpecError

    weights: dict[str, float] = {}
    for item in text.split(","):
        name, _, value = item.rpartition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            name = ""
        if not name.strip() or not math.isfinite(weights[name.strip()]):
            raise SpecError(f"--weights {text!r}: write SKILL=NUMBER,..., e.g. code=2,knowledge=1")
    return weights


def _questions(runs: Runs, file: Path | None) -> pd.DataFrame:
    """Results per question: a file's, or those the sweep kept."""
    from fitting import read_table
    from sweeper.errors import SpecError

    if file is not None:
        return read_table(file)
    if runs.results is None:
        raise SpecError(
            "--inference-flops: a table of runs has no results per question; give them by "
            "--questions FILE (columns params, tokens, skill, and nll, or passes and samples)"
        )
    return runs.results.questions()


def _run(
    runs: Path, opened: Runs, spec: Path | None, set_: list[str] | None, said: Forecast
) -> BigRun:
    """The run to start, at the optimum of the weighting, the skill, or the aggregate."""
    from sweeper.analysis.big_run import recommend
    from sweeper.errors import SpecError
    from sweeper.plan.speed import measured_in

    if spec is None and opened.results is None:
        raise SpecError(
            f"--config: {runs} is a table; say by --spec FILE which family, data and training "
            "the run is to have"
        )
    results = opened.results
    own = results.sweep if results and spec is None and not set_ else load(spec or runs, set_)
    measured = measured_in(results) if results else None
    losses = dict(opened.fits)
    return recommend(said.best, own, said.ask.flops, losses=losses, measured=measured)
