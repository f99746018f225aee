"""A training that draws its losses from analytic surfaces: for dry runs and tests. No torch."""

from __future__ import annotations

import time
import zlib
from typing import Any

import numpy as np

from trainables.config import TrialConfig
from trainables.context import Context
from trainables.data import Simulated

SURFACES: dict[str, dict[str, float]] = {
    "knowledge": {"E": 0.6, "A": 400.0, "B": 900.0, "alpha": 0.62, "beta": 0.50},
    "knowledge-qa": {"E": 0.8, "A": 420.0, "B": 950.0, "alpha": 0.62, "beta": 0.50},
    "code": {"E": 0.3, "A": 150.0, "B": 900.0, "alpha": 0.58, "beta": 0.50},
    "validation": {"E": 1.6, "A": 180.0, "B": 500.0, "alpha": 0.60, "beta": 0.50},
}
"""Default surfaces (assumption): optima near 20-60 k parameters at 1e11..4e11 FLOPs, as the
built-in corpora have, knowledge above code."""


def train(config: TrialConfig, context: Context) -> dict[str, Any]:
    """Return the record `trainables.engine.loop.train` would, with losses E + A/p^alpha +
    B/t^beta.

    Noise has a standard deviation of ``data.noise`` and depends on skill, shape, tokens and seed
    alone, so that the same trial gives the same record.

    Args:
        config: the trial; ``data.surface`` holds each skill's parameters, or is empty for
            `SURFACES`.

    Raises:
        ValueError: a skill has no surface, or its surface lacks a parameter.
    """
    shape, started = config.shape, time.time()
    data = config.data
    if not isinstance(data, Simulated):
        raise ValueError(f"data.source: {data.source} has no surfaces to draw losses from")
    names = config.skills or tuple(data.surface or SURFACES)
    tokens = round(config.tokens / shape.context) * shape.context
    losses = {name: _measure(name, config, data, tokens) for name in names}
    mean = sum(entry["nll"] for entry in losses.values()) / len(losses) / EXAMPLES
    record = {
        "status": "finished",
        "reason": "",
        "losses": losses,
        "params_total": shape.params_total,
        "params_without_embeddings": shape.params_without_embeddings,
        "params_with_head": shape.params_with_head,
        "tokens": tokens,
        "steps": config.recipe.steps,
        "flops_6p": tokens * shape.flops_per_token("6p"),
        "flops_exact": tokens * shape.flops_per_token("exact"),
        "train_loss": mean,
        "wall_s": time.time() - started,
        "tokens_per_s": tokens / max(time.time() - started, 1e-9),
        "first_step_at": started,
    }
    context.report({key: record[key] for key in ("steps", "tokens", "train_loss", "tokens_per_s")})
    return record


EXAMPLES = 1000
"""Target tokens a simulated skill claims to have been measured on (assumption)."""


def _measure(name: str, config: TrialConfig, data: Simulated, tokens: int) -> dict[str, Any]:
    """One skill's simulated sums."""
    try:
        surface = (data.surface or SURFACES)[name]
        E, A, B, alpha, beta = (surface[key] for key in ("E", "A", "B", "alpha", "beta"))
    except KeyError as missing:
        raise ValueError(
            f"data.surface: {missing} is missing for skill {name!r}; give each skill "
            "E, A, B, alpha and beta"
        ) from None
    params = config.shape.params_with_head
    entropy = [data.world_seed, config.seed, params, tokens, zlib.crc32(name.encode())]
    noise = data.noise * np.random.default_rng(entropy).standard_normal()
    loss = E + A * params**-alpha + B * tokens**-beta + noise
    group = "aggregate" if name == "validation" else name.split("-")[0]
    sums = {"nll": float(loss * EXAMPLES), "tokens": EXAMPLES, "bytes": 4 * EXAMPLES}
    return {**sums, "examples": EXAMPLES, "class": group}
