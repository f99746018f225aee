"""What rows are: runs of one name, separate experiments, a grid of hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.reading.budgets import group_budgets
from fitting.reading.numbers import numbers
from fitting.reading.words import parse
from fitting.values import FloatArray

BoolArray = npt.NDArray[np.bool_]

MAX_EXPERIMENTS = 20
"""More values of a column are names of runs, not of experiments (assumption)."""

MAX_SETTINGS = 3
"""The same of numbers: more of them at one allocation are a grid (assumption)."""

SEPARATE = frozenset(
    "dataset data corpus tokenizer vocab vocabulary vocab_size optimizer recipe hparams decay "
    "warmup setting arch architecture schedule scheduler context context_length seq_len "
    "seq_length sequence_length max_seq_len block_size n_experts num_experts experts moe sparsity "
    "experiment variant source precision activation train_set training_set".split()
)
"""Columns whose values are experiments of their own."""

TUNED = frozenset(
    "learning_rate peak_learning_rate max_learning_rate base_learning_rate batch_size batch bs "
    "global_batch_size weight_decay wd beta1 beta2 adam_beta2 warmup_steps dropout init_std "
    "sigma momentum clip grad_clip width_mult eps".split()
)
"""Columns of a hyperparameter grid."""


def identity(frame: pd.DataFrame, params: FloatArray, candidates: Sequence[str]) -> str | None:
    """The column that names runs, if one does: no run has two sizes.

    Args:
        candidates: columns that may be it, the most likely first.
    """
    size = pd.Series(params, index=frame.index).round(-2 if np.nanmedian(params) > 1e6 else 0)
    usable = []
    for column in candidates:
        names = frame[column]
        if names.notna().sum() * 2 < len(names):
            continue
        if int(size.groupby(names).nunique().max()) <= 1:
            usable.append((int(names.nunique()), column))
    if not usable:
        return None
    most = max(count for count, _ in usable)
    return next(column for count, column in usable if count * 2 >= most)


def experiments(
    frame: pd.DataFrame, allocation: npt.NDArray[np.intp]
) -> tuple[pd.Series, list[str]] | None:
    """A name per row, and the columns it comes from, where a table holds separate experiments.

    Columns count whose values differ between rows of one allocation, or that by name are a
    choice of data, tokenizer or recipe.

    Args:
        allocation: number of each row's (params, tokens, skill).
    """
    columns = [c for c in frame.columns if _is_experiment(str(c), frame[c], allocation)]
    if not columns:
        return None
    kept = _fewest(frame[columns])
    parts = (c + "=" + frame[c].astype("str") for c in kept)
    return reduce(lambda label, part: label + " " + part, parts), kept


def tokenizers(frame: pd.DataFrame) -> list[str]:
    """Every tokenizer that a table names: losses per token compare within one only.

    A vocabulary's size is none: it may be padded.
    """
    cells = [frame[c].dropna().astype(str) for c in frame if parse(str(c)).key == "tokenizer"]
    return sorted({value for each in cells for value in each})[:MAX_EXPERIMENTS]


def _is_experiment(name: str, cells: pd.Series, allocation: npt.NDArray[np.intp]) -> bool:
    """Whether a column divides the table into experiments."""
    values = int(cells.nunique())
    if not 2 <= values <= MAX_EXPERIMENTS or values * 3 > len(cells):
        return False
    key = parse(name).key
    named = key in SEPARATE
    figures = not pd.api.types.is_bool_dtype(cells) and np.isfinite(numbers(cells)).mean() > 0.5
    if figures and not named and (values > MAX_SETTINGS or key in TUNED):
        return False
    if cells.isna().mean() > 0.2:
        return False
    sizes = pd.Series(allocation).groupby(cells.to_numpy()).nunique()
    if sizes.min() < 3:
        return False
    return named or _differs(cells, allocation)


def _differs(cells: pd.Series, allocation: npt.NDArray[np.intp]) -> bool:
    """Whether values differ between rows of one allocation, in half of those with several."""
    groups = pd.Series(pd.factorize(cells)[0]).groupby(allocation).agg(["nunique", "size"])
    several = groups[groups["size"] > 1]
    return len(several) * 2 >= len(groups) and float((several["nunique"] > 1).mean()) >= 0.5


def _fewest(columns: pd.DataFrame) -> list[str]:
    """The fewest columns that tell all experiments apart."""
    whole = columns.drop_duplicates()
    kept = sorted(columns, key=lambda c: -columns[c].nunique())
    for column in reversed(kept):
        rest = [c for c in kept if c != column]
        if rest and len(whole[rest].drop_duplicates()) == len(whole):
            kept = rest
    return kept


def best_of_grid(frame: pd.DataFrame, rows: pd.DataFrame) -> tuple[BoolArray | None, str]:
    """Which rows to keep where a hyperparameter was varied at each allocation: the best ones.

    Args:
        frame: free columns of the raw table, one row per row of ``rows``.
        rows: params, tokens, skill, mix, loss.
    """
    key = [c for c in ("params", "tokens", "skill", "mix") if c in rows]
    allocation = rows.groupby(key, sort=False, dropna=False).ngroup().to_numpy()
    varied = []
    for column in frame.columns:
        if parse(column).key in TUNED and _differs(frame[column], allocation):
            varied.append(str(column))
    groups = rows["loss"].groupby(allocation)
    count = groups.transform("size").to_numpy()
    if not varied and not _scattered(rows["loss"].to_numpy(float), allocation):
        return None, ""
    if (count > 1).mean() < 0.5:
        return None, ""
    best = groups.transform("idxmin").to_numpy() == rows.index.to_numpy()
    what = f"{', '.join(varied)} varies" if varied else "losses spread far more than seeds do"
    return best, (
        f"{what} between rows of one size and token count: taken as a grid of hyperparameters, "
        f"and the best of each kept ({int(best.sum())} of {len(best)} rows)"
        + (". `isoskill study rates` fits the law of the rate itself"
           if any("rate" in parse(v).key for v in varied) else "")
    )  # fmt: skip


SEED_SPREAD = 0.02
"""Relative spread of losses over seeds that no training reaches (assumption; measured spreads of
one size are .001 to .005)."""


def _scattered(loss: FloatArray, allocation: npt.NDArray[np.intp]) -> bool:
    """Whether three or more repeats of most allocations differ by far more than seeds make."""
    groups = pd.Series(loss).groupby(allocation).agg(["min", "max", "size"])
    several = groups[groups["size"] >= 3]
    if len(several) * 2 < len(groups):
        return False
    return float(((several["max"] / several["min"]) - 1).median()) > 3 * SEED_SPREAD


_REDONE = r"re-?run|re-?try|retrain(?:ed)?|redo|again|re-?start(?:ed)?|resumed?"
_AGAIN = rf"(?i)[-_. ]+[(\[]?(?:v(?:ersion)?[-_. ]?\d|{_REDONE})[-_. ]?\d*[)\]]?$"
"""What is added to the name of a run that is trained again: -v2, _rerun, -retry1."""


def attempts(rows: pd.DataFrame, names: pd.Series) -> tuple[BoolArray, str]:
    """Which rows are of attempts worse than another at one training, and what to say.

    Names alike but for -v2 or _retry, at one size and token count, are attempts at one training
    (a retry also at one that ended before): repeats, or worse by more than seeds make.
    """
    names = names.astype("str")
    stem = names.str.replace(_AGAIN, "", regex=True)
    redone = names.str.contains(_REDONE, case=False).groupby(stem).transform("any")
    tokens = pd.Series(group_budgets(rows["tokens"], tolerance=SEED_SPREAD), rows.index)
    one = rows.groupby([stem, rows["params"], tokens.mask(redone, 0)]).ngroup()
    several = names.groupby(one).transform("nunique") > 1
    above = rows["loss"] / rows["loss"].groupby([one, rows["skill"]]).transform("min") - 1
    worse = several & (above.groupby([one, names]).transform("median") > SEED_SPREAD)
    again = names[several & (names != stem)]
    if again.empty:
        return np.zeros(len(rows), dtype=bool), ""
    return worse.to_numpy(), (
        f"{again.nunique()} runs are named as trained again ({again.iloc[0]!r}): they count as "
        f"repeats; where losses differ by more than {SEED_SPREAD:.0%}, which is more than seeds "
        f"make, the lowest alone counts ({names[worse].nunique()} left out). To keep all: "
        "--columns trial_id=none"
    )
