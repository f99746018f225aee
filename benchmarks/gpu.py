"""The training engine on the GPU at hand: right, fast, small enough, and honest about it.

    python benchmarks/gpu.py --out gpu                  # under 8 minutes on one H100 or H200
    python benchmarks/gpu.py --out gpu --tiny           # the same on a CPU, in two minutes

Needs torch, transformers and this repository's `trainables`; with accelerate installed,
transformers.Trainer is a rival too. Writes OUT.json and OUT.md: every figure, the device, the
versions. Each section may fail by itself; its error is written where its figures would be.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import distributed
from torch.nn import functional

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from train_throughput import Bare, Ours, make_clock, trainer_times  # noqa: E402

from trainables.config import TrialConfig  # noqa: E402
from trainables.context import LocalContext  # noqa: E402
from trainables.data import Data  # noqa: E402
from trainables.engine import loop, loss, parallel  # noqa: E402
from trainables.engine.model import build  # noqa: E402
from trainables.engine.optim import make_optimizer  # noqa: E402
from trainables.families import Model, Shape, memory  # noqa: E402
from trainables.shapes import solve  # noqa: E402
from trainables.training import Train  # noqa: E402

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}
"""Dense bfloat16 FLOP/s by a word of the device's name (makers' data sheets)."""

WAYS: dict[str, dict[str, Any]] = {
    "eager": {"compile": False, "graphs": False},
    "compiled": {"compile": True, "graphs": False},
    "graphed": {"compile": False, "graphs": True},
}


Device = Literal["cpu", "cuda"]


class Plan:
    """What is measured: sizes with their batches, and how long each may take."""

    def __init__(self, *, tiny: bool) -> None:
        gpu = torch.cuda.is_available() and not tiny
        self.device: Device = "cuda" if gpu else "cpu"
        self.vocabulary, self.context = (32_000, 1024) if gpu else (512, 64)
        pairs = ((1e6, 16), (1e7, 64), (5e7, 64), (1e8, 64), (3.5e8, 64))
        self.sizes = pairs if gpu else ((3e4, 4), (1e5, 4))
        self.ways = tuple(WAYS) if gpu else ("eager",)
        self.steps, self.seconds = (10, 6.0) if gpu else (10, 1.0)
        self.sharers = (1, 2, 4, 8) if gpu else (1, 2)
        self.loss = (16_384, 2048, 128_256) if gpu else (256, 32, 1000)
        self.dtype = "bfloat16" if gpu else "float32"

    def shape(self, params: float) -> Shape:
        """The model of a size; toy vocabularies where the embedding would be all of it."""
        small = params < 2e6 and self.device == "cuda"
        vocabulary = 256 if small else self.vocabulary if params > 2e7 else min(
            self.vocabulary, 4096
        )  # fmt: skip
        return solve(params, Model(vocabulary=vocabulary, context=self.context))

    def options(self, rows: int, way: str = "eager") -> argparse.Namespace:
        """As `train_throughput` takes them."""
        return argparse.Namespace(
            rows=rows, device=self.device, dtype=self.dtype, steps=self.steps, rounds=2,
            **WAYS[way],
        )  # fmt: skip


def agreement(plan: Plan) -> dict[str, Any]:
    """Losses of the same training in float32 on the CPU and on the device."""
    config = TrialConfig(
        solve(2e5, Model()), tokens=480 * 60, data=Data(evaluation_documents=64),
        train=Train(checkpoint_every_s=0, dtype="float32"),
    )  # fmt: skip
    found = {}
    runs: tuple[tuple[str, Device, str], ...] = (
        ("cpu", "cpu", "eager"),
        ("device", plan.device, "eager"),
        ("graph", plan.device, "graphed"),
    )
    for name, device, way in runs:
        train = replace(config.train, device=device, **WAYS[way])
        record = loop.train(replace(config, train=train), LocalContext(device=device))
        found[name] = {k: v["nll"] / v["tokens"] for k, v in record["losses"].items()}
    worst = {
        name: max(abs(found[name][k] - found["cpu"][k]) for k in found["cpu"])
        for name in ("device", "graph")
    }
    return {"losses": found, "largest difference, nats": worst}


def _rate(take: Callable[[int], None], steps: int, tokens: int, plan: Plan) -> float:
    """Tokens per second once warm."""
    clock = make_clock("cuda" if plan.device == "cuda" else "cpu")
    take(steps)
    started, taken = clock(), 0
    while (elapsed := clock() - started) < plan.seconds or not taken:
        take(steps)
        taken += steps
    return taken * tokens / elapsed if taken else 0.0


def speeds(plan: Plan) -> list[dict[str, Any]]:
    """Tokens per second and utilisation by size and way, beside a bare loop and Trainer."""
    peak = next((p for word, p in PEAKS.items() if word in _device(plan)), None)
    rows: list[dict[str, Any]] = []
    for params, count in plan.sizes:
        shape, tokens = plan.shape(params), count * plan.context
        takers: list[tuple[str, type[Ours | Bare], str]]
        takers = [("ours", Ours, way) for way in plan.ways]
        takers += [("bare", Bare, way) for way in plan.ways if way != "graphed"]
        for name, make, way in takers:
            with _caught(rows, {"params": shape.params_with_head, "who": f"{name}, {way}"}) as row:
                taker = make(shape, plan.options(count, way))
                row["tokens/s"] = _rate(taker, plan.steps, tokens, plan)
                del taker
                if peak:
                    row["MFU"] = row["tokens/s"] * shape.flops_per_token("exact") / peak
            _free()
        if importlib.util.find_spec("accelerate"):
            with _caught(rows, {"params": shape.params_with_head, "who": "Trainer"}) as row:
                options = plan.options(count)
                clock = make_clock(plan.device)
                times = trainer_times(shape, options, lambda: None, clock)
                row["tokens/s"] = options.steps * tokens / min(times)
            _free()
    return rows


def alone(plan: Plan, seconds: float) -> None:
    """One small trial for so many seconds; prints its tokens per second."""
    params, rows = plan.sizes[0]
    shape = plan.shape(params)
    plan.seconds = seconds
    way = plan.ways[-1]
    print(_rate(Ours(shape, plan.options(rows, way)), plan.steps, rows * plan.context, plan))


def sharing(plan: Plan) -> list[dict[str, Any]]:
    """Small trials that share the device, each a process, without and with MPS."""
    rows: list[dict[str, Any]] = []
    for mps in (False, True) if plan.device == "cuda" else (False,):
        with _caught(rows, {"MPS": mps, "trials": 0}) as row, _mps(mps) as env:
            for count in plan.sharers:
                command = [sys.executable, str(HERE), "--alone", str(plan.seconds)]
                command += ["--tiny"] * (plan.device == "cpu")
                each = [
                    subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
                    for _ in range(count)
                ]
                total = sum(float(p.communicate(timeout=240)[0].split()[-1]) for p in each)
                row[f"{count} together, tokens/s"] = total
    return rows


@contextlib.contextmanager
def _mps(wanted: bool) -> Iterator[dict[str, str]]:
    """The environment of processes that share a GPU through NVIDIA's service."""
    if not wanted:
        yield dict(os.environ)
        return
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        raise RuntimeError("nvidia-cuda-mps-control is not installed here")
    with tempfile.TemporaryDirectory() as place:
        env = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": place, "CUDA_MPS_LOG_DIRECTORY": place}
        subprocess.run([control, "-d"], env=env, check=True, timeout=30)
        try:
            yield env
        finally:
            subprocess.run([control], input="quit\n", text=True, env=env, check=False, timeout=30)


