"""A first sweep on one's own text: does it end in the time given, and are its numbers true?

    python benchmarks/own_text.py sweep FOLDER CASE [CASE ...] [--minutes 10]
    python benchmarks/own_text.py check FOLDER CASE [CASE ...]
    python benchmarks/own_text.py read FOLDER

`sweep` does what a newcomer does, by the commands: `prepare`, `plan --minutes`, `run`, each timed.
`check` then trains twelve models a case that the sweep did not ask for, with other seeds: six
sizes on the top budget, three on each of the two below it, at fixed factors of the aggregate's
optimum. `read` holds their losses against the sweep's 90 % intervals for one training's loss, and
the optima of the top budget against a parabola through those six sizes alone. Everything is kept
in FOLDER, and goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fitting import FitError, fit_isoflop
from sweeper import Results
from trainables.context import LocalContext
from trainables.engine.loop import train

SEED = 1000
"""Of the checks; the sweep's own seeds are small."""

TOP = (0.3, 0.5, 0.8, 1.25, 2.0, 3.3)
BELOW = (0.4, 1.0, 2.5)
"""Factors of the aggregate's optimum."""

LONGEST_TARGET = 200  # characters, as in examples/05_python_source.py
EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Case:
    """What a newcomer writes: a corpus, and what else is said of the sweep."""

    corpus: str
    skills: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


PYTHON = ("function-bodies", "first-sentences", "validation/code", "validation/docs")
PERL = ("subs", "first-sentences", "validation/code", "validation/docs")
CASES = {
    "python": Case("python", PYTHON),
    "perl": Case("perl", PERL),
    "python-short": Case("python", PYTHON, {"model": {"context": 64}}),
    "perl-half": Case("perl", PERL, {"data": {"shares": {"code": 0.25, "docs": 0.75}}}),
    "built-in": Case(""),
}


def write_python(folder: Path) -> None:
    """The library of Python, as examples/05_python_source.py makes documents of it."""
    example = runpy.run_path(str(EXAMPLES / "05_python_source.py"))
    example["write_text"].__globals__["TEXT"] = folder
    example["write_text"]()


def write_perl(folder: Path) -> None:
    """The library of Perl: code, and the manual pages (POD) that stand in the same files."""
    files: dict[str, list[dict[str, str]]] = {"code": [], "docs": [], "subs": []}
    files["first-sentences"] = []
    roots = [root for root in Path("/usr/share").glob("perl*") if root.is_dir()]
    found = [path for root in roots for path in root.rglob("*.p[mlo]*")]
    for number, path in enumerate(sorted(p for p in found if "unicore" not in p.parts)):
        code, page = parted(path.read_text(encoding="utf-8", errors="replace"))
        name = path.stem
        if number % 16 == 0:
            files["subs"] += subs(name, code)
            files["first-sentences"] += sentences(name, page)
        else:
            files["code"] += [{"text": code}] if code.strip() else []
            files["docs"] += [{"text": page}] if page.strip() else []
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def parted(source: str) -> tuple[str, str]:
    """The code of a Perl file, and its manual page without marks."""
    code: list[str] = []
    page: list[str] = []
    inside = False
    for line in source.splitlines():
        inside = inside or bool(re.match(r"=[a-zA-Z]", line))
        (page if inside else code).append(line)
        inside = inside and not line.startswith("=cut")
    words = re.sub(r"[A-Z]<+\s?(.*?)\s?>+", r"\1", "\n".join(page))
    lines = [re.sub(r"^=(head|item|over|back|cut|pod|begin|end|for|encoding)\d?\s*", "", line)
             for line in words.splitlines()]  # fmt: skip
    return "\n".join(code), "\n".join(lines)


def subs(name: str, code: str) -> Iterator[dict[str, str]]:
    """Subroutines to complete: twelve lines up to the brace, and the body."""
    lines = code.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if re.match(r"sub \w+\s*\{\s*$", line):
            end = next((j for j in range(i, len(lines)) if lines[j].startswith("}")), None)
            target = "" if end is None else "".join(lines[i + 1 : end + 1])
            if 10 <= len(target) <= LONGEST_TARGET:
                context = "".join(lines[max(0, i - 11) : i + 1])
                yield {"id": f"{name}:{i}", "context": context, "target": target}


