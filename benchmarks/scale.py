"""2,000 trials on 64 slots: how busy the slots are kept, and what a trial costs the driver.

    OMP_NUM_THREADS=1 python benchmarks/scale.py clock             # search, driver and ledger
    OMP_NUM_THREADS=1 python benchmarks/scale.py ray --slots 1     # the real tuner, no cost
    OMP_NUM_THREADS=1 python benchmarks/scale.py ray --mean 60     # the real tuner, sleeping
    python benchmarks/scale.py report                              # results/scale.md

`clock` runs the driver with its ledger on disk; trials end on a simulated clock, to which every
second the driver works is added, since a slot that is free waits for it. Lengths are log-normal
(sigma .5) about the budget's, as those of real trials are about their FLOPs'. Utilisation is
seconds in training over slots x seconds until the last slot has nothing to do; ideal is a driver
that takes no time.

`ray` replaces only the training: trials sleep for such lengths, or end at once, report as often as
real ones and draw their losses. Trials that end before a process can start are best run on one
slot: Tune hands the process of a trial that ended to one that waits, and drops the other's own
half-started, so that on 64 slots 2 cores do little but start processes. Ctrl-C keeps what there
is.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pandas as pd

from sweeper import Cluster, Finished, SearchSettings, Sweep
from sweeper.budget import Allocation
from sweeper.driver.driver import Driver, Start
from sweeper.record.ledger import Ledger
from sweeper.search.build import build
from sweeper.search.simulation import probe
from trainables.config import TrialConfig
from trainables.data import Data

RESULTS = Path(__file__).parent / "results"
RAW = RESULTS / "scale.json"
TRIALS, SLOTS = 2000, 64
BUDGETS = tuple(1e11 * 2.0**i for i in range(6))
SPREAD = 0.5
TYPICAL = 2.0
"""Mean budget the search chooses over the cheapest one, roughly; the table has the real mean."""
NOISE = 0.05
MILESTONES = (50, 200, 500, 1000, 1500)
REPORT_EVERY_S = 2.0
"""As `trainables.engine.loop.REPORT_EVERY_S`, without loading torch."""


def sweep(**changes: Any) -> Sweep:
    """A spec whose search never thinks it knows enough."""
    settings: dict[str, Any] = {
        "name": "scale",
        "budgets": BUDGETS,
        "allowance": 1e17,
        "skills": ["knowledge", "code"],
        "data": Data(source="simulated", noise=NOISE),
        "search": SearchSettings(tolerance=1e-4),
    }
    return Sweep(**(settings | changes))


def losses(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
    """Three skills' losses on known surfaces."""
    p, t = allocation.params, allocation.tokens
    return {
        name: 1 + a / p**0.6 + b / t**0.5 + NOISE * rng.normal()
        for name, a, b in (("knowledge", 400, 900), ("code", 150, 900), ("validation", 180, 500))
    }


