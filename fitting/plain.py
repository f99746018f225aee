"""Plain values for JSON and back: what has no form there, and frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, and the word."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else (None if math.isnan(value) else str(value))
    return value


def plain_frame(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as lists, absent values as None."""
    objects = frame.astype(object).where(frame.notna(), None)
    return {str(name): objects[name].tolist() for name in objects}


def read(value: Any) -> Any:
    """Undo `plain`: null is NaN in every numeric field."""
    if value is None:
        return math.nan
    if isinstance(value, list):
        return tuple(read(v) for v in value)
    return math.inf if value == "inf" else value