def sentences(name: str, page: str) -> Iterator[dict[str, str]]:
    """What is said first under a heading."""
    parts = [part.strip() for part in page.split("\n\n") if part.strip()]
    for i, (heading, said) in enumerate(pairwise(parts)):
        first = " ".join(said.split(". ")[0].split())
        if len(heading) < 60 and "\n" not in heading and 10 <= len(first) <= LONGEST_TARGET:
            yield {"id": f"{name}:{i}", "context": f"{heading}\n\n", "target": first}


WRITERS: dict[str, Callable[[Path], None]] = {"python": write_python, "perl": write_perl}


def corpora_of(name: str, text: Path, skills: tuple[str, ...]) -> dict[str, Any]:
    """What `isoskill prepare` is told: two classes, half of the tokens each."""
    code, prose = skills[:2]
    return {
        "name": name,
        "tokenizer": {"train": "bpe", "vocabulary": 1024},
        "classes": {
            part: {"share": 0.5, "sources": [{"files": str(text / f"{part}.jsonl")}]}
            for part in ("code", "docs")
        },
        "validation": 0.05,
        "skills": [
            {"name": skill, "path": str(text / f"{skill}.jsonl"), "class": part, "limit": 300}
            for skill, part in ((code, "code"), (prose, "docs"))
        ],
    }


def sweep(folder: Path, name: str, minutes: float) -> None:
    """Prepare, plan and run one case by the commands, and keep what each took."""
    case, times = CASES[name], folder / "times.csv"
    if times.exists() and name in set(pd.read_csv(times)["case"]):
        return
    row: dict[str, Any] = {"case": name, "minutes": minutes, "prepare_s": 0.0}
    values: dict[str, Any] = {"name": name, **case.fields}
    if case.corpus:
        text, corpus = folder / f"{case.corpus}-text", folder / f"{case.corpus}-corpus"
        if not corpus.exists():
            WRITERS[case.corpus](text)
            say = folder / f"{case.corpus}.yaml"
            say.write_text(yaml.safe_dump(corpora_of(case.corpus, text, case.skills)))
            row["prepare_s"] = command(folder, name, "prepare", str(say), str(corpus))
        values["data"] = {"source": "prepared", "path": str(corpus), **values.get("data", {})}
        values["skills"] = list(case.skills)
    asked, chosen = folder / f"{name}.yaml", folder / f"{name}-chosen.yaml"
    asked.write_text(yaml.safe_dump(values))
    given = f"{minutes:g}"
    row["plan_s"] = command(
        folder, name, "plan", str(asked), "--minutes", given, "--out", str(chosen)
    )
    said = re.search(r"# about (.+?) on", chosen.read_text())
    row["planned"] = said[1] if said else ""
    row["run_s"] = command(folder, name, "run", str(chosen), "--out", str(folder / name))
    kept = [row] if not times.exists() else [*pd.read_csv(times).to_dict("records"), row]
    pd.DataFrame(kept).to_csv(times, index=False)


def command(folder: Path, name: str, *words: str) -> float:
    """Run one command of isoskill, keep what it says, return its seconds."""
    started = time.monotonic()
    print(f"{name}: isoskill {' '.join(words)}", flush=True)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("isoskill")), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    with (folder / f"{name}.log").open("a") as log:
        log.write(f"$ isoskill {' '.join(words)}\n{done.stdout}\n")
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nisoskill {words[0]} ended with {done.returncode}")
    return time.monotonic() - started