def clock(mean_s: float, seed: int = 0) -> dict[str, float]:
    """One simulated run with trials of ``mean_s`` seconds on average."""
    spec, rng = sweep(), np.random.default_rng(seed)
    probe(losses, spec.space, seed=seed)
    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name) / "ledger.sqlite")
        search = build(spec.search, spec.space, spec.measured)
        driver = Driver(spec, ledger, search)
        training: list[tuple[float, str, Start]] = []
        now = worked = longest = 0.0
        lengths: list[float] = []
        while len(lengths) < TRIALS or training:
            while len(lengths) < TRIALS and len(training) < SLOTS:
                begin = time.perf_counter()
                start = driver.next()
                if isinstance(start, Start):
                    driver.begin(start)
                took = time.perf_counter() - begin
                now, worked, longest = now + took, worked + took, max(longest, took)
                if start is None or isinstance(start, Finished):
                    break
                scale = mean_s * start.allocation.flops / (TYPICAL * BUDGETS[0])
                length = scale * math.exp(SPREAD * rng.normal() - SPREAD**2 / 2)
                lengths.append(length)
                heapq.heappush(training, (now + length, start.trial_id, start))
            end, trial, start = heapq.heappop(training)
            now = max(now, end)
            begin = time.perf_counter()
            driver.ended(trial, _record(start.allocation, rng))
            took = time.perf_counter() - begin
            now, worked = now + took, worked + took
        ledger.close()
    return {
        "mean_s": sum(lengths) / TRIALS, "trials": TRIALS, "driver_s_per_trial": worked / TRIALS,
        "longest_decision_s": longest, "utilisation": sum(lengths) / (SLOTS * now),
        "ideal": ideal(lengths),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def ideal(lengths: list[float], slots: int = SLOTS) -> float:
    """Utilisation by a driver that takes no time: the last trials end one by one."""
    free = [0.0] * slots
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return sum(lengths) / (slots * max(free)) if max(free) else math.nan


def _record(allocation: Allocation, rng: np.random.Generator) -> dict[str, Any]:
    found = {
        name: {"class": name, "nll": 1000 * loss, "tokens": 1000, "bytes": 3000, "examples": 10}
        for name, loss in losses(allocation, rng).items()
    }
    return {"status": "finished", "tokens": allocation.tokens, "losses": found, "wall_s": 1.0}


def stand_in(mean_s: float) -> Callable[[dict[str, Any]], None]:
    """What takes the place of `sweeper.cluster.trial.train_trial`: sleeps, reports, draws its
    losses."""

    def train_trial(config: dict[str, Any]) -> None:
        from ray import tune

        from sweeper.cluster.trial import Ended, spaced
        from trainables.context import LocalContext
        from trainables.simulated import train

        trial, began = config["work"].config, time.time()
        report = spaced(tune.report, config["work"].report_every_s)
        length = length_s(trial, mean_s)
        while (left := began + length - time.time()) > 0:
            time.sleep(min(left, REPORT_EVERY_S))
            done = min(1.0, (time.time() - began) / length)
            report({"tokens": trial.tokens * done, "tokens_per_s": trial.tokens / length})
        record = train(trial, LocalContext())
        record |= {"first_step_at": began, "wall_s": length, "ended_at": time.time()}
        tune.report({"record": Ended(record | {"worker": str(os.getpid())})})

    return train_trial


def length_s(trial: TrialConfig, mean_s: float) -> float:
    """Seconds of a trial, its own whenever it is trained."""
    entropy = [trial.seed, round(trial.params), round(trial.tokens)]
    luck = SPREAD * np.random.default_rng(entropy).normal() - SPREAD**2 / 2
    return mean_s * 6 * trial.params * trial.tokens / (TYPICAL * BUDGETS[0]) * math.exp(luck)


class Timed(Driver):
    """The driver, noting wall and CPU seconds at every end of a trial."""

    marks: ClassVar[list[tuple[float, float]]] = []

    def ended(self, trial: str, record: Mapping[str, Any]) -> None:
        """Settle a trial."""
        super().ended(trial, record)
        self.marks.append((time.time(), time.process_time()))


def through_ray(trials: int, slots: int, mean_s: float) -> dict[str, Any]:
    """The real tuner, search and ledger on trials that sleep; Ctrl-C keeps what there is."""
    spec = sweep(
        budgets=BUDGETS[:4],
        allowance=1.25 * TYPICAL * BUDGETS[0] * trials,
        cluster=Cluster(cpus=slots, dashboard=False),
    )
    with (
        tempfile.TemporaryDirectory() as name,
        patch("sweeper.cluster.tuner.train_trial", stand_in(mean_s)),
        patch("sweeper.cluster.run_sweep.Driver", Timed),
    ):
        began = time.time()
        found = spec.run(name, progress=False).trials
    found = found[found["state"] == "finished"].sort_values("started_at")
    lengths = found["wall_s"].tolist()
    starts = np.sort(found["first_step_at"].to_numpy(float))
    span = float(found["ended_at"].max()) - float(starts[0])
    return {
        "trials": len(found), "slots": slots, "mean_s": sum(lengths) / len(found),
        "first_process_s": starts[0] - began, "all_processes_s": starts[slots - 1] - began,
        "span_s": span, "utilisation": sum(lengths) / (slots * span),
        "ideal": ideal(lengths, slots), "steady": steady(found, slots), "costs": costs(),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def steady(trials: pd.DataFrame, slots: int) -> float:
    """Share of the slots in training once all processes are up, until the last trial starts."""
    starts, ends = trials["first_step_at"].to_numpy(float), trials["ended_at"].to_numpy(float)
    low, high = np.sort(starts)[slots - 1], starts.max()
    busy = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None).sum()
    return float(busy / (slots * (high - low))) if high > low else math.nan


def costs() -> list[dict[str, float]]:
    """Driver's wall and CPU seconds per trial up to so many trials."""
    rows, before = [], 0
    for count in [n for n in MILESTONES if n < len(Timed.marks)] + [len(Timed.marks) - 1]:
        wall, cpu = np.subtract(Timed.marks[count], Timed.marks[before])
        width = max(count - before, 1)
        rows.append({"from": before, "to": count, "wall_s": wall / width, "cpu_s": cpu / width})
        before = count
    return rows


def _keep(key: str, values: Any) -> None:
    found = json.loads(RAW.read_text()) if RAW.exists() else {}
    machine = f"{os.cpu_count()} CPU cores, Python {platform.python_version()}"
    found[key] = {"date": date.today().isoformat(), "machine": machine, "rows": values}
    RAW.write_text(json.dumps(found, indent=1))
    print(json.dumps(values, indent=1))


REAL = """The real tuner (Ray Tune, its actors, ledger, metrics), the same search, and trials that
end at once. CPU seconds are the driver's, of all its threads; wall seconds say how busy the
machine was with other work:"""


def real_table(found: dict[str, Any]) -> list[str]:
    """A row per run of the real tuner and range of trials."""
    lines = [
        "| slots | trials | CPU s per trial | wall s per trial | driver MB |",
        "|--:|--:|--:|--:|--:|",
    ]
    for key in sorted(key for key in found if key.startswith("no cost")):
        row = found[key]["rows"]
        for cost in row["costs"]:
            lines.append(
                f"| {row['slots']} | {cost['from']}–{cost['to']} | {cost['cpu_s']:.3f} | "
                f"{cost['wall_s']:.2f} | {row['memory_mb']:.0f} |"
            )
    return lines


def sleeping(row: dict[str, Any]) -> str:
    """What became of trials that take their time."""
    ratio = row["utilisation"] / row["ideal"]
    return (
        f"The real tuner, {row['trials']} trials that sleep {row['mean_s']:.0f} s on average, on "
        f"{row['slots']} slots: utilisation {row['utilisation']:.3f} from the first trial's first "
        f"second to the end, {row['ideal']:.3f} by an ideal driver (ratio {ratio:.3f}); between "
        f"the start of the last process and of the last trial {row['steady']:.3f} of the slots "
        f"train. All processes had started after {row['all_processes_s']:.0f} s."
    )


def figure(found: dict[str, Any]) -> None:
    """What a trial costs the driver, by the number of trials before it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chart, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    for key, part in sorted(found.items()):
        if key.startswith("no cost"):
            costs = part["rows"]["costs"]
            middles = [(cost["from"] + cost["to"]) / 2 for cost in costs]
            axis.plot(
                middles, [cost["cpu_s"] for cost in costs], "o-", label=f"real tuner, {key[9:]}"
            )
    mean = found["clock"]["rows"][0]["driver_s_per_trial"]
    axis.axhline(mean, ls=":", color="grey", label="driver alone, mean of 2,000 (wall)")
    axis.set(xlabel="trials before", ylabel="CPU s per trial", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    chart.savefig(RESULTS / "scale.png", dpi=110)


def report() -> None:
    """Write the table."""
    found = json.loads(RAW.read_text())
    rows = found["clock"]["rows"]
    lines = [
        "# 2,000 trials on 64 slots",
        "",
        f"{found['clock']['date']}, {found['clock']['machine']}; "
        "`python benchmarks/scale.py clock`, `ray`, then `report`; seed 0.",
        "",
        "The real search (adaptive, three skills), driver and ledger on a simulated clock:",
        "",
        "| mean seconds of a trial | utilisation | ideal driver | ratio | driver s per trial | "
        "longest decision s | memory MB |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        ratio = row["utilisation"] / row["ideal"]
        lines.append(
            f"| {row['mean_s']:.0f} | {row['utilisation']:.3f} | {row['ideal']:.3f} | "
            f"{ratio:.3f} | {row['driver_s_per_trial']:.3f} | {row['longest_decision_s']:.2f} | "
            f"{row['memory_mb']:.0f} |"
        )
    lines += ["", REAL, "", *real_table(found)]
    for key in (key for key in found if key.startswith("sleeping")):
        lines += ["", sleeping(found[key]["rows"])]
    lines += [line for part in found.values() if "note" in part for line in ("", part["note"])]
    lines += ["", "![CPU seconds of the driver per trial](scale.png)"]
    figure(found)
    (RESULTS / "scale.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("clock", "ray", "report"))
    parser.add_argument("--slots", type=int, default=SLOTS, help="slots of the ray part")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--mean", type=float, default=0.0)
    arguments = parser.parse_args()
    if arguments.part == "clock":
        _keep("clock", [clock(s) for s in (60.0,)])
    elif arguments.part == "ray":
        row = through_ray(arguments.trials, arguments.slots, arguments.mean)
        _keep(f"{'sleeping' if arguments.mean else 'no cost'}, {arguments.slots} slots", row)
    else:
        report()


if __name__ == "__main__":
    main()
