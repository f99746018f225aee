"""Rows that the caller asks for: --where 'epochs<=4,tokenizer=32k'."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import numbers
from fitting.reading.text import Raw

_OPERATORS = {
    "<=": np.less_equal, ">=": np.greater_equal, "!=": np.not_equal,
    "<": np.less, ">": np.greater, "=": np.equal,
}  # fmt: skip


def kept_rows(raw: Raw, where: str) -> Raw:
    """A raw table's rows for which all of COLUMN<=NUMBER, COLUMN=VALUE, ... hold.

    Raises:
        TableError: not of this form, no such column, or no row left.
    """
    if not where:
        return raw
    frame, decimal = raw.frame, raw.decimal
    mask = np.ones(len(frame), dtype=bool)
    for item in re.split(r",(?=[^,]*?(?:<=|>=|!=|<|>|=))", where):
        found = re.fullmatch(r"\s*(.+?)\s*(<=|>=|!=|<|>|={1,2})\s*(.*?)\s*", item)
        if not found or found[1] not in frame:
            what = f"there is no column {found[1]!r}" if found else "this is no condition"
            raise TableError(
                f"--where {item!r}: {what}; write COLUMN<=NUMBER or COLUMN=VALUE; columns: "
                f"{', '.join(map(str, frame.columns[:30]))}"
            )
        value = numbers(pd.Series([found[3]]), decimal=decimal)[0]
        cells = frame[found[1]]
        compare = _OPERATORS["=" if found[2] == "==" else found[2]]
        if np.isfinite(value) and np.isfinite(numbers(cells, decimal=decimal)).any():
            mask &= np.asarray(compare(numbers(cells, decimal=decimal), value))
        elif found[2] in ("=", "==", "!="):
            mask &= np.asarray(compare(cells.astype("str").to_numpy(), found[3]))
        else:
            raise TableError(f"--where {item!r}: {found[1]} holds no numbers")
    if not mask.any():
        raise TableError(f"--where {where!r}: no row is left")
    return replace(raw, frame=frame[mask])
