"""What a reader should know before trusting a fit: of losses, checkpoints, experts, repeats."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.amounts import FEW_PERCENT, is_label
from fitting.reading.checkpoints import SHARES, distinct
from fitting.reading.recognise import SEED_SPREAD
from fitting.reading.terms import Choice
from fitting.reading.words import parse
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

EPOCHS = 4.0
"""Repeats up to which repeated tokens are as good as new ones (Muennighoff et al. 2023)."""

RISE = 1.05
"""By so much more loss at the most compute than at the least is no noise (assumption)."""

FLAT = 0.98
"""What does not fall to this share of its first loss does not fall (assumption)."""

MAX_NATS = float(np.log(262_144))
"""Loss per token of guessing evenly, at the largest vocabulary in use (Gemma's 262,144)."""


def doubts(rows: pd.DataFrame, frame: pd.DataFrame, choice: Choice) -> list[str]:
    """All notes on what was read.

    Args:
        rows: the contract's columns of the rows that count, and the helpers.
        frame: the raw table.
        choice: what was taken from where.

    Raises:
        TableError: the numbers are no losses; the message says what to type.
    """
    term, kind = next(iter(choice.losses.values())), choice.kind
    notes = []
    if term.how in ("times", "product"):
        counts = [h.column for h in map(parse, frame) if h.evaluation and h.words[-1:] ==
                  ("tokens",)]  # fmt: skip
        notes += what_losses_are(rows, kind, str(term), counts)
    elif kind.startswith("perplexity"):
        unit = kind.replace("perplexity", "nats")
        notes.append(f"{term.column} is perplexity: its logarithm is in {unit}")
    notes += _other_units(choice)
    size = str(choice.amounts.get("params", "params"))
    if size in frame:
        notes += at_the_same_counts(rows, size)
        notes += _nominal(rows, frame[size], choice)
    notes += _experts(frame, choice, size)
    if "epochs" in rows:
        notes += repeats_of_data(rows["epochs"].to_numpy(float))
    elif "unique_tokens" in rows:
        notes += repeats_of_data((rows["tokens"] / rows["unique_tokens"]).to_numpy(float))
    return notes


def loss_unit(choice: Choice) -> str:
    """What the losses are in, once perplexities are turned to nats."""
    units = {_unit(kind) for kind in _kinds(choice).values()}
    return units.pop() if len(units) == 1 else "in its own unit"


def _kinds(choice: Choice) -> dict[str, str]:
    """What each column of losses is in; the only one may be known by more than its name."""
    if len(choice.losses) == 1:
        return dict.fromkeys(choice.losses, choice.kind)
    heads = {name: parse(term.column) for name, term in choice.losses.items()}
    return {name: head.kind if head.role == "loss" else "" for name, head in heads.items()}


def _unit(kind: str) -> str:
    return "nats" if kind in ("", "perplexity per token") else kind.replace("perplexity", "nats")


def _other_units(choice: Choice) -> list[str]:
    """Notes on the columns after the first that hold no nats."""
    named: dict[str, list[str]] = {}
    for name, kind in list(_kinds(choice).items())[1:]:
        named.setdefault(kind, []).append(name)
    told = {kind: ", ".join(names) for kind, names in named.items()}
    return [
        f"{names}: in {kind}, and so are the losses below; sizes and tokens do not depend on it"
        if kind.startswith("bits")
        else f"{names}: perplexity, whose logarithm is in {kind.replace('perplexity', 'nats')}"
        for kind, names in told.items()
        if kind.startswith(("bits", "perplexity"))
    ]


def _experts(frame: pd.DataFrame, choice: Choice, size: str) -> list[str]:
    """A note on tokens that are had from FLOPs, where params may count all experts."""
    experts = [c for c in map(str, frame) if {"experts", "moe"} & set(parse(c).words)]
    if not experts or "tokens" in choice.amounts or parse(size).kind == "active":
        return []
    return [
        f"{experts[0]} tells of a mixture of experts: if {size} counts all of them, there were "
        "more tokens than flops/(6 params); --columns tokens=COLUMN, or params=COLUMN of the "
        "active ones"
    ]


def _nominal(rows: pd.DataFrame, size: pd.Series, choice: Choice) -> list[str]:
    """A note on sizes in a model's name that are not those of the FLOPs."""
    own = rows["flops"] / (FLOPS_PER_PARAM_TOKEN * rows["params"] * rows["tokens"])
    counts = len(choice.amounts) < 3 or "params" in parse(size.name).words or not is_label(size)
    return [] if counts or abs(np.log(own.median())) < FEW_PERCENT else [
        f"params = {size.name}, names of sizes: flops / (6 tokens) is {own.median():.3g} times as "
        "many; --columns params=COLUMN takes a column of counts, params=none the FLOPs' own"
    ]  # fmt: skip


def at_the_same_counts(rows: pd.DataFrame, column: str) -> list[str]:
    """Say where every size stands at the same token counts, as checkpoints do and ladders may.

    Args:
        rows: params, tokens, skill, mix, and trial_id where known.
        column: of the params.
    """
    first = rows[(rows["skill"] == rows["skill"].iloc[0])]
    if "trial_id" in first and not first["trial_id"].duplicated().any():
        return []
    sizes = first["params"].nunique()
    counts = distinct(first["tokens"])
    if sizes < 2 or counts < SHARES or len(first) != sizes * counts:
        return []
    return [
        f"each of {sizes} sizes stands at the same {counts} token counts: taken as a training for "
        "each. If they are checkpoints of one training of each size, --columns "
        f"'trial_id={column}' keeps the last of them"
    ]


def named_again(rows: pd.DataFrame, how: str) -> list[str]:
    """Say where one name stands at one allocation with losses farther apart than seeds make.

    Args:
        rows: params, tokens, skill, loss, trial_id, and seed and mix where known.
        how: what is made of them.
    """
    key = [c for c in ("trial_id", "skill", "params", "tokens", "seed", "mix") if c in rows]
    named = rows[rows["trial_id"].notna()].groupby(key, sort=False, dropna=False)
    loss = named["loss"].agg(["min", "max"])
    far = loss[loss["max"] > (1 + SEED_SPREAD) * loss["min"]]
    if far.empty:
        return []
    (name, skill), (low, high) = far.index[0][:2], far.iloc[0]
    return [
        f"{name} has losses of {skill} of {low:.4g} and {high:.4g} at one size and token count, "
        f"which is more than seeds make ({len(far)} such in all): {how}. Leave the wrong ones "
        "out, or name other trainings otherwise"
    ]


def repeats_of_data(epochs: FloatArray) -> list[str]:
    """Say where data was repeated more than `EPOCHS` times."""
    many = epochs > EPOCHS
    if not many.any():
        return []
    return [
        f"{int(many.sum())} of {len(epochs)} rows repeat their data more than {EPOCHS:g} times "
        f"(up to {np.nanmax(epochs):.3g}): repeated tokens teach less than new ones (Muennighoff "
        "et al. 2023), which no law of params and tokens holds: the likely cause of a misfit; "
        "to leave them out: --where 'epochs<=4'"
    ]


def what_losses_are(
    rows: pd.DataFrame, kind: str, column: str, counts: Sequence[str] = ()
) -> list[str]:
    """Notes on losses that are not nats per token, and refusals of what is no loss.

    Args:
        counts: columns that may count the tokens of an evaluation.

    Raises:
        TableError: the numbers are no losses; the message says what to type.
    """
    loss = rows["loss"].to_numpy(float)
    if kind.startswith("bits"):
        return [
            f"{column} is in {kind}, and so are the losses below; sizes and tokens do not "
            "depend on it"
        ]
    if large := _above_guessing(rows, column, counts):
        return large
    rising = _rising(rows)
    if len(rising) * 2 > rows["skill"].nunique():
        top = 1 if loss.max() <= 1 else 100 if 20 < loss.max() <= 100 else 0
        said = f"{column} rises with compute, as accuracies do and losses do not"
        if top:
            raise TableError(f"{said}. If it is one: --columns 'loss={top}-{column}'")
        return [f"{said}: if higher is better, --columns 'loss=0-{column}' will not do, as a loss "
                "is above 0: give the loss itself"]  # fmt: skip
    if rising:
        return [f"{', '.join(rising[:4])}: rises with compute, as accuracies do and losses do not"]
    if loss.max() < 1.4 and re.search(r"(?i)\bln[ _(]*loss|\blog\(loss", column):
        return [
            f"{column} is {loss.min():.3g} to {loss.max():.3g}: the logarithm of a loss, perhaps. "
            f"Then --columns 'loss=exp({column})'"
        ]
    if loss.max() < 1.4:
        return [
            f"{column} is {loss.min():.3g} to {loss.max():.3g}, low for nats per token of text: "
            "bits per byte, perhaps. Sizes and tokens do not depend on the unit; expected losses "
            "are in the table's own"
        ]
    return []


def absurd(rows: pd.DataFrame) -> pd.Series:
    """Losses above that of guessing where the middle of their skill is far below it."""
    middle = rows["loss"].groupby(rows["skill"]).transform("median")
    return (rows["loss"] > MAX_NATS) & (2 * middle < MAX_NATS)


def _above_guessing(rows: pd.DataFrame, column: str, counts: Sequence[str]) -> list[str]:
    """A note on skills whose losses are no nats per token; a refusal where that is all of them."""
    loss = rows["loss"].to_numpy(float)
    middle = rows.groupby("skill", sort=False)["loss"].median()
    large = [str(skill) for skill in middle.index[middle > MAX_NATS]]
    if 0 < len(large) < len(middle):
        return [
            f"{', '.join(large[:4])}: losses above that of guessing ({MAX_NATS:.3g} nats per "
            "token): sums over tokens, or perplexities? Best sizes do not depend on a factor; "
            "losses and what a wrong size costs are in its own unit"
        ]
    if large:
        log = f"If a perplexity: --columns 'loss=log({column})'; if"
        raise TableError(
            f"{column} lies between {loss.min():.4g} and {loss.max():.4g}, above the loss of "
            f"guessing ({MAX_NATS:.3g} nats per token): it is a perplexity or a sum. "
            f"{log if np.log(loss.max()) < MAX_NATS else 'If'} a sum over tokens, divide by their "
            f"number or its column: --columns 'loss={column}/{counts[0] if counts else 100_000}'"
        )
    return []


def accuracies(rows: pd.DataFrame, choice: Choice) -> tuple[list[str], list[str]]:
    """Skills that rise with compute within 1 or 100 while most fall, and what to say of them.

    One within 1 that neither rises at every step nor falls is named only: it may be a loss.
    """
    steps, rising = _steps(rows), _rising(rows)
    falling = [name for name, middle in steps.items() if RISE * middle[-1] < middle[0]]
    if len(falling) * 2 < len(steps):
        return [], []
    top = rows.groupby("skill")["loss"].max()
    found = [name for name in rising if top[name] <= 1 or MAX_NATS < top[name] <= 100]
    flat = [name for name, middle in steps.items()
            if name not in found and top[name] <= 1 and middle[-1] > FLAT * middle[0]]  # fmt: skip
    said = []
    for name in (*found, *flat):
        column = choice.losses.get(name, next(iter(choice.losses.values()))).column
        where = "" if name in choice.losses else f" --where '{choice.labels['skill']}={name}'"
        what = (
            "rises with compute while the other losses fall: taken for an accuracy and left out"
            if name in found else
            "within 1, and does not fall with compute as the other losses do: an accuracy?"
        )  # fmt: skip
        error = f"--columns 'loss={1 if top[name] <= 1 else 100}-{column}'{where}"
        said.append(f"{name}: {what}. To fit its error: {error}")
    return found, said


def _rising(rows: pd.DataFrame) -> list[str]:
    """Skills whose middle loss rises over five or more steps of compute, or at each of three."""
    return [name for name, middle in _steps(rows).items()
            if (np.diff(middle) > 0).all() and middle[-1] > RISE * middle[0]]  # fmt: skip


def _steps(rows: pd.DataFrame) -> dict[str, FloatArray]:
    """Each skill's middle losses over three to six steps of compute; none of fewer budgets."""
    budgets = np.log(rows["flops"]).round(2)  # derived ones differ in the last digits
    bins = min(6, budgets.nunique())
    if bins < 3:
        return {}
    ranks = budgets.rank(method="dense")
    cut = np.ceil(ranks / ranks.max() * bins)
    middle = rows["loss"].groupby([rows["skill"], cut]).median().groupby(level=0, sort=False)
    return {str(skill): steps.to_numpy(float) for skill, steps in middle}
