"""The commands that fit laws and answer questions from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands import asking
from sweeper.commands.console import (
    NO_NUMBER,
    AsJson,
    Columns,
    MethodName,
    Rows,
    Runs,
    Set,
    Source,
    amounts,
    app,
    load,
    open_runs,
    opt,
    quantity,
    show,
    written,
)
from sweeper.errors import SpecError
from sweeper.text import number

if TYPE_CHECKING:
    import pandas as pd

    from fitting import Fits
    from sweeper.analysis.big_run import BigRun
    from sweeper.analysis.forecast import Ask, Forecast
    from sweeper.analysis.foreign_run import ForeignRun
    from sweeper.spec.spec import Spec


@app.command()
def fit(
    runs: Source,
    columns: Columns = None,
    where: Rows = None,
    method: MethodName = "guarded",
    as_json: AsJson = False,
) -> None:
    """Fit best sizes and laws, from a sweep or a table of runs."""
    opened = open_runs(runs, method, columns, where)
    fits = opened.fits
    if as_json:
        print(_json(_fitted(opened, fits)))
    else:
        show([*opened.line(), *_answer(opened), *_remarks(fits)])
    # One that is marked is a number, too, as in `predict`.
    if not any(math.isfinite(at.params) for one in fits.values() for at in one.optima):
        raise typer.Exit(NO_NUMBER)


def _answer(opened: Runs) -> list[str]:
    """Sizes and laws, and what the intervals allow one to say of skill against skill."""
    from sweeper.analysis.conclusions import comparisons
    from sweeper.analysis.summary import summary
    from sweeper.analysis.weak import weak_in, weak_skills
    from sweeper.spec.spec import AGGREGATE

    fits, known = opened.fits, AGGREGATE if AGGREGATE in opened.fits else None
    weak = weak_in(opened.results, fits) if opened.results else weak_skills(fits)
    said = [f"* {sentence}" for sentence in comparisons(fits, known, weak=weak)]
    return [*summary(fits), *([""] if said else []), *said]


def _fitted(opened: Runs, fits: Fits) -> dict[str, Any]:
    """What a script may want: what was read and left out, and per skill optima, law, grade."""
    content: dict[str, Any] = json.loads(fits.to_json())
    for values in content["skills"].values():
        for optimum in values["optima"]:
            optimum["low"], optimum["high"] = optimum["interval"]
    excluded = content["observations"]["excluded"]
    rows = [dict(zip(excluded, row, strict=True)) for row in zip(*excluded.values(), strict=True)]
    return {**opened.to_dict(), "excluded": rows, **content}


@app.command()
def predict(
    runs: Source,
    flops: float | None = quantity("--flops", "Training budget in FLOPs."),
    gpus: float | None = quantity(
        "--gpus", "Or this many devices, for --days; how long --flops or --target-loss take them."
    ),
    device: str = opt("--device", "Their kind: h100, rtx4090 ..., or PEAK:MEMORY.", ""),
    days: float | None = quantity("--days", "For how many days."),
    mfu: float | None = quantity("--mfu", "Share of their peak that training reaches."),
    price: float | None = quantity("--price-per-hour", "Money per device and hour."),
    params: float | None = quantity("--params", "The loss of this size, with --tokens."),
    tokens: float | None = quantity("--tokens", "Tokens of that training."),
    skill: str | None = opt("--skill", "One skill; default all."),
    weights: str | None = opt(
        "--weights",
        "Also the optimum of a weighted mean: code=2,knowledge=1; names with commas in double "
        "quotes: '\"a,b\"=2,code=1'.",
    ),
    front: str | None = opt("--front", "Trade two skills: knowledge,code, or '\"a,b\",code'."),
    inference_tokens: float | None = quantity(
        "--inference-tokens", "Tokens to serve: least lifetime cost."
    ),
    generated_tokens: float = quantity(
        "--generated-tokens", "Of those, generated one by one.", 0.0
    ),
    prices: str | None = opt(
        "--prices",
        "Count money: DEVICE:PER_HOUR:MFU of training, prompts, generation, "
        "e.g. h100:2.5:0.4,h100:2.5:0.5,h100:2.5:0.01.",
    ),
    target_loss: float | None = quantity("--target-loss", "Least cost to reach this loss (nats)."),
    inference_flops: float | None = quantity(
        "--inference-flops", "Per token served, answers sampled k times."
    ),
    questions: Path | None = opt("--questions", "Results per question, CSV or Parquet."),
    tokens_per_param: str | None = opt("--tokens-per-param", "Cost of these ratios: 20,100,500."),
    config: Path | None = opt("--config", "Write the run to start: YAML, and a folder for HF."),
    spec: Path | None = opt("--spec", "Spec of that run; default the directory's."),
    set_: Set = None,
    columns: Columns = None,
    where: Rows = None,
    method: MethodName = "guarded",
    as_json: AsJson = False,
    register: Path | None = written(
        "--register", "Keep the prediction in a new JSON file.", fresh=True
    ),
) -> None:
    """Say what to train on a budget, or on devices for some days."""
    from sweeper.analysis.forecast import Ask, forecast
    from sweeper.commands.forecast_text import lines
    from sweeper.spec.spec import AGGREGATE

    hardware = asking.hardware(gpus, device, days, flops, mfu, price, target_loss)
    budget = hardware.flops if hardware is not None and days is not None else flops
    ask = Ask(
        flops=budget,
        hardware=hardware,
        allocation=asking.allocation(params, tokens, budget),
        skill=skill,
        weights=asking.weights(weights) if weights else None,
        front=asking.pair(front),
        demand=asking.demand(inference_tokens, generated_tokens),
        prices=asking.prices(prices),
        target_loss=target_loss,
        inference_flops=inference_flops,
        tokens_per_param=amounts("--tokens-per-param", tokens_per_param),
    )
    served = {"--inference-tokens": ask.demand, "--target-loss": target_loss}
    asking.together({"--prices": prices}, served)
    asking.together({"--questions": questions}, {"--inference-flops": inference_flops})
    asking.together({"--set": set_}, {"--config": config, "--spec": spec})
    if ask.flops is None and ask.allocation is None and ask.target_loss is None:
        raise asking.nothing_asked()
    opened = open_runs(runs, method, columns, where)
    asked = _questions(opened, questions) if inference_flops else None
    own = _spec_of_run(runs, opened, spec, set_, ask) if config or spec else None
    said = forecast(opened.fits, ask, aggregate=AGGREGATE, questions=asked)
    if own is not None:
        said = replace(said, run=_run(opened, own, said))
    if said.run is not None and config is not None:
        said = replace(said, files=said.run.save(config))
    if register is not None:
        from fitting.values import plain
        from sweeper.analysis.registered import register as keep

        keep(register, plain(said.to_dict()), opened.fits.observations.frame)
    if as_json:
        print(_json({**opened.to_dict(), **said.to_dict()}))
    else:
        show([*opened.line(), *lines(said)])
    if not _has_number(said):
        raise typer.Exit(NO_NUMBER)


@app.command()
def check(
    forecast: Annotated[Path, typer.Argument(help="What `predict --register` kept.")],
    losses: Annotated[
        list[str],
        typer.Argument(help="Losses measured since: code=2.31 knowledge=1.9 '\"a,b\"=2'."),
    ],
    as_json: AsJson = False,
) -> None:
    """Say how far off a kept prediction was."""
    from sweeper.analysis.registered import check as compare

    rows = compare(forecast, asking.weights(",".join(losses), "LOSSES"))
    if as_json:
        print(_json({"skills": rows}))
        return
    for row in rows:
        span = "" if row["held"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
        end = {True: "; the interval held", False: "; outside the interval", None: ""}[row["held"]]
        show([
            f"{row['skill']}: predicted {row['predicted']:.4g}{span}, measured "
            f"{row['measured']:.4g}: {100 * row['error']:+.2f} %{end}"
        ])  # fmt: skip


def _has_number(said: Forecast) -> bool:
    """Whether anything that was asked has an answer."""
    parts = ("allocation", "serving", "sampling")
    return any(
        math.isfinite(one.get("params", math.nan))
        or any(one[part].get("status", "ok") == "ok" for part in parts if part in one)
        for one in said.skills.values()
    )


MARKED = 6
"""Budgets that a note names."""

SHOWN_ROWS = 10
"""Excluded rows printed to a terminal; `--json` has all."""


TOGETHER = (
    "skills are fitted together, as how far budgets may leave a law is learnt from all of them: a "
    "skill fitted alone may have another interval"
)


def _remarks(fits: Fits) -> list[str]:
    """What was left out and why, and what to know before trusting the numbers."""
    rows = [
        f"  row {row.row}{f' ({row.trial_id})' if str(row.trial_id) else ''}: {row.reason}"
        for row in fits.excluded.head(SHOWN_ROWS).itertuples()
    ]
    more = len(fits.excluded) - len(rows)
    lines = ["left out:", *rows, *([f"  and {more} more"] if more else [])] if rows else []
    notes = [
        *fits.warnings,
        *_doubtful(fits),
        *([TOGETHER] if fits.method == "guarded" and len(fits) > 1 else []),
    ]
    return lines + [f"note: {note}" for note in notes]


def _doubtful(fits: Fits) -> list[str]:
    """Budgets whose optimum is no plain answer, by status, with the reason of the largest."""
    from sweeper.analysis.conclusions import status_word

    doubtful = {
        skill: [at for at in fit.optima if not at.ok and math.isfinite(at.params)]
        for skill, fit in fits.items()
    }
    said = []
    for skill, some in doubtful.items():
        for status in dict.fromkeys(at.status for at in some):
            alike = [at for at in some if at.status is status]
            shown = [number(at.flops) for at in alike]
            more = f" and {len(shown) - MARKED} more" if len(shown) > MARKED else ""
            each = f"at {number(alike[-1].flops)}: " if len(shown) > 1 else ""
            said.append(
                f"{skill}: {status_word(status)} at {', '.join(shown[:MARKED])}{more} FLOPs; "
                f"{each}{alike[-1].reason}"
            )
    return said


def _json(values: dict[str, Any]) -> str:
    from fitting.values import plain

    return json.dumps(plain(values), indent=2, allow_nan=False)


def _questions(runs: Runs, file: Path | None) -> pd.DataFrame:
    """Results per question: a file's, or those the sweep kept."""
    from fitting import read_table

    if file is not None:
        return read_table(file)
    if runs.results is None:
        raise SpecError(
            "--inference-flops: a table of runs has no results per question; give them by "
            "--questions FILE (columns params, tokens, skill, and nll, or passes and samples)"
        )
    return runs.results.questions()


def _spec_of_run(
    runs: str, opened: Runs, spec: Path | None, set_: list[str] | None, ask: Ask
) -> Spec:
    """The spec that says how the run to start is trained."""
    if spec is None and opened.results is None:
        raise SpecError(
            f"--config: {runs} is a table, which says neither family nor data nor training: write "
            "them into a spec (`isoskill init gpu --out spec.yaml`) and give --spec spec.yaml"
        )
    if ask.flops is None:
        raise SpecError("--config: give the run's budget by --flops, or --gpus and --days")
    results = opened.results
    return results.sweep if results and not (spec or set_) else load(spec or Path(runs), set_)


def _run(opened: Runs, own: Spec, said: Forecast) -> BigRun | ForeignRun:
    """The run to start, at the optimum of the weighting, the skill, or the aggregate."""
    from sweeper.analysis import big_run, foreign_run
    from sweeper.plan.speed import measured_in

    assert said.ask.flops is not None
    measured = measured_in(opened.results) if opened.results else None
    losses = dict(opened.fits)
    recommend = big_run.recommend if own.trainer is None else foreign_run.recommend
    return recommend(said.best, own, said.ask.flops, losses=losses, measured=measured)
