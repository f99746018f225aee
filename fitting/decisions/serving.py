"""Size and tokens of least lifetime cost: training plus all that is served afterwards.

Legend: p = params, t = tokens, C = flops; L = E + A p^-alpha + B t^-beta, in nats.
Method: Sardana and Frankle (arXiv 2401.00448). With the loss fixed, the fraction s of the
reducible loss that is left to the tokens term settles both p and t. The cost of training and
serving is proportional to p (t + r), r being the demand counted in training tokens, and is least
where alpha (1 - s) / (beta s) = 1 + r / t(s): the left side falls in s, the right side rises,
hence one root. Without demand r = 0 and the compute optimum comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fitting.errors import FittingError, Status
from fitting.laws.surface import Surface
from fitting.regression import falling_root
from fitting.values import FLOPS_PER_PARAM_TOKEN, Z90, Result, check_positive, log_interval, number

SERVING_SHARE = 1 / 3
"""FLOPs of a served token over those of a trained one: a forward pass of 2 per parameter, of 6
(Kaplan et al. 2020)."""

MOST_FLOPS = 1e40
"""A training beyond it counts as out of reach (assumption: 1e13 of today's largest)."""

_SECONDS_PER_HOUR = 3600.0
_STEP = 1e-5  # of the numerical derivatives
_LOGIT_LIMIT = 700.0  # beyond it a share of the loss is 0 or 1 in floating point


@dataclass(frozen=True)
class Demand:
    """Tokens a model will serve over its life.

    Attributes:
        prompt_tokens: read in parallel.
        generated_tokens: produced one after another, at a far lower utilisation.
    """

    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "generated_tokens"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise FittingError(f"{name}={value!r}: give zero or a positive finite number")

    @property
    def tokens(self) -> float:
        """All of them."""
        return self.prompt_tokens + self.generated_tokens


@dataclass(frozen=True)
class Machine:
    """A GPU doing one type of work.

    Attributes:
        price_per_hour: money per GPU-hour.
        peak_flops: FLOPs per second by its data sheet, in the precision used for this work.
        utilisation: share of the peak that is reached (MFU), in (0, 1].
    """

    price_per_hour: float
    peak_flops: float
    utilisation: float

    def __post_init__(self) -> None:
        check_positive(price_per_hour=self.price_per_hour, peak_flops=self.peak_flops)
        if not 0 < self.utilisation <= 1:
            raise FittingError(f"utilisation={self.utilisation!r}: give a share above 0, up to 1")

    @property
    def price_per_flop(self) -> float:
        """Money per useful FLOP."""
        return self.price_per_hour / (_SECONDS_PER_HOUR * self.peak_flops * self.utilisation)


@dataclass(frozen=True)
class Prices:
    """Money per useful FLOP of training, of reading prompts, and of generating."""

    training: float
    prompt: float
    generation: float

    def __post_init__(self) -> None:
        check_positive(training=self.training, prompt=self.prompt, generation=self.generation)

    @classmethod
    def of_machines(
        cls, training: Machine, *, prompt: Machine, generation: Machine | None = None
    ) -> Prices:
        """Prices from the machines that do the work; generation defaults to the prompt's."""
        last = prompt if generation is None else generation
        return cls(training.price_per_flop, prompt.price_per_flop, last.price_per_flop)


@dataclass(frozen=True)
class ServingOptimum(Result):
    """The allocation of least lifetime cost at a given loss, beside the compute-optimal one.

    Attributes:
        params: p of least cost, NaN where ``status`` forbids a number.
        loss: of both allocations, nats.
        cost: lifetime cost of (params, tokens), in ``unit``.
        compute_optimal_params: p that reaches the loss with the fewest training FLOPs.
        unit: "flops" or "money".
        extrapolates: training FLOPs over the largest budget of the surface's data, at least 1.
        log_params_se: standard error of ln p at this very loss, from the surface's covariance;
            NaN for a surface given by its constants.
        per_param_token: training FLOPs per parameter and token.
    """

    params: float
    tokens: float
    loss: float
    demand: Demand
    cost: float
    compute_optimal_params: float
    compute_optimal_tokens: float
    compute_optimal_cost: float
    unit: str
    status: Status
    reason: str
    extrapolates: float = 1.0
    log_params_se: float = math.nan
    per_param_token: float = FLOPS_PER_PARAM_TOKEN

    @property
    def tokens_per_param(self) -> float:
        """t / p."""
        return self.tokens / self.params

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of params."""
        return log_interval(self.params, Z90 * self.log_params_se)

    @property
    def saving(self) -> float:
        """Share of the compute-optimal allocation's lifetime cost that is saved."""
        return 1.0 - self.cost / self.compute_optimal_cost

    @property
    def training_flops(self) -> float:
        """By ``per_param_token``."""
        return self.per_param_token * self.params * self.tokens


def _check_surface(surface: Surface) -> None:
    """Refuse what is no surface, and one without optima."""
    if not isinstance(surface, Surface):
        raise FittingError("surface: give a Surface, such as fit_surface(params, tokens, loss)")
    surface.required()


def compute_optimal_tokens(surface: Surface, params: float) -> float:
    """Tokens that make ``params`` the optimum of its own budget.

    Raises:
        FitError: the surface has no optima.
        FittingError: params is not positive and finite.
    """
    _check_surface(surface)
    check_positive(params=params)
    slope = surface.alpha * surface.A * params**-surface.alpha
    return float((surface.beta * surface.B / slope) ** (1 / surface.beta))


def quality_of(surface: Surface, params: float) -> float:
    """Loss of a model of this size trained compute-optimally, nats: "the quality of a 30 B"."""
    tokens = compute_optimal_tokens(surface, params)
    return float(surface.loss(params, tokens))


def serving_optimum(
    surface: Surface,
    demand: Demand | float,
    *,
    loss: float,
    prices: Prices | None = None,
    per_param_token: float = FLOPS_PER_PARAM_TOKEN,
) -> ServingOptimum:
    """Least lifetime cost at which a loss is reached, for a given demand.

    Args:
        demand: what will be served; a plain number is a count of tokens.
        loss: wanted, nats; `quality_of` gives that of a compute-optimal size.
        prices: cost in money, each term at its own utilisation and price; in FLOPs if None.
        per_param_token: training FLOPs per parameter and token by the table's count; a served
            token takes a third.

    Returns:
        Status UNREACHABLE and a reason where ``loss`` is not above the surface's floor. Demand
        of zero gives the compute optimum.

    Raises:
        FitError: the surface has no optima.
        FittingError: demand, loss or a price is not a number of the right sign.
    """
    _check_surface(surface)
    check_positive(loss=loss)
    served = demand if isinstance(demand, Demand) else Demand(prompt_tokens=float(demand))
    per_token, per_param = _cost_terms(served, prices, per_param_token)
    unit = "flops" if prices is None else "money"
    if loss <= surface.E:
        return _unreachable(served, loss, unit, f"the surface's floor E is {surface.E:.6g}")
    log_params, log_tokens = _allocation(surface, loss, per_param / per_token)
    if log_params + log_tokens > math.log(MOST_FLOPS):
        takes = f"10^{(log_params + log_tokens) / math.log(10) + 1:.0f} FLOPs would be needed"
        return _unreachable(served, loss, unit, takes)
    params, tokens = math.exp(log_params), math.exp(log_tokens)
    usual_params, usual_tokens = (math.exp(v) for v in _allocation(surface, loss, 0.0))
    flops = per_param_token * params * tokens
    reach = flops / surface.flops_range[1] if surface.points else 1.0
    return ServingOptimum(
        params=params, tokens=tokens, loss=loss, demand=served,
        cost=params * (per_token * tokens + per_param), compute_optimal_params=usual_params,
        compute_optimal_tokens=usual_tokens,
        compute_optimal_cost=usual_params * (per_token * usual_tokens + per_param), unit=unit,
        status=Status.OK, reason=_reason(served, reach), extrapolates=max(1.0, reach),
        log_params_se=_log_params_se(surface, loss, per_param / per_token),
        per_param_token=per_param_token,
    )  # fmt: skip


def _cost_terms(demand: Demand, prices: Prices | None, factor: float) -> tuple[float, float]:
    """Cost per parameter and training token, and cost per parameter of the demand."""
    price = prices or Prices(1.0, 1.0, 1.0)
    served = price.prompt * demand.prompt_tokens + price.generation * demand.generated_tokens
    return factor * price.training, factor * SERVING_SHARE * served


def _allocation(surface: Surface, loss: float, demand: float) -> tuple[float, float]:
    """(ln p, ln t) that reach ``loss`` at the least p (t + demand)."""
    reducible = loss - surface.E

    def log_tokens(logit: float) -> float:
        log_share = -math.log1p(math.exp(-logit))
        return (math.log(surface.B / reducible) - log_share) / surface.beta

    def excess(logit: float) -> float:
        growth = math.log1p(demand * math.exp(-log_tokens(logit)))
        return math.log(surface.alpha / surface.beta) - logit - growth

    high = math.log(surface.alpha / surface.beta)  # without demand
    logit = falling_root(excess, -_LOGIT_LIMIT, high)
    log_rest = -math.log1p(math.exp(logit))
    log_params = (math.log(surface.A / reducible) - log_rest) / surface.alpha
    return log_params, log_tokens(logit)


def _log_params_se(surface: Surface, loss: float, demand: float) -> float:
    """Standard error of ln p, by the delta method with numerical derivatives."""
    covariance = np.array(surface.covariance)
    if not np.isfinite(covariance).all():
        return math.nan
    gradient = []
    for i in range(5):
        ends = []
        for step in (_STEP, -_STEP):
            moved = _moved(surface, i, step)
            if loss <= moved.E:
                return math.inf  # the floor is not known well enough to say
            ends.append(_allocation(moved, loss, demand)[0])
        gradient.append((ends[0] - ends[1]) / (2 * _STEP))
    return math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))


