"""The loss of next tokens, without the logits of a whole batch ever lying in memory at once.

A vocabulary of 128 k makes logits of 0.5 MB per token in fp32: more than all else in a small
model's step. They are made, used and dropped a slice of tokens at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainables.engine.model import Network
from trainables.families import memory


class Objective(nn.Module):
    """A network with its head and its loss: what data parallelism wraps.

    Args:
        network: from tokens to hidden states.
        begin: token that stands before each sequence.
        z_loss: weight of the squared log-normaliser.
    """

    def __init__(self, network: Network, *, begin: int, z_loss: float = 0.0) -> None:
        super().__init__()
        self.network, self.begin, self.z_loss = network, begin, z_loss

    def forward(self, sequences: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        """Summed loss of every token of the first ``valid`` of (sequences, context) tokens.

        Returns:
            What is descended on, and the negative log-likelihood in nats alone.
        """
        hidden, targets = self._hidden(sequences), sequences
        if valid < len(sequences):
            hidden, targets = hidden[:valid], targets[:valid]
        objective, nll = summed_loss(
            hidden.flatten(0, 1), self.network.head, targets.flatten(), z_loss=self.z_loss
        )
        if self.network.balance is not None:
            objective = objective + self.network.balance * targets.numel()
        return objective, nll

    def nll(self, sequences: Tensor) -> Tensor:
        """Negative log-likelihood of every token, nats: (sequences, length), no gradient."""
        with torch.no_grad():
            hidden = self._hidden(sequences)
            nll = token_nll(hidden.flatten(0, 1), self.network.head, sequences.flatten())
        return nll.view(sequences.shape)

    def _hidden(self, sequences: Tensor) -> Tensor:
        start = sequences.new_full((sequences.shape[0], 1), self.begin)
        hidden: Tensor = self.network(torch.cat((start, sequences[:, :-1]), dim=1))
        return hidden


def summed_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, *, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of NLL, with and without the z-loss.

    Args:
        hidden: (tokens, width).
        head: (vocabulary, width).
        targets: (tokens,).
        z_loss: weight of the squared log-normaliser (PaLM, Chowdhery et al. 2022, section 5).

    Returns:
        What is descended on, and the NLL without gradient.
    """
    if len(targets) > _slice_tokens(head):
        objective, nll = _SlicedLoss.apply(hidden, head, targets, z_loss)
        return objective, nll
    logits = functional.linear(hidden, head).float()
    nll = functional.cross_entropy(logits, targets, reduction="none").sum()
    if z_loss:
        return nll + z_loss * logits.logsumexp(-1).square().sum(), nll.detach()
    return nll, nll.detach()


def token_nll(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """NLL of each token, without gradient: (tokens,)."""
    size = _slice_tokens(head)
    parts = [
        functional.cross_entropy(functional.linear(h, head).float(), t, reduction="none")
        for h, t in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    return torch.cat(parts)


def _slice_tokens(head: Tensor) -> int:
    """Tokens whose logits may lie in memory together."""
    return memory.slice_tokens(int(head.shape[0]), gpu=head.device.type == "cuda")


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A matrix product in float32, whose terms may be narrower."""
    if left.device.type == "cuda" and left.dtype != torch.float32:
        wide: Tensor = torch.mm(left, right, out_dtype=torch.float32)  # sums are never rounded
        return wide
    return (left @ right).float()


class _SlicedLoss(torch.autograd.Function):
    """Cross-entropy of a linear head whose gradients are made slice by slice on the way forward.

    Three products per slice, as with full logits: nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, z_loss: float
    ) -> tuple[Tensor, Tensor]:
        """See `summed_loss`."""
        kind = hidden.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.dtype
        weight = head.to(compute)
        hidden_grad = torch.empty_like(hidden)
        head_grad = torch.zeros_like(head, dtype=torch.float32)
        nll, squares = hidden.new_zeros((), dtype=torch.float32), 0.0
        size = _slice_tokens(head)
        for first in range(0, len(targets), size):
            part, target = hidden[first : first + size].to(compute), targets[first : first + size]
            logits = _product(part, weight.T)
            at_target = logits.gather(1, target[:, None]).squeeze(1)
            normaliser = logits.logsumexp(-1)
            nll += (normaliser - at_target).sum()
            share = logits.sub_(normaliser[:, None]).exp_()
            if z_loss:
                squares = squares + normaliser.square().sum()
                share *= 1 + 2 * z_loss * normaliser[:, None]
            ones = torch.ones_like(at_target)[:, None]
            share = share.scatter_add_(1, target[:, None], -ones).to(compute)
            hidden_grad[first : first + size] = share @ weight
            head_grad += _product(share.T, part)
        ctx.save_for_backward(hidden_grad, head_grad.to(head.dtype))
        ctx.mark_non_differentiable(nll)
        return nll + z_loss * squares, nll

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Scale the gradients that forward made."""
        hidden_grad, head_grad = ctx.saved_tensors
        return hidden_grad * grad, head_grad * grad, None, None
