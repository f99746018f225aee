"""The curves of one skill over data mixes and budgets: the model, and its maximum.

On each budget the loss of one mix is a normalised profile around its optimum. The optimum is a
line in the share of the skill's own class plus a small quadratic term, the level a smooth function
of the share. Each mix may deviate from both; members with several scales of these deviations are
averaged by evidence, as in `fitting.mixture.fit`.

    L = level_b + l1 ln s + l2 s + l3 c ln s + level_m + K profile(u),   u = ln p - v
    v = v0 + a c + (slope + slope' c) s + q quadratic(s) + v_m + v_b,    ln K = k0 + k1 c + k_m
    quadratic = s^2 less its line through the mixes, so that the slope is that of the whole line
    profile = (a e^(-alpha u) + (1 - a) e^(beta u) - 1) / (a (1 - a) T^2) = u^2 / 2 + ...

Legend: p = params, C = flops, c = ln C less its mean, s = share of the class less its mean;
m = mix, b = budget, n = trials, P = parameters; T = alpha + beta, beta = a T; natural logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.mixture.laplace import FREEDOM, INFORMATION, SCALE_OF_NORMAL
from fitting.values import FloatArray

MIX_SD = 0.05
"""Deviation of one mix's ln p* from the line at scale 1: the scatter of Figure 3 of arXiv
2503.10061 round its lines is .06 for knowledge and .02 for code, noise included."""

LEVEL_SD = 0.1
"""Deviation of one mix's level, in standard deviations of the skill's losses; assumption."""

CURVATURE_SD = 0.1
"""Deviation of one mix's ln K (`fitting.mixture.discrepancy.CURVATURE_SD` has the same for
budgets)."""

BUDGET_SD = 0.06
"""Deviation of one budget's ln p* from the power law (`fitting.mixture.discrepancy.DRIFT_SD`)."""

LEAST_SHARE = 0.002
"""Shares below count as this in ln s; assumption."""

LAW = (
    # name, mean, sd; sd in standard deviations of the losses where marked *
    ("v0", 0.0, 2.0),
    ("exponent", 0.5, 0.15),
    ("slope", 0.0, 1.0),
    ("slope by ln C", 0.0, 0.05),
    ("share squared", 0.0, 0.2),
    ("ln K", 0.0, 1.5),
    ("ln K by ln C", -0.15, 0.1),
    ("logit a", 0.0, 0.25),
    ("ln T", math.log(0.71), 0.3),
    ("level by ln s*", 0.0, 2.0),
    ("level by s*", 0.0, 2.0),
    ("level by c ln s*", 0.0, 0.2),
)
"""Priors of what mixes have in common. Quadratic term: Figure 3 of arXiv 2503.10061 has -.21 for
code, -.07 for knowledge. Exponents and T as in Besiroglu et al. 2024; a, the exponent of p* of a
surface, is .46 to .51 by theirs, Hoffmann's and the two skills' of arXiv 2503.10061 (here .44 to
.56, for one standard deviation). ln K by ln C as the parabolas of arXiv 2503.10061 fall, -.13 to
-.21; the rest wide (assumptions)."""

V0, EXPONENT, SLOPE, SLOPE_C, SHARE_SQUARED, LOG_K, LOG_K_C, LOGIT_A, LOG_T, LEVEL = range(10)
N_LAW = len(LAW)
_STEPS, _FURTHEST, _TINY = 60, 8.0, 1e-4
_NOISE_GUESS = 0.1
"""One pseudo-observation: the error of a loss in standard deviations of the losses; assumption."""


