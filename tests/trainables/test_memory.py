"""The memory estimate agrees with what torch holds, where that can be seen without a GPU."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from trainables.engine.model import Network, build
from trainables.families import FAMILIES, Model
from trainables.families.memory import estimate, most_tokens
from trainables.shapes import solve

logging.getLogger("transformers").setLevel(logging.ERROR)  # that fast kernels are missing

LARGE = Model(vocabulary=32_000, context=2048, tied=False, kv_groups=4)


def kept_bytes(network: Network, tokens: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, weights and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}
    sizes: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(tokens)
    return sum(sizes.values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_activations_are_within_a_fifth_of_what_autograd_keeps(
    family: str, attention: str
) -> None:
    kind = FAMILIES[family]
    own: dict[str, Any] = {"experts": 4, "active_experts": 2} if kind.experts else {}
    if kind.every:
        own["attention_every"] = 3
    model = Model(family=family, vocabulary=128, context=64, layers=6, head_dim=16, **own)
    shape = solve(4e5, model)
    network = build(shape, seed=0, attention=attention)
    tokens = torch.randint(shape.vocabulary, (2, shape.context))
    planned = estimate(shape, tokens.numel(), eager=attention == "eager").activations
    assert planned == pytest.approx(kept_bytes(network, tokens), rel=0.2)


def test_weights_gradients_and_moments_are_exact() -> None:
    shape = solve(1e5, Model())
    network = build(shape, seed=0, attention="sdpa")
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, shape.context, dtype=torch.long)).sum().backward()
    optimizer.step()
    moments = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    )
    planned = estimate(shape, shape.context)
    assert planned.weights == sum(w.numel() * w.element_size() for w in network.parameters())
    assert planned.gradients == planned.weights
    assert planned.optimizer == pytest.approx(moments, rel=1e-3)


def test_memory_grows_with_what_is_held_and_falls_when_it_is_divided() -> None:
    shape = solve(1e9, LARGE)
    one = estimate(shape, 8192, bf16=True, gpu=True)
    assert one.total < estimate(shape, 16384, bf16=True, gpu=True).total
    assert one.total < estimate(shape, 8192, gpu=True).total
    assert one.total > estimate(shape, 8192, bf16=True, gpu=True, recompute=True).total
    assert one.total > estimate(shape, 8192, bf16=True).total
    sharded = estimate(shape, 8192, bf16=True, gpu=True, workers=8, sharded=True)
    assert sharded.optimizer == one.optimizer / 8
    repeated = estimate(shape, 8192, bf16=True, gpu=True, workers=8)
    assert sharded.total < one.total < repeated.total


def test_the_largest_micro_batch_fits_and_one_sequence_more_may_not() -> None:
    shape = solve(1e9, LARGE)
    free = 80e9
    tokens = most_tokens(shape, free, bf16=True, gpu=True)
    assert tokens % shape.context == 0
    assert estimate(shape, tokens, bf16=True, gpu=True).total <= free
    assert estimate(shape, tokens + 2 * shape.context, bf16=True, gpu=True).total > free
    assert most_tokens(shape, 10e9, bf16=True, gpu=True) == 0
