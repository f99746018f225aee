"""The model that is built is the one the shape describes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from trainables.engine.loss import Objective
from trainables.engine.model import Network, build
from trainables.families import Model, Shape
from trainables.shapes import solve

MODELS = [
    (7e3, Model()),
    (3e4, Model()),
    (1e5, Model(tied=False, layers=3)),
    (4e5, Model(vocabulary=500, context=33, kv_groups=2)),
    (9e5, Model(vocabulary=300, tied=False, kv_groups=4, head_dim=16)),
]


@pytest.fixture(params=MODELS, ids=lambda case: f"{case[0]:g}")
def shape(request: pytest.FixtureRequest) -> Shape:
    return solve(*request.param)


def logits(network: Network, tokens: torch.Tensor) -> torch.Tensor:
    return functional.linear(network(tokens), network.head)


def test_parameter_counts_equal_those_of_the_model(shape: Shape) -> None:
    causal = build(shape, seed=0, attention="sdpa").causal
    lookup = causal.model.embed_tokens.weight.numel()
    total = sum(p.numel() for p in causal.parameters())
    assert shape.params_total == total
    assert shape.params_with_head == (total if shape.tied else total - lookup)
    assert shape.params_without_embeddings == total - lookup * (1 if shape.tied else 2)


def test_exact_flops_equal_torchs_count(shape: Shape) -> None:
    network = build(shape, seed=0, attention="eager")
    documents = torch.randint(shape.vocabulary, (2, shape.context))
    with FlopCounterMode(display=False) as counter:
        Objective(network, begin=0)(documents, len(documents))[0].backward()
    assert counter.get_total_flops() == documents.numel() * shape.flops_per_token("exact")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_short_forward_pass_equals_the_librarys_own(attention: str) -> None:
    shape = solve(5e4, Model(kv_groups=2))
    network = build(shape, seed=0, attention=attention)
    tokens = torch.randint(shape.vocabulary, (3, shape.context))
    expected = network.causal(tokens).logits
    torch.testing.assert_close(logits(network, tokens), expected, rtol=1e-4, atol=1e-5)


def test_the_loss_of_a_token_does_not_see_it_or_what_follows() -> None:
    shape = solve(2e4, Model())
    network = build(shape, seed=0, attention="sdpa")
    documents = torch.randint(shape.vocabulary, (1, shape.context))
    changed = documents.clone()
    changed[0, 30] = (changed[0, 30] + 1) % shape.vocabulary
    before, after = (Objective(network, begin=0).nll(d)[0] for d in (documents, changed))
    torch.testing.assert_close(before[:30], after[:30])
    assert not torch.allclose(before[30:], after[30:])


def test_nll_is_of_the_document_shifted_by_a_start_token() -> None:
    shape = solve(2e4, Model())
    network = build(shape, seed=0, attention="sdpa")
    documents = torch.randint(shape.vocabulary, (1, shape.context))
    scores = logits(network, torch.cat((torch.tensor([[7]]), documents[:, :-1]), dim=1))
    expected = -functional.log_softmax(scores, -1)[0, torch.arange(shape.context), documents[0]]
    torch.testing.assert_close(Objective(network, begin=7).nll(documents)[0], expected)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    shape = solve(2e4, Model())
    first, again, other = (build(shape, seed=s, attention="sdpa") for s in (1, 1, 2))
    weights = [next(n.parameters()) for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