def _moved(surface: Surface, i: int, step: float) -> Surface:
    """The surface with one of (ln E, ln A', alpha, ln B', beta) moved."""
    x, y = surface.centre
    moves = [step if j == i else 0.0 for j in range(5)]
    return replace(
        surface, E=surface.E * math.exp(moves[0]),
        A=surface.A * math.exp(moves[1] + moves[2] * x), alpha=surface.alpha + moves[2],
        B=surface.B * math.exp(moves[3] + moves[4] * y), beta=surface.beta + moves[4],
    )  # fmt: skip


def _reason(demand: Demand, reach: float) -> str:
    """Remarks on the answer."""
    said = "Nothing is served: the compute-optimal allocation." if demand.tokens == 0 else ""
    if reach > 1:
        said += f" Training takes {number(reach)} times the largest budget fitted."
    return said.strip() or "Interior minimum of the lifetime cost."


def _unreachable(demand: Demand, loss: float, unit: str, why: str) -> ServingOptimum:
    """An answer without numbers."""
    reason = f"No allocation reaches a loss of {loss:.6g}: {why}. Ask for a higher loss."
    nan = math.nan
    return ServingOptimum(
        nan, nan, loss, demand, nan, nan, nan, nan, unit, Status.UNREACHABLE, reason
    )