@dataclass(frozen=True)
class Grid:
    """The mixes and budgets of a table, and where its trials lie.

    Attributes:
        shares: (M,) share of the skill's own class per mix.
        origin: (ln p, ln C, share, ln share) that the parameters refer to.
        has_class: whether the skill follows a class; without one its slope is held at 0.
    """

    mixes: tuple[str, ...]
    budgets: tuple[float, ...]
    shares: tuple[float, ...]
    origin: tuple[float, float, float, float]
    has_class: bool

    @property
    def share(self) -> FloatArray:
        """The shares as an array."""
        return np.array(self.shares)

    @property
    def width(self) -> int:
        """P."""
        return N_LAW + 2 * len(self.budgets) + 3 * len(self.mixes)

    def slices(self) -> tuple[slice, slice, slice, slice, slice]:
        """Slices of level_b, v_b, v_m, level_m, k_m."""
        b, m, at, out = len(self.budgets), len(self.mixes), N_LAW, []
        for count in (b, b, m, m, m):
            out.append(slice(at, at + count))
            at += count
        return out[0], out[1], out[2], out[3], out[4]

    def quadratic(self, share: FloatArray) -> FloatArray:
        """Squared shares less their least-squares line through the mixes."""
        s = share - self.origin[2]
        own = self.share - self.origin[2]
        tilt = float((own**3).sum()) / max(float(own @ own), 1e-12)
        return np.asarray(s**2 - float((own**2).mean()) - tilt * s)

    def log_share(self) -> FloatArray:
        """(M,) ln share less its mean."""
        return np.asarray(np.log(np.maximum(self.share, LEAST_SHARE)) - self.origin[3])

    def budget_of(self, flops: FloatArray) -> npt.NDArray[np.int_]:
        """Index of the nearest budget."""
        nodes = np.log(self.budgets)
        return np.asarray(np.abs(np.log(flops)[:, None] - nodes).argmin(1))


@dataclass(frozen=True)
class DesignPoints:
    """Trials, done or possible: sizes on budgets under mixes.

    Attributes:
        log_params: (n,) ln p.
        flops: (n,) budgets.
        mix: (n,) index of the mix.
    """

    log_params: FloatArray
    flops: FloatArray
    mix: npt.NDArray[np.int_]


@dataclass(frozen=True)
class Member:
    """One scale's maximum and its Gaussian width.

    Attributes:
        theta: (P,) the maximum.
        covariance: (P, P) of the parameters.
        influence: (P, n) change of the parameters by one standard deviation of each error.
        residual: (n,) errors in standard deviations.
        dof: residual degrees of freedom.
        noise: standard deviation of one loss, nats.
        log_evidence: up to a constant that all scales share.
    """

    scale: float
    theta: FloatArray
    covariance: FloatArray
    influence: FloatArray
    residual: FloatArray
    dof: float
    noise: float
    log_evidence: float


def start(grid: Grid, points: DesignPoints, loss: FloatArray) -> FloatArray:
    """The least loss of each budget, and the size of the least of all."""
    theta = np.concatenate([[mean for _, mean, _ in LAW], np.zeros(grid.width - N_LAW)])
    budget = grid.budget_of(points.flops)
    for b in range(len(grid.budgets)):
        here = loss[budget == b]
        theta[grid.slices()[0].start + b] = here.min() if len(here) else loss.min()
    best = [
        points.log_params[i] - 0.5 * (math.log(points.flops[i]) - grid.origin[1])
        for b, m in set(zip(budget.tolist(), points.mix.tolist(), strict=True))
        for i in [_least(loss, (budget == b) & (points.mix == m))]
    ]
    theta[V0] = float(np.median(best)) - grid.origin[0]
    theta[LOG_K] = math.log(loss_scale(loss))
    return theta


