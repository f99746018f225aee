"""The loss in slices is the loss with full logits, gradients and all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.engine.loss import summed_loss, token_nll
from trainables.families import memory

TOKENS, WIDTH, VOCABULARY = 50, 12, 37


@pytest.fixture
def parts() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float32)
    head = torch.randn(VOCABULARY, WIDTH, generator=generator)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


def reference(hidden: Tensor, head: Tensor, targets: Tensor, z_loss: float) -> Tensor:
    logits = hidden.double() @ head.double().T
    nll = functional.cross_entropy(logits, targets, reduction="sum")
    return nll + z_loss * logits.logsumexp(-1).square().sum()


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("tokens_at_a_time", [1, 7, 25, 49, 50])
def test_slices_give_the_loss_and_gradients_of_full_logits(
    parts: tuple[Tensor, Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    tokens_at_a_time: int,
    z_loss: float,
) -> None:
    monkeypatch.setitem(memory.SLICE_LOGITS, "cpu", tokens_at_a_time * VOCABULARY)
    hidden, head, targets = parts
    objective, nll = summed_loss(hidden, head, targets, z_loss=z_loss)
    expected = reference(hidden, head, targets, z_loss)
    assert objective.item() == pytest.approx(expected.item(), rel=1e-6)
    assert nll.item() == pytest.approx(reference(hidden, head, targets, 0.0).item(), rel=1e-6)
    assert not nll.requires_grad
    (objective * 0.02).backward()
    wanted = torch.autograd.grad(expected * 0.02, (hidden, head))
    for found, value in zip((hidden.grad, head.grad), wanted, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6)


def test_slices_need_no_memory_for_all_logits(
    parts: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(memory.SLICE_LOGITS, "cpu", 5 * VOCABULARY)
    seen = []
    honest = torch.Tensor.logsumexp
    monkeypatch.setattr(
        torch.Tensor,
        "logsumexp",
        lambda self, dim: seen.append(self.shape[0]) or honest(self, dim),
    )
    summed_loss(*parts)[0].backward()
    assert seen == [5] * 10


def test_slices_under_autocast_keep_the_heads_gradient_in_float32(
    parts: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets = parts
    expected = torch.autograd.grad(reference(hidden, head, targets, 0.0), head)[0]
    grads = []
    for size in (7, TOKENS):
        monkeypatch.setitem(memory.SLICE_LOGITS, "cpu", size * VOCABULARY)
        head.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            summed_loss(hidden, head, targets)[0].backward()
        assert head.grad is not None and head.grad.dtype == torch.float32
        grads.append(head.grad)
    spread = float(expected.std())
    for grad in grads:
        torch.testing.assert_close(grad, expected, rtol=0.05, atol=0.02 * spread * TOKENS**0.5)


def test_token_losses_do_not_depend_on_the_slices(
    parts: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets = parts
    whole = token_nll(hidden, head, targets)
    monkeypatch.setitem(memory.SLICE_LOGITS, "cpu", 7 * VOCABULARY)
    torch.testing.assert_close(token_nll(hidden, head, targets), whole, rtol=1e-6, atol=1e-6)
    assert whole.shape == (TOKENS,)
