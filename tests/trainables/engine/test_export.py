"""Exported weights are read back by the library as the same model."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from trainables.engine.export import to_hf
from trainables.engine.model import build
from trainables.families import FAMILIES, Model
from trainables.shapes import solve

logging.getLogger("transformers").setLevel(logging.ERROR)  # that fast kernels are missing


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_library_reads_the_same_model_back(family: str, tmp_path: Path) -> None:
    kind = FAMILIES[family]
    experts = 2 if kind.experts else None
    model = Model(
        family=family, vocabulary=64, context=16, layers=3, experts=experts,
        attention_every=2 if kind.every else None, tied=kind.always_tied,
    )  # fmt: skip
    shape = solve(2e4, model)
    network = build(shape, seed=0, attention="sdpa").eval()
    to_hf(network, tmp_path, begin=5, weights=network.state_dict())
    how = {"experts_implementation": "eager"} if kind.experts else {}
    causal = AutoModelForCausalLM.from_pretrained(tmp_path, **how).eval()
    tokens = torch.randint(shape.vocabulary, (2, shape.context))
    with torch.no_grad():
        ours, theirs = functional.linear(network(tokens), network.head), causal(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert causal.config.bos_token_id == 5
    assert causal.config.tie_word_embeddings == shape.tied


def test_tied_weights_are_written_once_and_tied_again(tmp_path: Path) -> None:
    network = build(solve(2e4, Model()), seed=0, attention="sdpa")
    to_hf(network, tmp_path / "made", begin=0)
    causal = AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    assert causal.lm_head.weight is causal.model.embed_tokens.weight
    assert torch.equal(causal.lm_head.weight, network.head)