def check(folder: Path, name: str, workers: int) -> None:
    """Train what the sweep did not ask for; losses already there are kept."""
    results, path = Results(folder / name), folder / f"{name}-checks.csv"
    fits, budgets = results.fit(), results.sweep.budgets
    done = set(pd.read_csv(path)["check"]) if path.exists() else set()
    places = [(budgets[-1], f) for f in TOP]
    places += [(flops, f) for flops in budgets[-3:-1] for f in BELOW]
    wanted = [
        (str(folder / name), number, flops, factor * size_at(fits, results.aggregate, flops))
        for number, (flops, factor) in enumerate(places)
        if number not in done
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for rows in pool.map(one_check, wanted):
            fresh = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                if fresh:
                    writer.writeheader()
                writer.writerows(rows)
            print(f"{name}: check {rows[0]['check']} trained", flush=True)


def size_at(fits: Any, aggregate: str | None, flops: float) -> float:
    best = float(fits[aggregate].at(flops).params)
    return best if math.isfinite(best) else math.sqrt(flops / 120)


def one_check(wanted: tuple[str, int, float, float]) -> list[dict[str, Any]]:
    """One training, in this process: its losses by skill."""
    import torch

    torch.set_num_threads(1)  # as trials of a sweep on a CPU
    folder, number, flops, params = wanted
    spec = Results(folder).sweep
    allocation = spec.space.allocation(flops, params, seed=SEED + number)
    record = train(spec.own_trial(allocation), LocalContext())
    return [
        {"check": number, "flops": flops, "params": allocation.params,
         "tokens": allocation.tokens, "skill": skill, "loss": loss["nll"] / loss["tokens"]}
        for skill, loss in record["losses"].items()
    ]  # fmt: skip


def read(folder: Path) -> None:
    """Print what was found."""
    times = pd.read_csv(folder / "times.csv")
    times["run_minutes"] = times["run_s"] / 60
    print(times.round(1).to_string(index=False), "\n")
    for path in sorted(folder.glob("*-checks.csv")):
        name = path.name.removesuffix("-checks.csv")
        results = Results(folder / name)
        fits, checks = results.fit(), pd.read_csv(path)
        print(f"{name}: {checks['check'].nunique()} trainings that the sweep did not ask for\n")
        print(losses(fits, checks).to_string(), "\n")
        print(optima(fits, checks, results.sweep.budgets[-1]).to_string(), "\n")


def losses(fits: Any, checks: pd.DataFrame) -> pd.DataFrame:
    """Each skill's losses inside their intervals, by budget and in all."""
    rows = []
    for row in checks.to_dict("records"):
        try:
            said = fits[row["skill"]].loss(row["params"], row["tokens"])
        except (FitError, KeyError):
            continue
        low, high = said.interval
        rows.append({**row, "inside": low <= row["loss"] <= high, "off": row["loss"] - said.value,
                     "half": (high - low) / 2})  # fmt: skip
    frame = pd.DataFrame(rows)
    top = frame["flops"] > 0.99 * frame["flops"].max()
    table = pd.concat({"top": frame[top], "all": frame}, names=["budgets"])
    groups = pd.concat([table, table.assign(skill="TOTAL")]).groupby(["budgets", "skill"])
    return groups.agg(n=("inside", "size"), inside=("inside", "sum"), off=("off", "median"),
                      sd=("off", "std"), half_width=("half", "median")).round(4)  # fmt: skip


def optima(fits: Any, checks: pd.DataFrame, flops: float) -> pd.DataFrame:
    """The top budget's optimum by the sweep, and by a parabola through the checks alone."""
    rows = []
    for skill, mine in checks[checks["flops"] > 0.99 * flops].groupby("skill"):
        if skill not in fits:
            continue
        ours = fits[skill].at(flops)
        alone = fit_isoflop(mine["params"].to_numpy(float), mine["loss"].to_numpy(float))
        ends = np.array([ours.interval, alone.interval], float)
        meet = bool(ends[0, 0] <= ends[1, 1] and ends[1, 0] <= ends[0, 1])
        rows.append({"skill": skill, "sweep": ours.params, "low": ends[0, 0], "high": ends[0, 1],
                     "status": str(ours.status), "checks": alone.params, "c_low": ends[1, 0],
                     "c_high": ends[1, 1], "inside": ends[0, 0] <= alone.params <= ends[0, 1],
                     "meet": meet})  # fmt: skip
    return pd.DataFrame(rows).set_index("skill").round(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["sweep", "check", "read"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2, help="checks trained at a time")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.part == "read":
        return read(args.folder)
    for name in args.cases or list(CASES):
        if args.part == "sweep":
            sweep(args.folder, name, args.minutes)
        else:
            check(args.folder, name, args.workers)


if __name__ == "__main__":
    main()
