"""A first spec, commented: for a laptop, a GPU, a cluster, one's own trainer or a table of runs.

Budgets and allowance are sized by the plan itself, so that the sweep takes about the hours wanted.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

import fitting
from fitting import read_runs
from sweeper.errors import SpecError, did_you_mean
from sweeper.plan.estimate import plan
from sweeper.search.suggest import shared_budgets
from sweeper.spec.devices import device_of, local
from sweeper.spec.reading import build
from sweeper.spec.spec import Spec
from sweeper.text import duration, number, si
from trainables.families import Model
from trainables.families.checks import fill
from trainables.foreign.settings import AGGREGATE
from trainables.manifest import read_manifest
from trainables.shapes import sizes

FOLDER = Path(__file__).parent / "starters"
DEMO = FOLDER / "demo.yaml"

GOES_WITH = {
    "hours": ("laptop", "gpu", "cluster", "trainer"),
    "allowance": ("laptop", "gpu", "cluster", "trainer", "table"),
    "device": ("gpu", "cluster", "trainer", "table"),
    "gpus": ("gpu", "cluster", "trainer", "table"),
    "data": ("laptop", "gpu", "cluster"),
    "command": ("trainer",),
    "runs": ("table",),
}
"""Which kinds of spec an option says something of."""

HOURS = {"laptop": 0.1, "gpu": 2.0, "cluster": 24.0, "trainer": 24.0}
"""Hours that a sweep of each kind takes unless they are said: a coffee, an afternoon, a day."""

KINDS = (*HOURS, "table", "demo")

REACH = 30.0
"""The commands in a spec's comments predict this many times beyond the largest budget."""

TOP_SHARE = 0.1
"""Share of the allowance that the largest budget may be: ten such trainings show a minimum on it,
and leave the cheaper budgets their part (assumption)."""

LADDER_SIZES = 8
"""Rows of the ladder that a trainer's spec begins with."""

SMALL = 1e7
"""Params below which a ladder is laid out for a vocabulary of bytes: a larger one would be most of
such a model."""

MOST_SIZES = 24
"""Sizes of a table that a spec lists, about."""

GROWTH = 1.2
"""Largest size of a spec from a table, over the table's largest times the root of the budgets'
growth, by which optima grow (assumption)."""


