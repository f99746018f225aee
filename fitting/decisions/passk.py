"""pass@k of checkpoints, from answer probabilities or from counts of passing samples.

Legend: p_i = probability of a correct answer to question i in one sample, k = samples; losses
are sums over the answer's tokens, in nats, so that p_i = exp(-loss); logarithms natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import FittingError, TableError
from fitting.values import FloatArray

SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Numbers of samples that laws are fitted on (assumption: T^2 does not print its own)."""

_TINY = 30.0  # nats: below exp(-30) samples, 1 - (1 - p)^k is k p to full precision


@dataclass(frozen=True)
class PassCurves:
    """pass@k of n checkpoints at m numbers of samples, averaged over the questions.

    Attributes:
        params, tokens: of the trainings, shape (n,).
        k: numbers of samples, shape (m,).
        nll: mean summed loss of the correct answer, nats, shape (n,).
        neg_log_pass: mean over questions of -ln pass@k, nats, shape (n, m).
        pass_rate: mean over questions of pass@k, shape (n, m).
    """

    params: FloatArray
    tokens: FloatArray
    k: FloatArray
    nll: FloatArray
    neg_log_pass: FloatArray
    pass_rate: FloatArray

    def __post_init__(self) -> None:
        n, m = (len(self.params),), (len(self.params), len(self.k))
        for name, shape in {"tokens": n, "nll": n, "neg_log_pass": m, "pass_rate": m}.items():
            values = getattr(self, name)
            if np.shape(values) != shape or not np.isfinite(values).all():
                has = np.shape(values)
                raise FittingError(f"{name} must be finite and of shape {shape}, not {has}")
        check_samples(self.k)

    def subset(self, rows: npt.NDArray[Any]) -> PassCurves:
        """The checkpoints that a mask or an array of indices picks."""
        return PassCurves(
            self.params[rows], self.tokens[rows], self.k, self.nll[rows],
            self.neg_log_pass[rows], self.pass_rate[rows],
        )  # fmt: skip


def check_samples(k: npt.ArrayLike) -> FloatArray:
    """Numbers of samples as floats.

    Raises:
        FittingError: one is below 1 or not finite.
    """
    values = np.asarray(k, dtype=float)
    bad = ~(np.isfinite(values) & (values >= 1))
    if bad.any():
        worst = float(np.ravel(values)[np.ravel(bad)][0])
        raise FittingError(f"k={worst:g}: give at least one sample")
    return values


def pass_at_k(nll: npt.ArrayLike, k: npt.ArrayLike) -> FloatArray:
    """1 - (1 - p)^k with p = exp(-nll); k may be any real number from 1; arguments broadcast."""
    return np.exp(-neg_log_pass_at_k(nll, k))


def neg_log_pass_at_k(nll: npt.ArrayLike, k: npt.ArrayLike) -> FloatArray:
    """-ln(1 - (1 - p)^k), nats, precise for every p down to exp(-1e300)."""
    loss, samples = np.broadcast_arrays(_losses(nll), check_samples(k))
    with np.errstate(divide="ignore"):
        failing = samples * np.log1p(-np.exp(-loss))
        exact = -np.log(-np.expm1(failing))
    rare = loss - np.log(samples)
    return np.asarray(np.where(rare > _TINY, rare, np.maximum(exact, 0.0)))


def pass_at_k_from_counts(
    passes: npt.ArrayLike, samples: npt.ArrayLike, k: npt.ArrayLike
) -> FloatArray:
    """Unbiased pass@k from samples drawn: 1 - binom(n - c, k) / binom(n, k).

    Args:
        passes: c, samples that passed; arguments broadcast.
        samples: n, samples drawn.
        k: whole numbers up to n.

    Raises:
        FittingError: k exceeds the samples drawn, or a count is not possible.

    Source: Chen et al. 2021 (arXiv 2107.03374, equation 1).
    """
    from scipy.special import gammaln

    c, n = _counts(passes, samples)
    c, n, kk = np.broadcast_arrays(c, n, check_samples(k))
    if (kk > n).any():
        raise FittingError(
            f"k={kk.max():g} exceeds the {n.min():g} samples drawn: draw more, or leave it out"
        )
    if (kk != np.round(kk)).any():
        raise FittingError("k must be whole numbers where passes are counted")
    left = np.maximum(n - c - kk, 0.0)
    log_none = gammaln(n - c + 1) - gammaln(left + 1) + gammaln(n - kk + 1) - gammaln(n + 1)
    # 0 less it, as minus of 0 is printed as -0.
    return np.asarray(np.where(n - c < kk, 1.0, 0.0 - np.expm1(log_none)))


