"""The memory estimate against what torch holds, by family.

    OMP_NUM_THREADS=1 python benchmarks/memory_estimate.py
    python benchmarks/memory_estimate.py --device cuda --params 3e8 --context 2048 --micro 8

On the CPU the activations are compared with what autograd keeps for the backward pass (weights and
moments are exact, see tests/trainables/test_memory.py); on a GPU the whole estimate with the peak
of a training step, plain and with recomputed blocks, in bfloat16.
"""

from __future__ import annotations

import argparse
import datetime
import logging

import torch
from torch import Tensor

from trainables.engine.loss import Objective
from trainables.engine.model import Network, build
from trainables.families import FAMILIES, Model, Shape
from trainables.families.memory import CONTEXT_BYTES, estimate
from trainables.shapes import solve
from trainables.training import Train


def kept_bytes(network: Network, tokens: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, weights and buffers left out."""
    own = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}
    sizes: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # or its place might be given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(tokens)
    return sum(sizes.values())


def peak_bytes(network: Network, tokens: Tensor, *, recompute: bool) -> int:
    """Most bytes allocated on the GPU in the second of two training steps."""
    if recompute:
        network.causal.activation_checkpointing_enable({"use_reentrant": False})
    objective = Objective(network.train(), begin=0)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss, _nll = objective(tokens, len(tokens))
        (loss / tokens.numel()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return int(torch.cuda.max_memory_allocated())


def shape_of(family: str, options: argparse.Namespace) -> Shape:
    """The family's model of the wanted size; mixtures with eight experts."""
    kind = FAMILIES[family]
    model = Model(
        family=family,
        vocabulary=options.vocabulary,
        context=options.context,
        experts=8 if kind.experts else None,
        active_experts=2 if kind.experts else None,
    )
    return solve(options.params, model)


def rows(family: str, options: argparse.Namespace) -> list[str]:
    """The table's lines of one family."""
    shape = shape_of(family, options)
    tokens = torch.randint(shape.vocabulary, (options.micro, shape.context), device=options.device)
    found = []
    for recompute in (False, True) if options.device == "cuda" else (False,):
        network = build(shape, seed=0, attention=Train().attention).to(options.device)
        if options.device == "cuda":
            torch.cuda.empty_cache()
            measured = peak_bytes(network, tokens, recompute=recompute)
            whole = estimate(shape, tokens.numel(), bf16=True, recompute=recompute, gpu=True)
            planned = whole.total - CONTEXT_BYTES  # which torch's counter does not see
        else:
            measured = kept_bytes(network, tokens)
            planned = estimate(shape, tokens.numel()).activations
        ratio = planned / measured
        way = "recomputed" if recompute else "plain"
        found.append(
            f"| {family} | {shape.params_total / 1e6:.1f} M | {way} | {measured / 1e6:,.0f} MB | "
            f"{planned / 1e6:,.0f} MB | {ratio:.2f} |"
        )
        del network
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--params", type=float, default=4e6)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--micro", type=int, default=2)
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)  # that fast kernels are missing
    machine = "CPU" if options.device == "cpu" else torch.cuda.get_device_name()
    print(f"{datetime.date.today()}, {machine}, {vars(options)}\n")
    print("| family | params | blocks | measured | estimated | ratio |\n|---|---|---|---|---|---|")
    for family in FAMILIES:
        print("\n".join(rows(family, options)))


if __name__ == "__main__":
    main()
