"""One member of the guarded mixture: its fit, its optima and its losses, with their errors.

Legend: p = params, t = tokens, C = flops; S = skills, n = places, P = parameters, K = nodes,
J = bends; u = ln p less the vertex; losses in nats, logarithms natural.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fitting.mixture.discrepancy import Discrepancy, bend_functions
from fitting.mixture.vertex_form import (
    Layout,
    Rows,
    Slope,
    blur,
    exponents,
    jacobian,
    slope_along,
    surface,
)
from fitting.values import Z90, FloatArray

FARTHEST, STRIDE = 3.0, 0.5
"""How far from the vertex bends may move an optimum, ln p, and the steps it is sought in: of a
curve that turns down far out the valley next to the vertex counts."""

HALVINGS = 13
"""Of a stride, to 1e-4; one Newton step ends it. Bends have kinks that upset Newton earlier."""

LEAST_STIFFNESS = 0.1
"""Least curvature at an optimum moved by bends, relative to the vertex: keeps errors finite where
bends flatten a curve; assumption."""


def t90(freedom: FloatArray) -> FloatArray:
    """Half-width of a central 90 % t interval over that of a normal one (Cornish-Fisher)."""
    v = np.maximum(freedom, 3.0)
    return 1 + (Z90**2 + 1) / (4 * v) + (5 * Z90**4 + 16 * Z90**2 + 3) / (96 * v**2)


@dataclass(frozen=True)
class Component:
    """One member of the mixture, for all skills.

    Attributes:
        discrepancy: what it may depart by, and where.
        theta: (S, P) posterior maximum; layout in `fitting.mixture.vertex_form`.
        precision: (S, P, P) J'WJ + prior at the maximum, less what `doubt` adds to its inverse.
        doubt: (S, P, J) root of what not knowing what skills have in common adds to the
            covariance; J = 0 without.
        scale: (S,) error scale of one loss, nats.
        dof: (S,) observations less effective parameters.
        log_evidence: (S,).
        near_evidence: (S,) the same by losses near the optima, see `laplace.Posterior`.
        converged: (S,) whether the maximum was reached.
        origin: (ln p, ln C) the parameters refer to.
        common: (J,) bends that the skills share, in spreads of each skill's losses.
        common_evidence: log evidence beyond the skills' own, from what they share.
    """

    discrepancy: Discrepancy
    theta: FloatArray
    precision: FloatArray
    doubt: FloatArray
    scale: FloatArray
    dof: FloatArray
    log_evidence: FloatArray
    near_evidence: FloatArray
    converged: npt.NDArray[np.bool_]
    origin: tuple[float, float]
    common: FloatArray = field(default_factory=lambda: np.empty(0))
    common_evidence: float = 0.0

    @property
    def name(self) -> str:
        """For reports."""
        return self.discrepancy.kind.name

    @property
    def nodes(self) -> FloatArray:
        """(K,) ln C less its origin; empty for the plain surface."""
        return self.discrepancy.nodes

    @property
    def knots(self) -> FloatArray:
        """(J + 1,) bounds of the bends, ln p less its origin; empty without."""
        return self.discrepancy.knots

    @property
    def layout(self) -> Layout:
        """Places of the parameters in theta."""
        return self.discrepancy.layout

    @cached_property
    def covariance(self) -> FloatArray:
        """Inverse of the precision, (S, P, P)."""
        return np.asarray(np.linalg.inv(self.precision))

    def _log_flops(self, flops: npt.ArrayLike) -> FloatArray:
        return np.asarray(np.log(np.atleast_1d(np.asarray(flops, float))) - self.origin[1])

    def _rows(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> Rows:
        at, budget = np.broadcast_arrays(
            np.atleast_1d(np.asarray(log_params, float)) - self.origin[0], self._log_flops(flops)
        )
        hats = self.discrepancy.effects_at(budget)[0]
        return Rows(at, budget, hats, bend_functions(at, self.knots)[0])

    def loss_hat(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> FloatArray:
        """Fitted loss (S, n) at sizes on budgets."""
        return surface(self.theta, self._rows(log_params, flops))[0]

    def jacobian(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> FloatArray:
        """Derivatives of the loss by the parameters, (S, n, P)."""
        rows = self._rows(log_params, flops)
        return jacobian(surface(self.theta, rows)[1], rows)

    def blur(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> FloatArray:
        """What the error of one loss is multiplied by for its distance from the vertex, (S, n)."""
        distance = surface(self.theta, self._rows(log_params, flops))[2]
        return blur(distance, self.discrepancy.kind.reach)

    def _optimum(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """ln p* less its origin (S, n), its derivatives (S, n, P), and by the vertex (S, n)."""
        a = exponents(self.theta)[0][:, None]
        vertex = self.theta[:, 2, None] + a * log_flops
        layout, weights = self.layout, self.discrepancy.effects_at(log_flops)[0]
        curvature = np.zeros_like(vertex)
        if layout.nodes:  # a skewness turns round the vertex: with bends no member has one
            vertex = vertex + self.theta[:, layout.effect_slice(0)] @ weights[0].T
            curvature = self.theta[:, layout.effect_slice(2)] @ weights[2].T
        place, slope = self._settle(log_flops, vertex, curvature)
        stiffness = LEAST_STIFFNESS * self.shape(np.exp(log_flops + self.origin[1]))[0]
        give = -1.0 / np.maximum(slope.by_size, stiffness)
        by_vertex = give * slope.by_vertex
        out = np.zeros((*vertex.shape, layout.width))
        out[:, :, : layout.shared] = np.moveaxis(give * slope.by_shared, 0, -1)
        out[:, :, 2] = by_vertex
        out[:, :, 3] += by_vertex * a * (1 - a) * log_flops
        if layout.nodes:
            out[:, :, layout.effect_slice(0)] = by_vertex[:, :, None] * weights[0]
            moved = (give * slope.by_shared[1])[:, :, None]
            out[:, :, layout.effect_slice(2)] = moved * weights[2]
        return place, out, by_vertex

    def _settle(
        self, log_flops: FloatArray, vertex: FloatArray, curvature: FloatArray
    ) -> tuple[FloatArray, Slope]:
        """Where the slope along each budget vanishes: at the vertex unless bends move it."""

        def slope(place: FloatArray) -> Slope:
            return slope_along(
                self.theta,
                self.layout,
                log_flops=log_flops,
                distance=place - vertex,
                log_curvature=curvature,
                bends=bend_functions(place, self.knots)[1:],
            )

        if not len(self.knots):
            return vertex, slope(vertex)
        low, high = self._valley(vertex, lambda place: slope(place).value)
        for _ in range(HALVINGS):
            place = 0.5 * (low + high)
            rising = slope(place).value > 0
            low, high = np.where(rising, low, place), np.where(rising, place, high)
        place = 0.5 * (low + high)
        at = slope(place)
        step = at.value / np.where(at.by_size > 0, at.by_size, np.inf)
        place = np.clip(place - step, low, high)
        return place, slope(place)

    @staticmethod
    def _valley(
        vertex: FloatArray, steepness: Callable[[FloatArray], FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Bounds of the lowest place next to the vertex; both the vertex where there is none."""
        uphill = np.where(steepness(vertex) > 0, 1.0, -1.0)
        low, high, found = vertex, vertex, np.zeros(vertex.shape, bool)
        for step in np.arange(STRIDE, FARTHEST + STRIDE / 2, STRIDE):
            place = vertex - uphill * step
            turned = ~found & (steepness(place) * uphill < 0)
            near = place + uphill * STRIDE
            low = np.where(turned, np.minimum(place, near), low)
            high = np.where(turned, np.maximum(place, near), high)
            found |= turned
            if found.all():
                break
        return low, high

    def target(self, flops: npt.ArrayLike) -> FloatArray:
        """Derivatives of ln p*(C) by the parameters, (S, n, P)."""
        return self._optimum(self._log_flops(flops))[1]

    def unseen_variance(self, flops: npt.ArrayLike) -> FloatArray:
        """Variance of ln p*(C) that no trial on the nodes can remove, (n,)."""
        return np.asarray(self.discrepancy.effects_at(self._log_flops(flops))[1][0])

    def vertex(self, flops: npt.ArrayLike) -> FloatArray:
        """Mean of ln p*, (S, n), without its error."""
        return self.origin[0] + self._optimum(self._log_flops(flops))[0]

    def log_optimum(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Mean and standard error of ln p*, (S, n) each."""
        mean, gradient, by_vertex = self._optimum(self._log_flops(flops))
        variance = ((gradient @ self.covariance) * gradient).sum(axis=-1)
        variance = variance + by_vertex**2 * self.unseen_variance(flops)
        return self.origin[0] + mean, np.sqrt(variance) * t90(self.dof)[:, None]

    def line(self, flops: npt.ArrayLike, project: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A linear function (m, n) of ln p* on n budgets: mean (S, m), covariance (S, m, m)."""
        mean, gradient, by_vertex = self._optimum(self._log_flops(flops))
        along = project @ gradient
        own = project[:, None, :] * project * self.unseen_variance(flops)
        spread = along @ self.covariance @ np.swapaxes(along, 1, 2)
        spread = spread + np.einsum("ijn,sn->sij", own, by_vertex**2)
        spread = spread * t90(self.dof)[:, None, None] ** 2
        return (self.origin[0] + mean) @ project.T, spread

    def shape(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Curvature d2L/du2 at the vertex, nats, and gamma R: the size of cubic terms; (S, n)."""
        log_flops = self._log_flops(flops)
        _, alpha, beta, gamma = exponents(self.theta)
        reducible = np.exp(self.theta[:, 1, None] - gamma[:, None] * log_flops)
        if self.layout.nodes:
            weights = self.discrepancy.effects_at(log_flops)[0][2]
            reducible = reducible * np.exp(self.theta[:, self.layout.effect_slice(2)] @ weights.T)
        return reducible * (alpha * beta)[:, None], reducible * gamma[:, None]

    def loss(self, log_params: FloatArray, flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected loss and its standard error, (S, n) each, nats."""
        rows = self._rows(log_params, flops)
        mean, local, _ = surface(self.theta, rows)
        gradient = jacobian(local, rows)
        variance = ((gradient @ self.covariance) * gradient).sum(axis=-1)
        if self.layout.nodes:
            left = self.discrepancy.effects_at(rows.log_flops)[1]
            for by, rest in zip(self.layout.effect_columns, left, strict=True):
                variance = variance + local[by] ** 2 * rest
        return mean, np.sqrt(variance) * t90(self.dof)[:, None]