def nll_from_counts(passes: npt.ArrayLike, samples: npt.ArrayLike) -> FloatArray:
    """-ln of (c + 1/2) / (n + 1), nats: finite for questions that no sample passed.

    Source: the mean under Jeffreys' prior; with few samples it decides the rare questions.
    """
    c, n = _counts(passes, samples)
    return np.asarray(-np.log((c + 0.5) / (n + 1.0)))


def pass_curves(
    table: pd.DataFrame | Mapping[str, Any], *, k: Sequence[float] = SAMPLES
) -> PassCurves:
    """Gather one benchmark's results per question into curves per checkpoint.

    Args:
        table: one row per checkpoint and question: params, tokens, and either ``nll`` (summed
            loss of the correct answer, nats), ``probability``, or ``passes`` and ``samples``;
            ``trial_id`` keeps repeats of one allocation apart.
        k: numbers of samples to evaluate at; whole and at most ``samples`` with counts.

    Raises:
        TableError: a column is missing or holds impossible values.
        FittingError: a number of samples is below 1 or above those drawn.
    """
    frame = pd.DataFrame(table)
    missing = [c for c in ("params", "tokens") if c not in frame]
    kinds = [c for c in ("nll", "probability", "passes") if c in frame]
    if missing or len(kinds) != 1:
        raise TableError(
            "a table of questions needs params, tokens, and one of nll, probability, or passes "
            f"with samples; it has {', '.join(map(str, frame.columns))}"
        )
    if frame.empty:
        raise TableError("the table has no rows")
    sizes = frame[["params", "tokens"]].to_numpy(float)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise TableError("params and tokens must be finite and positive in every row")
    keys = ["params", "tokens", *(c for c in ("trial_id",) if c in frame)]
    samples = check_samples(list(k))
    rows = [
        (*group[["params", "tokens"]].iloc[0].astype(float), *_curve(group, samples))
        for _, group in frame.groupby(keys, sort=False, dropna=False)
    ]
    params, tokens, nll, neg_log, rate = (np.array(v) for v in zip(*rows, strict=True))
    return PassCurves(params, tokens, samples, nll, neg_log, rate)


def _curve(group: pd.DataFrame, k: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Mean loss, mean -ln pass@k and mean pass@k of one checkpoint."""
    if "passes" in group:
        if "samples" not in group:
            raise TableError("passes are given without samples, the number drawn per question")
        passes, drawn = group["passes"].to_numpy(), group["samples"].to_numpy()
        nll = nll_from_counts(passes, drawn)
        rate = pass_at_k_from_counts(passes[:, None], drawn[:, None], k)
    else:
        nll = _answer_losses(group)
        rate = pass_at_k(nll[:, None], k)
    neg_log = neg_log_pass_at_k(nll[:, None], k)
    return float(nll.mean()), neg_log.mean(axis=0), rate.mean(axis=0)


def _answer_losses(group: pd.DataFrame) -> FloatArray:
    """Summed loss per question, from losses or probabilities."""
    if "nll" in group:
        return _losses(group["nll"].to_numpy(dtype=float))
    probability = group["probability"].to_numpy(dtype=float)
    if not ((probability > 0) & (probability <= 1)).all():
        raise TableError("probability must lie above 0, up to 1: give nll for rarer answers")
    return np.asarray(-np.log(probability))


def _losses(nll: npt.ArrayLike) -> FloatArray:
    values = np.asarray(nll, dtype=float)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise FittingError("nll must be finite and not negative: summed loss of the answer, nats")
    return values


def _counts(passes: npt.ArrayLike, samples: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    c, n = np.asarray(passes, dtype=float), np.asarray(samples, dtype=float)
    if not (np.all(n >= 1) and np.all(c >= 0) and np.all(c <= n)):
        raise FittingError("passes must lie between 0 and samples, and samples be at least 1")
    if (c % 1).any() or (n % 1).any():
        raise FittingError("passes and samples must be whole numbers: counts, not shares")
    return c, n