def _least(loss: FloatArray, where: npt.NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(where)
    return int(rows[np.argmin(loss[rows])])


def loss_scale(loss: FloatArray) -> float:
    """Scale of a skill's losses, nats."""
    return max(float(loss.std()), 1e-6)


def _prior(grid: Grid, scale: float, loss_sd: float) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of every parameter but the budgets' levels' mean, (P,)."""
    mean = np.concatenate([[m for _, m, _ in LAW], np.zeros(grid.width - N_LAW)])
    sd = np.zeros(grid.width)
    sd[:N_LAW] = [s * (loss_sd if name.endswith("*") else 1.0) for name, _, s in LAW]
    mean[LOG_K] = math.log(loss_sd)
    if not grid.has_class:
        sd[[SLOPE, SLOPE_C, SHARE_SQUARED, LEVEL, LEVEL + 1, LEVEL + 2]] = _TINY
    level_b, v_b, v_m, level_m, k_m = grid.slices()
    sd[level_b] = 100 * loss_sd
    sd[v_b] = BUDGET_SD * scale if len(grid.budgets) > 2 else _TINY
    sd[v_m] = MIX_SD * scale
    sd[level_m] = LEVEL_SD * scale * loss_sd if grid.has_class else 10 * loss_sd
    sd[k_m] = CURVATURE_SD * scale
    return mean, sd


def evaluate(theta: FloatArray, grid: Grid, points: DesignPoints) -> tuple[FloatArray, FloatArray]:
    """Losses (n,) and their derivatives (n, P) at any design points."""
    n, budget, mix = len(points.flops), grid.budget_of(points.flops), points.mix
    c = np.log(points.flops) - grid.origin[1]
    s, log_s = grid.share[mix] - grid.origin[2], grid.log_share()[mix]
    level_b, v_b, v_m, level_m, k_m = grid.slices()
    jacobian = np.zeros((n, grid.width))
    level = np.stack([log_s, s, c * log_s], axis=1)
    jacobian[:, LEVEL : LEVEL + 3] = level
    rows = np.arange(n)
    jacobian[rows, level_b.start + budget] = 1.0
    jacobian[rows, level_m.start + mix] = 1.0
    vertex = theta[V0] + theta[EXPONENT] * c + (theta[SLOPE] + theta[SLOPE_C] * c) * s
    quadratic = grid.quadratic(grid.share)[mix]
    vertex = vertex + theta[SHARE_SQUARED] * quadratic + theta[v_m][mix] + theta[v_b][budget]
    u = np.clip(points.log_params - grid.origin[0] - vertex, -_FURTHEST, _FURTHEST)
    k = np.exp(np.clip(theta[LOG_K] + theta[LOG_K_C] * c + theta[k_m][mix], -30.0, 30.0))
    profile, along, by_a, by_t = _profile(u, theta[LOGIT_A], theta[LOG_T])
    by_vertex = -k * along
    for column, factor in (
        (V0, 1.0),
        (EXPONENT, c),
        (SLOPE, s),
        (SLOPE_C, c * s),
        (SHARE_SQUARED, quadratic),
    ):
        jacobian[:, column] = by_vertex * factor
    jacobian[rows, v_m.start + mix] = by_vertex
    jacobian[rows, v_b.start + budget] = by_vertex
    jacobian[:, LOG_K], jacobian[:, LOG_K_C] = k * profile, k * profile * c
    jacobian[rows, k_m.start + mix] = k * profile
    jacobian[:, LOGIT_A], jacobian[:, LOG_T] = k * by_a, k * by_t
    fitted = level @ theta[LEVEL : LEVEL + 3] + theta[level_b][budget] + theta[level_m][mix]
    return np.asarray(fitted + k * profile), jacobian


def _profile(
    u: FloatArray, logit_a: float, log_t: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The curve of unit curvature, and its derivatives by u, logit a and ln T."""
    step = 1e-4
    middle = _curve(u, logit_a, log_t)
    by_a = (_curve(u, logit_a + step, log_t) - _curve(u, logit_a - step, log_t)) / (2 * step)
    by_t = (_curve(u, logit_a, log_t + step) - _curve(u, logit_a, log_t - step)) / (2 * step)
    a, total = 1 / (1 + math.exp(-logit_a)), math.exp(log_t)
    along = (np.exp(a * total * u) - np.exp(-(1 - a) * total * u)) / total
    return middle, along, by_a, by_t


def _curve(u: FloatArray, logit_a: float, log_t: float) -> FloatArray:
    a, total = 1 / (1 + math.exp(-logit_a)), math.exp(log_t)
    q = a * np.expm1(-(1 - a) * total * u) + (1 - a) * np.expm1(a * total * u)
    return np.asarray(q / (a * (1 - a) * total**2))


def maximise(
    grid: Grid, points: DesignPoints, loss: FloatArray, scale: float, theta: FloatArray
) -> Member:
    """Damped Gauss-Newton steps with Student-t weights."""
    loss_sd = loss_scale(loss)
    mean, sd = _prior(grid, scale, loss_sd)
    mean[grid.slices()[0]] = loss.mean()
    inverse = np.diag(sd**-2)
    noise, damping = _NOISE_GUESS * loss_sd, 1e-3
    fitted, jacobian = evaluate(theta, grid, points)
    for _ in range(_STEPS):
        residual = loss - fitted
        weight = (FREEDOM + 1) / (FREEDOM + (residual / noise) ** 2) / noise**2
        sums = (jacobian * weight[:, None]).T @ jacobian
        gradient = jacobian.T @ (weight * residual) - (theta - mean) / sd**2
        move = np.linalg.solve(
            sums + inverse + damping * np.diag(np.diag(sums + inverse)), gradient
        )
        trial = theta + np.clip(move, -2.0 * sd, 2.0 * sd)
        fitted_then, jacobian_then = evaluate(trial, grid, points)
        before = weight @ residual**2 + (((theta - mean) / sd) ** 2).sum()
        after = weight @ (loss - fitted_then) ** 2 + (((trial - mean) / sd) ** 2).sum()
        better = bool(after <= before + 1e-9)
        if better:
            theta, fitted, jacobian = trial, fitted_then, jacobian_then
        damping = float(np.clip(damping * (0.2 if better else 8.0), 1e-9, 1e6))
        covariance = np.linalg.inv(INFORMATION * sums + inverse)
        dof = max(len(loss) - INFORMATION * float(np.sum(covariance * sums.T)), 1.0)
        new = _noise(loss - fitted, noise, dof, loss_sd)
        settled = abs(math.log(new / noise)) < 1e-3
        noise = new
        if settled and better and float(gradient @ move) < 1e-4:
            break
    return _member(grid, points, loss, scale, theta, noise, (mean, sd))


def _noise(residual: FloatArray, noise: float, dof: float, loss_sd: float) -> float:
    """Next scale of the errors: weighted residuals over the residual degrees of freedom."""
    square = (residual / noise) ** 2
    weighted = float((square * (FREEDOM + 1) / (FREEDOM + square)).sum()) * noise**2
    held = (_NOISE_GUESS * loss_sd) ** 2
    return max(math.sqrt((weighted + held) / (dof + 1.0)), 1e-4 * loss_sd)


def _member(
    grid: Grid,
    points: DesignPoints,
    loss: FloatArray,
    scale: float,
    theta: FloatArray,
    noise: float,
    prior: tuple[FloatArray, FloatArray],
) -> Member:
    """Width and evidence at the maximum."""
    mean, sd = prior
    fitted, jacobian = evaluate(theta, grid, points)
    ratio = (loss - fitted) / noise
    weight = (FREEDOM + 1) / (FREEDOM + ratio**2)
    scaling = INFORMATION * len(loss) / weight.sum()
    sums = (jacobian * weight[:, None]).T @ jacobian / noise**2
    precision = scaling * sums + np.diag(sd**-2)
    fit = (FREEDOM + 1) * np.log1p(ratio**2 / FREEDOM).sum() + (((theta - mean) / sd) ** 2).sum()
    evidence = -0.5 * fit - len(loss) * math.log(noise) - 0.5 * np.linalg.slogdet(precision)[1]
    evidence -= np.log(sd).sum()
    covariance = np.linalg.inv(precision)
    root = np.sqrt(scaling * weight)
    influence = covariance @ (jacobian * (root / noise)[:, None]).T
    return Member(
        scale=scale, theta=theta, covariance=np.asarray(covariance),
        influence=np.asarray(influence), residual=root * ratio,
        dof=len(loss) - scaling * float(np.sum(covariance * sums.T)),
        noise=noise / SCALE_OF_NORMAL, log_evidence=float(evidence),
    )  # fmt: skip