def memories(plan: Plan) -> list[dict[str, Any]]:
    """Bytes at the peak of a step, estimated and taken."""
    if plan.device != "cuda":
        return [{"error": "torch counts the bytes of GPUs only"}]
    rows: list[dict[str, Any]] = []
    for params, count in plan.sizes:
        shape = plan.shape(params)
        with _caught(rows, {"params": shape.params_with_head}) as row:
            _free()
            torch.cuda.reset_peak_memory_stats()
            ours = Ours(shape, plan.options(count))
            ours(plan.steps)
            micro = min(ours.trial.stepper.micro, count) * plan.context
            row["estimated"] = memory.estimate(shape, micro, bf16=True, gpu=True).total
            row["reserved"] = torch.cuda.max_memory_reserved() + memory.CONTEXT_BYTES
            row["estimated / reserved"] = row["estimated"] / row["reserved"]
            del ours
    return rows


def slices(plan: Plan) -> list[dict[str, Any]]:
    """Milliseconds of the head's loss, forward and backward, by the size of a slice."""
    tokens, width, vocabulary = plan.loss
    dtype = torch.bfloat16 if plan.device == "cuda" else torch.float32
    hidden = torch.randn(tokens, width, device=plan.device, requires_grad=True)
    head = torch.randn(vocabulary, width, device=plan.device, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,), device=plan.device)
    rows: list[dict[str, Any]] = []
    clock = make_clock(plan.device)

    def timed(name: str, work: Callable[[], torch.Tensor]) -> None:
        with _caught(rows, {"slices": name}) as row:
            started = clock()
            for turn in range(4):
                started = clock() if turn == 1 else started
                with torch.autocast(plan.device, dtype, enabled=dtype != torch.float32):
                    work().backward()
            row["ms"] = (clock() - started) / 3 * 1e3

    usual = dict(memory.SLICE_LOGITS)
    for power in (24, 26, 27, 28):
        memory.SLICE_LOGITS.update(dict.fromkeys(usual, 2**power))
        timed(f"2^{power} logits", lambda: loss.summed_loss(hidden, head, targets)[0])
    memory.SLICE_LOGITS.update(usual)
    timed(
        "torch's linear_cross_entropy",
        lambda: functional.linear_cross_entropy(hidden, head, targets, reduction="sum"),
    )
    return rows


