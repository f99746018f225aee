"""The commands that begin: the demo, and a spec to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeper.commands.console import app, load, opt, quantity, show, written
from sweeper.commands.sweeps import carry_out
from sweeper.errors import SpecError
from sweeper.text import write_whole

WHERE = """Where will it run?
  laptop   this machine's CPU, small models, minutes
  gpu      one GPU
  cluster  a Ray cluster of GPUs
  trainer  your own training script, on Ray or by hand
  table    nowhere yet: you have a table of runs and want the next ones
"""


@app.command()
def demo(
    out: Path = opt("--out", "Sweep directory.", Path("sweeps/demo")),
    quiet: bool = opt("--quiet", "No progress lines.", False),
) -> None:
    """Train a real sweep of small models on this CPU: minutes."""
    from sweeper.plan.starter import DEMO

    sweep = load(DEMO, None)
    show([str(sweep.plan()), ""])
    again = "isoskill demo" if out == Path("sweeps/demo") else f"isoskill demo --out {out}"
    carry_out(sweep, out, again, quiet=quiet)


@app.command()
def init(
    kind: Annotated[
        str | None,
        typer.Argument(help="laptop, gpu, cluster, trainer, table or demo.", metavar="[KIND]"),
    ] = None,
    out: Path = written("--out", "File to write.", Path("sweep.yaml"), fresh=True),
    hours: float | None = quantity("--hours", "How long it may take, on all devices."),
    allowance: float | None = quantity("--allowance", "FLOPs it may spend, instead of hours."),
    device: str = opt("--device", "GPU: h100, a100, l4, ...", ""),
    gpus: int | None = opt("--gpus", "How many of them; default 1, of a cluster 8."),
    data: str = opt("--data", "A prepared corpus to train on.", ""),
    command: str = opt("--command", "Of your trainer: 'python train.py --d={width}'.", ""),
    runs: str = opt("--runs", "A table of runs to go on from.", ""),
) -> None:
    """Write a commented spec to start from; asks what was not said."""
    from sweeper.plan.starter import Request, starter

    said: dict[str, Any] = {
        "kind": kind, "hours": hours, "allowance": allowance, "device": device, "gpus": gpus,
        "data": data, "command": command, "runs": runs,
    }  # fmt: skip
    if kind is None:
        said |= _asked()
    write_whole(out, starter(Request(file=out, **said)))
    print(f"wrote {out}: read it, then `isoskill plan {out}`")


def _asked() -> dict[str, Any]:
    """What three questions give."""
    from sweeper.plan.starter import HOURS

    if not sys.stdin.isatty():
        raise SpecError("init: say which spec: isoskill init laptop, gpu, cluster, trainer, table")
    print(WHERE)
    kind = typer.prompt("Which", default="laptop")
    if kind == "table":
        return {"kind": kind, "runs": typer.prompt("Which table")}
    found: dict[str, Any] = {"kind": kind}
    if kind in ("gpu", "cluster", "trainer"):
        device = typer.prompt(
            "Which GPU, and how many of them",
            default="h100 x 8" if kind == "cluster" else "h100 x 1",
        )
        name, _, number = device.partition(" ")
        count = number.strip("x ") or "1"
        if not count.isdecimal():
            raise SpecError(f"{device!r}: write a GPU and how many of them, such as h100 x 8")
        found |= {"device": name, "gpus": int(count)}
    if kind in HOURS:
        found["hours"] = typer.prompt("Hours it may take", default=HOURS[kind], type=float)
    return found
