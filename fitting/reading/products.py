"""Tokens that no column holds: steps by batch and sequence, data set by epochs, per parameter."""

from __future__ import annotations

import math

import numpy as np

from fitting.errors import TableError
from fitting.reading.numbers import numbers
from fitting.reading.terms import Asked, Choice, Sheet, Term, quoted
from fitting.reading.words import Header

PRODUCTS = (
    ("params", "tokens_per_param"), ("step", "batch_tokens"), ("step", "batch_size", "sequence"),
    ("unique_tokens", "epochs"),
)  # fmt: skip
"""What tokens are had from where no column holds them."""

WHOLE_BATCHES = frozenset("global_batch_size train_batch_size gbs".split())
BATCHES = WHOLE_BATCHES | {"batch_size", "bs", "batch"}
SEQUENCES = frozenset(
    "sequence_length seq_length seq_len seqlen max_seq_len context context_length block_size "
    "ctx".split()
)
PARTS = frozenset(
    "micro_batch_size mbs device_batch_size per_device_batch_size per_device_train_batch_size "
    "gradient_accumulation_steps gradient_accumulation grad_accum grad_accum_steps grad_acc "
    "accumulation_steps accumulate_grad_batches".split()
)
DEVICES = frozenset(
    "world_size num_gpus n_gpus gpus num_devices n_devices dp_size data_parallel_size".split()
)
"""Keys of headers: sequences per step, tokens per sequence, parts of a step, devices."""

MOST_SEQUENCES = 32_000
"""Larger batches count tokens (assumption: DeepSeek-V3's, among the largest, has 15,360)."""

_BINARY = r"^\s*(?:0?\.5|1\.5|[1-468]|16|32|64|128|256|512)\s*([kKmM])\b"
"""Batches and contexts that may be meant in steps of 1024, and their unit."""

REPEATED = 0.01
"""Epochs nearer to 1 are one (assumption)."""


def find_products(sheet: Sheet, choice: Choice, asked: Asked) -> None:
    """Tokens as a product, where no column holds them: steps by batch, epochs, per parameter.

    Raises:
        TableError: a column may be a part of the product only, or of the tokens seen.
    """
    if "tokens" in choice.amounts and "tokens" not in asked:
        _ask_of_repeats(sheet, choice)
    if "tokens" in choice.amounts or len(choice.amounts) > 1:
        return
    if "step" in choice.labels and "batch_tokens" not in choice.labels:
        _find_batches(sheet, choice)
    for roles in PRODUCTS:
        if set(roles) <= {*choice.labels, *choice.amounts}:
            factors = tuple(
                choice.amounts.get(r) or sheet.term("tokens", choice.labels[r]) for r in roles
            )
            choice.amounts["tokens"] = Term(factors[0].column, "product", factors=factors)
            names = [f.column for f in factors]
            binary = [sheet.frame[n].astype("str").str.extract(_BINARY)[0] for n in names[1:]]
            if units := [str(unit.dropna().iloc[0]) for unit in binary if unit.notna().any()]:
                times = math.prod(1.024 if unit in "kK" else 1.024**2 for unit in units)
                choice.notes.append(
                    f"tokens = {choice.amounts['tokens']}, K for 1000 and M for a million: where "
                    f"1024 is meant, --columns 'tokens={'*'.join(names)}*{times:.8g}'"
                )
            return


def _find_batches(sheet: Sheet, choice: Choice) -> None:
    """Batch and sequence of a step; asks where other columns say that a batch is a part of it."""

    def of(keys: frozenset[str]) -> list[Header]:
        found = [h for h in sheet.headers if h.key in keys and sheet.numeric(h)]
        return [h for h in found if np.nanmax(sheet.numbers(h)) > 1]

    for role, keys in (("batch_size", BATCHES), ("sequence", SEQUENCES)):
        if role not in choice.labels and (found := of(keys)):
            if role == "batch_size" and _counts_tokens(sheet, found[0]):
                choice.labels["batch_tokens"] = found[0].column
                return
            choice.labels[role] = found[0].column
    parts, devices = ([h.column for h in of(keys)] for keys in (PARTS, DEVICES))
    if not parts or of(WHOLE_BATCHES) or not choice.amounts:
        return
    known = [choice.labels[r] for r in ("step", "batch_size", "sequence") if r in choice.labels]
    raise TableError(
        f"tokens are steps times the tokens of a step, and {quoted(parts)} may be a part of that: "
        f"multiply what counts, --columns 'tokens={'*'.join([*known, *parts, *devices])}'"
        + (f" or --columns 'tokens={'*'.join(known)}'" if len(known) == 3 else "")
    )


def _counts_tokens(sheet: Sheet, header: Header) -> bool:
    """Whether a batch is given in tokens, by its words or by its size."""
    cells = sheet.frame[header.column].astype("str")
    said = "tok" in header.column.lower() or cells.str.contains("tok").any()
    return bool(said or np.nanmedian(sheet.numbers(header)) > MOST_SEQUENCES)


def _ask_of_repeats(sheet: Sheet, choice: Choice) -> None:
    """Refuse the tokens of a data set that was seen several times, where no FLOPs tell."""
    taken, epochs = choice.amounts["tokens"].column, choice.labels.get("epochs", "")
    header = sheet.column(taken)
    if not header or not epochs or "flops" in choice.amounts:
        return
    seen = numbers(sheet.frame[epochs], decimal=sheet.decimal)
    if {"dataset", "data"} & set(header.words) and (np.abs(seen - 1) > REPEATED).any():
        raise TableError(
            f"{taken!r} may be the tokens of a data set that was seen {epochs!r} times: "
            f"--columns 'tokens={taken}*{epochs}', or --columns 'tokens={taken}' if they are all "
            "that were seen"
        )
