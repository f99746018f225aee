"""Final weights as a Hugging Face checkpoint, for whatever reads those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from trainables.engine.model import Network

PREFIX = "causal."
"""What a `Network` adds to the library's names of weights."""


def to_hf(
    network: Network, directory: Path, *, begin: int, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained` reads.

    Readers of a mixture whose experts are no multiple of 8 wide pass it
    ``experts_implementation="eager"``: the library's default products want aligned rows.

    Args:
        directory: where to write; made if need be.
        begin: token that stood before each sequence; readers put it there as ``bos``.
        weights: the network's whole state dict, where the network itself holds only a shard.
    """
    causal = network.causal
    causal.config.bos_token_id = causal.generation_config.bos_token_id = begin
    whole = network.state_dict() if weights is None else weights
    named = {n.removeprefix(PREFIX): w for n, w in whole.items() if n.startswith(PREFIX)}
    causal.save_pretrained(directory, state_dict=named)