def sharded(plan: Plan) -> dict[str, Any]:
    """FSDP on one device: the losses of the plain model, and its share of the speed."""
    shape = plan.shape(plan.sizes[1][0])
    tokens = torch.randint(shape.vocabulary, (4, shape.context), device=plan.device)
    dtype = torch.bfloat16 if plan.device == "cuda" else torch.float32
    group = parallel.Group(LocalContext(), torch.device(plan.device))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        backend = "nccl" if plan.device == "cuda" else "gloo"
        distributed.init_process_group(
            backend, init_method=f"file://{place}/store", rank=0, world_size=1
        )
        for name in ("plain", "sharded"):
            network = build(shape, seed=0, attention="sdpa", meta=name == "sharded").train()
            objective = loss.Objective(network, begin=0)
            if name == "plain":
                network.to(plan.device)
            else:
                weights = build(shape, seed=0, attention="sdpa").state_dict()
                objective = parallel._shard(objective, group, dtype, weights)
            config = TrialConfig(shape, tokens=10**6)
            optimizer = make_optimizer(network, config.train, config.recipe)
            losses, clock = [], make_clock(plan.device)
            started = clock()
            for turn in range(12):
                started = clock() if turn == 2 else started
                with torch.autocast(plan.device, dtype, enabled=dtype != torch.float32):
                    mean = objective(tokens, len(tokens))[0] / tokens.numel()
                mean.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(float(mean.detach()))
            found[name] = {"losses": losses, "ms a step": (clock() - started) / 10 * 1e3}
        distributed.destroy_process_group()
    pairs = zip(found["plain"]["losses"], found["sharded"]["losses"], strict=True)
    return found | {"largest difference, nats": max(abs(a - b) for a, b in pairs)}


@contextlib.contextmanager
def _caught(rows: list[dict[str, Any]], row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row whose failure does not take the others with it."""
    rows.append(row)
    try:
        yield row
    except Exception as error:  # the table says so
        row["error"] = f"{type(error).__name__}: {error}"[:300]


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _device(plan: Plan) -> str:
    return torch.cuda.get_device_name() if plan.device == "cuda" else "CPU"


SECTIONS = {
    "agreement": agreement, "speeds": speeds, "slices": slices, "memory": memories,
    "sharding": sharded, "sharing": sharing,
}  # fmt: skip


def markdown(found: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = [
        f"# The engine on {found['device']}",
        "",
        f"`{found['command']}`, {found['date']}",
        "",
    ]
    lines += [f"torch {found['torch']}, transformers {found['transformers']}", ""]
    for name, section in found["sections"].items():
        lines += [f"## {name}, {section['seconds']:.0f} s", ""]
        values = section["found"]
        if not isinstance(values, list):
            lines += ["```json", json.dumps(values, indent=1), "```", ""]
            continue
        columns = list(dict.fromkeys(key for row in values for key in row))
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += [
            "| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |"
            for row in values
        ] + [""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="of OUT.json and OUT.md")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--alone", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = Plan(tiny=options.tiny)
    if options.alone:
        alone(plan, options.alone)
        return
    found: dict[str, Any] = {
        "device": _device(plan), "command": " ".join(sys.argv), "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__, "transformers": transformers.__version__, "sections": {},
    }  # fmt: skip
    for name in options.only:
        started = time.monotonic()
        try:
            values: Any = SECTIONS[name](plan)
        except Exception as error:  # the page says so
            values = {"error": f"{type(error).__name__}: {error}"[:500]}
        seconds = time.monotonic() - started
        found["sections"][name] = {"seconds": seconds, "found": values}
        # After each section: what was measured survives a job that is cut off.
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
        options.out.with_suffix(".md").write_text(markdown(found))
        print(f"{name}: {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