@dataclass(frozen=True)
class Request:
    """What a first spec is for.

    Attributes:
        kind: one of `KINDS`.
        file: where it will be written: its stem names the sweep.
        hours: of the sweep, on all devices; None for what is usual of the kind.
        allowance: FLOPs instead of hours.
        device: what it runs on; this machine's own for a trainer, else an H100.
        gpus: how many of them; None for 8 of a cluster, else 1.
        data: a prepared corpus; empty for the built-in documents.
        command: of a trainer.
        runs: a table of runs to go on from.
    """

    kind: str
    file: Path
    hours: float | None = None
    allowance: float | None = None
    device: str = ""
    gpus: int | None = None
    data: str = ""
    command: str = ""
    runs: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = did_you_mean(self.kind, KINDS)
            raise SpecError(f"{self.kind!r} is no kind of spec{near}: choose {', '.join(KINDS)}")
        for name, kinds in GOES_WITH.items():
            if getattr(self, name) and self.kind not in kinds:
                goes = f"it goes with {', '.join(kinds)}"
                raise SpecError(f"--{name} says nothing of a spec for {self.kind}: {goes}")
        if self.hours is not None and self.allowance is not None:
            raise SpecError("--hours and --allowance: give one, the other follows from it")
        for name in ("hours", "allowance", "gpus"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SpecError(f"--{name} {value:g}: give a number above 0")
        if not self.device:
            here = self.kind == "trainer" and self.gpus is None
            fill(self, device=local() if here else "h100")
        if self.gpus is None:
            fill(self, gpus=8 if self.kind == "cluster" else 1)


def starter(asked: Request) -> str:
    """The text of a first spec.

    Raises:
        SpecError: what was asked for cannot be had.
    """
    if asked.kind == "demo":
        return DEMO.read_text(encoding="utf-8")
    given = next((n for n in ("hours", "allowance") if getattr(asked, n) is not None), "")
    try:
        text = _text(asked)
        _spec(text)
    except SpecError as error:
        if not given or str(error).startswith("--"):
            raise
        raise SpecError(
            f"--{given} {getattr(asked, given):g}: no sweep of that size can be trained; give "
            f"more or less of it, or other devices: {error}"
        ) from error
    return text


def _text(asked: Request) -> str:
    """The spec's text, sized for what was asked."""
    if asked.kind == "table":
        return _filled(asked, _of_table(asked))
    device_of(asked.device, field="--device")
    if asked.allowance is not None:
        return _filled(asked, _sized(asked, asked.allowance))
    wanted = asked.hours or HOURS[asked.kind]
    allowance = 1e13 if asked.kind == "laptop" else 1e18
    for _ in range(4):  # utilisation depends on size: three steps come within a few per cent
        found = plan(_spec(_filled(asked, _sized(asked, allowance))))
        allowance *= wanted * max(found.devices, 1) / found.device_hours
    return _filled(asked, _sized(asked, float(f"{allowance:.2g}")))


def _spec(text: str) -> Spec:
    return build(Spec, yaml.safe_load(text), source="init")


def _filled(asked: Request, values: dict[str, Any]) -> str:
    name = "gpu" if asked.kind == "cluster" else asked.kind
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    file, stem = asked.file, asked.file.stem
    common = {"file": file, "name": stem, "place": f"sweeps/{stem}"}
    return Template(text).substitute(common | values)


def _sized(asked: Request, allowance: float) -> dict[str, Any]:
    """Values of a spec for an allowance."""
    budgets = _half_decades(allowance, 3 if asked.kind == "laptop" else 4)
    hours = duration(3600 * (asked.hours or HOURS[asked.kind]))
    values: dict[str, Any] = {
        "budgets": _listed(budgets),
        "allowance": number(allowance, 2),
        "beyond": number(REACH * budgets[-1], 1),
        "time": "" if asked.allowance else f", about {hours}",
        "device": asked.device,
    }
    if asked.kind == "laptop":
        return values | _laptop_data(asked)
    on_gpu = device_of(asked.device).is_gpu
    values["machines"] = f"{asked.gpus} x {asked.device}" if on_gpu else "this machine's CPU"
    values["cluster"] = _cluster(asked)
    if asked.kind == "trainer":
        return values | {"command": _command(asked.command), "ladder": _ladder(budgets)}
    return values | _gpu_data(asked)


def _half_decades(allowance: float, count: int) -> list[float]:
    """Budgets of 1 or 3 times a power of ten, over a factor of ten or more."""
    top = math.floor(2 * math.log10(TOP_SHARE * allowance) + 1e-9)
    return [float(f"{10 ** (k / 2):.0e}") for k in range(top - count + 1, top + 1)]


def _listed(budgets: list[float]) -> str:
    return "[" + ", ".join(number(b) for b in budgets) + "]"


def _laptop_data(asked: Request) -> dict[str, str]:
    if not asked.data:
        return {
            "corpus": "built-in documents (facts, programs, other text)",
            "data": (
                "\n# Your own text: `isoskill prepare corpora.yaml corpus` (docs/tutorial.md),\n"
                "# then\n"
                "# data: {source: prepared, path: corpus}\n"
                "# model: {vocabulary: 512}       # of its tokenizer\n"
            ),
            "train": _demo_part(),
        }
    return {
        "corpus": f"the corpus {asked.data}",
        "data": _prepared(asked.data),
        "train": (
            "# Context, rate and batch are left out: they follow the corpus and published rules;\n"
            "# `isoskill plan` says which. `isoskill tune` measures the rate on your data.\n"
        ),
    }


def _gpu_data(asked: Request) -> dict[str, str]:
    if not asked.data:
        return {
            "data": (
                "\n# A stand-in until your text is prepared (docs/tutorial.md):\n"
                "# `isoskill prepare corpora.yaml corpus`, then\n"
                "# data: {source: prepared, path: corpus}, and the vocabulary of its tokenizer.\n"
                "data: {entities: 32768}\n"
            ),
            "shape": "  vocabulary: 256\n  context: 1020\n",
            "train": "train:\n  rule: steplaw\n",
        }
    return {"data": _prepared(asked.data), "shape": "", "train": "# train: {rule: steplaw}\n"}


def _prepared(path: str) -> str:
    try:
        read_manifest(path)
    except ValueError as error:
        raise SpecError(f"--data {path}: {error}") from None
    return (
        "\n# What `isoskill prepare` wrote. data.shares moves the mix; more than four epochs of\n"
        "# a class are warned of.\n"
        f"data: {{source: prepared, path: {path}}}\n"
    )


def _demo_part() -> str:
    """The demo's ``train`` section with the comment above it."""
    text = DEMO.read_text(encoding="utf-8")
    return text[text.index("# Measured on this corpus") :]


def _cluster(asked: Request) -> str:
    if not device_of(asked.device).is_gpu:
        return "  resources: [{cpus: 1}]        # what a trial holds"
    if asked.kind == "gpu":
        return f"  gpus: {asked.gpus}"
    lines = [f"  gpus: {asked.gpus}"]
    if asked.kind == "cluster":
        lines.append("  address: auto                  # joins the Ray cluster that is there")
        lines.append("  # max_trial_hours: 12          # gives longer trials more GPUs")
    else:
        lines.append("  # resources: what trials hold, by size; {gpus} and {nodes} in the command")
        lines.append("  resources: [{gpus: 1, cpus: 4}]")
    return "\n".join(lines)


def _command(command: str) -> str:
    try:
        words = shlex.split(command) if command else ["python", "train.py"]
    except ValueError as error:
        raise SpecError(f"--command {command!r}: {error}") from None
    if "{" not in command:
        words += ["--layers={layers}", "--width={width}", "--tokens={tokens}", "--seed={seed}"]
        words.append("--out={directory}")
    return yaml.safe_dump(words, default_flow_style=True, width=1000).strip()


def _ladder(budgets: list[float]) -> str:
    """Sizes round the optima to expect, as rows."""
    low, high = (math.sqrt(c / 120) for c in (budgets[0], budgets[-1]))
    vocabulary = 32768 if low > SMALL else 256
    try:
        shapes = sizes(low / 3, 3 * high, Model(vocabulary=vocabulary))
    except ValueError as error:
        raise SpecError(f"too little for any ladder of sizes: {error}") from None
    step = max(1, len(shapes) // LADDER_SIZES)
    rows = {(s.layers, s.width): s.params_with_head for s in shapes[::step]}
    return "\n".join(
        f"    - {{params: {params}, layers: {layers}, width: {width}}}   # {si(params)}"
        for (layers, width), params in rows.items()
    )


def _of_table(asked: Request) -> dict[str, Any]:
    if not asked.runs:
        raise SpecError("init table: say which table by --runs, such as --runs runs.csv")
    read = read_runs(asked.runs)
    budgets = shared_budgets(read.table) or [float(read.table["flops"].max())]
    top = budgets[-1]
    further = [*budgets[-2:], float(f"{3 * top:.2g}")]
    allowance = asked.allowance or 20 * top
    return {
        "runs": asked.runs,
        "read": read.line,
        "top": number(top),
        "budgets": _listed(further),
        "listed": ",".join(number(b) for b in further),
        "allowance": number(allowance, 2),
        "device": asked.device,
        "cluster": _cluster(asked),
        "skills": "{" + ", ".join(_skills_of(read)) + "}",
        "sizes": ", ".join(f"{{params: {p}}}" for p in _sizes_of(read, further)),
    }


def _skills_of(read: fitting.Runs) -> list[str]:
    """Each skill with its class: its own, as nothing is known of documents."""
    names = sorted(set(read.table["skill"].astype(str)))
    return [f"{json.dumps(n)}: {'aggregate' if n == AGGREGATE else json.dumps(n)}" for n in names]


def _sizes_of(read: fitting.Runs, budgets: list[float]) -> list[int]:
    """Sizes of the runs, and larger ones up to what the largest budget may ask for."""
    sizes = sorted({round(p) for p in read.table["params"]})
    sizes = sizes[:: max(1, len(sizes) // MOST_SIZES)]
    wanted = GROWTH * math.sqrt(budgets[-1] / read.table["flops"].max()) * sizes[-1]
    while sizes[-1] < wanted / 1.5:
        sizes.append(round(float(f"{1.5 * sizes[-1]:.3g}")))
    return sizes
