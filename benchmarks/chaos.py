"""A real sweep of cheap CPU trials under random faults, beside the same sweep left in peace.

    python benchmarks/chaos.py --faults 62 --seed 0

Starts a Ray of its own (a head without slots and two nodes of one CPU each), puts the sweep
directory on a small tmpfs where it may mount one, and then, at random moments: kills workers,
drivers and nodes with SIGKILL, asks drivers to stop by SIGTERM, closes their terminal (SIGHUP to
their whole process group), stops workers with SIGSTOP, fills the disk, truncates checkpoints, and
takes memory away. Rounds take turns: trials of one process, trials in worker groups of two with a
worker on each node (so that a killed node takes half a group; either worker is killed, and the
coordinator), and trials of a command of one's own (whose process is killed, too). The driver is
started again by the same command whenever it is gone. At the end both ledgers are compared. One
long file, so that what is done to a sweep and how it is judged can be read together.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from sweeper import Results, SearchSettings, Sizes, Sweep
from sweeper.cluster.connect import ENVIRONMENT
from sweeper.errors import IsoskillError
from sweeper.record.ledger import Ledger
from sweeper.record.live import read as read_live
from sweeper.spec.placement import Resources
from sweeper.spec.sections import Cluster as Where
from trainables.data import Data
from trainables.training import Train

CHECKPOINT_S = 1.0
HANG_S = 60.0
DISK_BYTES = 48 * 2**20
AT_ONCE = 6
"""Faults that the sweep may be getting over at a time."""

PATIENCE_S = 600.0
"""Seconds without any progress after which the benchmark calls the sweep lost."""

ASLEEP_S = 10.0
"""Seconds without a look after which this process itself was asleep."""

SHARES = {
    "worker-killed": 11,
    "group-worker-killed": 12,
    "command-killed": 8,
    "driver-killed": 7,
    "checkpoint-truncated": 6,
    "node-killed": 4,
    "group-node-killed": 4,
    "driver-stopped": 4,
    "terminal-closed": 3,
    "worker-frozen": 4,
    "disk-full": 3,
    "memory-out": 3,
}
"""How often each kind comes in 69 faults."""

ONLY = {
    "group-worker-killed": ("group",),
    "group-node-killed": ("group",),
    "command-killed": ("command",),
    "checkpoint-truncated": ("single", "group"),
    "memory-out": ("single",),
    "worker-frozen": ("single", "group"),
}
"""Faults that hit some sorts of rounds only: a keeper of a command that is short of memory, or a
checkpoint of somebody else's, is not ours."""

SORTS = ("single", "group", "command")

COMMAND = """
import json, math, os, sys, time
a = dict(x[2:].split("=", 1) for x in sys.argv[1:])
p, t, out, steps = float(a["params"]), float(a["tokens"]), a["out"], 60
kept = os.path.join(out, "checkpoint.json")
at, x = json.load(open(kept)) if os.path.exists(kept) else (0, p / 1e6)
while at < steps:
    time.sleep(0.1)
    at, x = at + 1, math.sin(3.7 * x + math.log(t)) + p / 1e6
    with open(kept + "~", "w") as file:
        json.dump((at, x), file)
    os.replace(kept + "~", kept)
    with open(os.path.join(out, "progress.jsonl"), "a") as file:
        file.write(json.dumps({"tokens": t * at / steps, "loss": 3.0}) + "\\n")
with open(os.path.join(out, "part"), "w") as file:
    json.dump({"code": 3 + x / 10, "validation": 4 + x / 10}, file)
os.replace(os.path.join(out, "part"), os.path.join(out, "losses.json"))
"""
"""A trainer whose losses depend on every one of its steps."""


def spec(address: str, world: int, sort: str, home: Path) -> Sweep:
    """A sweep of some trials of some seconds each, in an order that does not matter."""
    if sort == "command":
        return of_command(address, home)
    return Sweep(
        budgets=(8e9, 1.6e10),
        allowance=3e12,  # wasted FLOPs count: leave room for them
        name="chaos",
        data=Data(evaluation_documents=32, world_seed=world),
        sizes=Sizes(8e3, 6e4),
        skills=("knowledge", "code"),
        train=Train(checkpoint_every_s=CHECKPOINT_S),
        search=SearchSettings(policy="grid", sizes_per_budget=5),
        cluster=Where(
            address=address, retries=50, hang_s=HANG_S,
            resources=(Resources(workers=2, cpus=1),) if sort == "group" else (),
        ),
    )  # fmt: skip


def of_command(address: str, home: Path) -> Sweep:
    """Six trials of a command of one's own."""
    (home / "trainer.py").write_text(COMMAND)
    command = ["{python}", "-S", str(home / "trainer.py"), "--params={params}"]
    return Sweep.from_dict(
        {
            "budgets": [1e15, 2e15],
            "allowance": 4e17,
            "name": "chaos",
            "search": {"policy": "grid", "sizes_per_budget": 3},
            "trainer": {
                "command": [*command, "--tokens={tokens}", "--out={directory}"],
                "skills": {"code": "code", "validation": "aggregate"},
                "workdir": str(home),
                "grace_s": 1.0,
            },
            "sizes": {"ladder": [{"params": round(2e5 * 1.3**i)} for i in range(14)]},
            "cluster": {
                "address": address, "device": "cpu-core", "retries": 50, "hang_s": HANG_S,
                "resources": [{"cpus": 1}],
            },
        }
    )  # fmt: skip


@dataclass
class Fault:
    """One fault and what became of it.

    Attributes:
        kind: a key of `SHARES`.
        at: when.
        tokens: of the trials that were in training, by trial.
        recovered_s: seconds until each of these was further than it had been, or had ended.
    """

    kind: str
    at: float
    tokens: dict[str, float]
    recovered_s: float | None = None


@dataclass
class Chaos:
    """The cluster, the driver, and those who trouble them."""

    cluster: Any
    spec: Path
    out: Path
    rng: random.Random
    nodes: list[Any]
    environment: dict[str, str]
    sort: str = "single"
    driver: subprocess.Popen[bytes] | None = None
    starts: int = 0
    faults: list[Fault] = field(default_factory=list)

    # -- driver and workers ----------------------------------------------------------------

    def start(self) -> None:
        """Start the driver, as a person would: the same command."""
        command = [sys.executable, "-m", "sweeper", "run", str(self.spec)]
        with (self.out.parent / f"{self.out.name}.log").open("ab") as log:
            self.driver = subprocess.Popen(
                [*command, "--out", str(self.out), "--quiet"],
                stdout=log, stderr=log, env=self.environment, start_new_session=True,
            )  # fmt: skip
        self.starts += 1

    def processes(self, *names: str) -> list[psutil.Process]:
        """Processes on this cluster's nodes, head included, that are called one of some names."""
        found = []
        for node in (self.cluster.head_node, *self.nodes):
            raylet = node.all_processes["raylet"][0].process
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(raylet.pid).children(recursive=True):
                    if any(name in " ".join(child.cmdline()) for name in names):
                        found.append(child)
        return found

    def workers(self) -> list[psutil.Process]:
        """Tune's trial processes: a trial's own, a group's coordinator, a command's keeper."""
        return self.processes("ImplicitFunc")

    def progress(self) -> dict[str, float]:
        """Tokens of every trial, by trial; infinite for those that have ended."""
        live = read_live(self.out / "live.json").trials
        tokens = {trial: progress.tokens for trial, progress in live.items()}
        with contextlib.suppress(IsoskillError):
            ledger = Ledger(self.out / "ledger.sqlite", read_only=True)
            ended = ledger.allocations("finished", "diverged", "failed")
            ledger.close()
            tokens |= dict.fromkeys(ended, math.inf)
        return tokens

    # -- faults ------------------------------------------------------------------------------

    def strike(self, kind: str) -> bool:
        """Cause a fault; False where there was nothing to hit."""
        return bool(getattr(self, kind.replace("-", "_"))())

    def _worker(self) -> psutil.Process | None:
        workers = self.workers()
        return self.rng.choice(workers) if workers else None

    def worker_killed(self) -> bool:
        """SIGKILL to a trial's process."""
        worker = self._worker()
        if worker is None:
            return False
        worker.kill()
        return True

    def group_worker_killed(self) -> bool:
        """SIGKILL to either worker of a group."""
        found = self.processes("RayTrainWorker")
        if not found:
            return False
        self.rng.choice(found).kill()
        return True

    def command_killed(self) -> bool:
        """SIGKILL to a trial's own command."""
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if "trainer.py" in line and f"--out={self.out}" in line:
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    return True
        return False

    def terminal_closed(self) -> bool:
        """SIGHUP to the driver and all that it started, as when a connection is lost."""
        assert self.driver is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGHUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.driver.wait(120)
        return True

    def driver_killed(self) -> bool:
        """SIGKILL to the driver."""
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait()
        return True

    def driver_stopped(self) -> bool:
        """SIGTERM to the driver, and wait for it to stop in order."""
        assert self.driver is not None
        self.driver.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.driver.wait(120)
        return True

    def worker_frozen(self) -> bool:
        """SIGSTOP to a trial's process: it hangs."""
        worker = self._worker()
        if worker is None:
            return False
        worker.suspend()
        return True

    def node_killed(self) -> bool:
        """SIGKILL to a raylet; another node joins in its place."""
        node = self.nodes.pop(self.rng.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(add_node(self.cluster))
        return True

    def group_node_killed(self) -> bool:
        """SIGKILL to the node of one half of a group in training."""
        return len(self.processes("RayTrainWorker")) > 1 and self.node_killed()

    def disk_full(self) -> bool:
        """Fill the disk for some seconds."""
        filler = self.out.parent / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 2**16)
        time.sleep(self.rng.uniform(3, 8))
        filler.unlink()
        return True

    def checkpoint_truncated(self) -> bool:
        """Cut the newest checkpoint in half and kill the process that wrote it."""
        with contextlib.suppress(OSError):  # they come and go meanwhile
            files = list(self.out.glob("trials/**/checkpoint_*/*.safetensors"))
            if not files:
                return False
            path = max(files, key=lambda p: p.stat().st_mtime)
            os.truncate(path, path.stat().st_size // 2)
            return self.worker_killed()
        return False

    def memory_out(self) -> bool:
        """Let a trial's process have no more memory than it holds."""
        worker = self._worker()
        if worker is None:
            return False
        with contextlib.suppress(psutil.Error, OSError):
            worker.rlimit(resource.RLIMIT_AS, (worker.memory_info().vms, -1))
            return True
        return False


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def start_cluster(scratch: Path) -> Any:
    """A head without slots, apart from the other Rays of this machine."""
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": 0, "object_store_memory": 80 * 2**20, "temp_dir": str(scratch)}
    # Without it Ray keeps the slots of a group whose coordinator dies before its first report.
    settings["include_dashboard"] = True
    return Cluster(initialize_head=True, head_node_args=settings)


def kinds(count: int, rng: random.Random, only: list[str]) -> list[str]:
    each = [kind for kind, share in SHARES.items() if kind in only for _ in range(share)]
    wanted = [each[i % len(each)] for i in range(count)]
    rng.shuffle(wanted)
    return wanted


def trouble(chaos: Chaos, left: list[str]) -> None:
    """Cause the faults that are left until the sweep has ended by itself."""
    known, moved, looked = dict[str, float](), time.monotonic(), time.monotonic()
    chaos.start()
    pause = time.monotonic() + 15
    while True:
        time.sleep(0.5)
        assert chaos.driver is not None
        now, code = time.monotonic(), chaos.driver.poll()
        if now - looked > ASLEEP_S:  # all of it was paused, as by others on a shared machine
            moved += now - looked
        looked = now
        if code == 0:
            settle(chaos, chaos.progress())
            print(f"the sweep has ended; {len(left)} faults are left for the next", flush=True)
            return
        if code is not None:
            chaos.start()
        current = chaos.progress()
        if any(tokens > known.get(trial, 0.0) for trial, tokens in current.items()):
            moved = now
        known = {**known, **current}
        settle(chaos, current)
        if now - moved > PATIENCE_S:
            raise SystemExit(f"no progress for {PATIENCE_S:g} s after {chaos.faults[-1:]}")
        still = sum(fault.recovered_s is None for fault in chaos.faults)
        if left and now > pause and still < AT_ONCE:
            training = {t: n for t, n in current.items() if n < math.inf}
            fitting = [k for k in left if chaos.sort in ONLY.get(k, SORTS)]
            kind = chaos.rng.choice(fitting) if fitting else ""
            if training and kind and chaos.strike(kind):
                left.remove(kind)
                name = kind if chaos.sort == "single" else f"{kind} ({chaos.sort})"
                chaos.faults.append(Fault(name, time.time(), training))
                print(f"{len(chaos.faults):>3} {name} {training}", flush=True)
                pause = time.monotonic() + chaos.rng.uniform(0, 4)


def settle(chaos: Chaos, current: dict[str, float]) -> None:
    """Note which faults the sweep has got over."""
    for fault in chaos.faults:
        if fault.recovered_s is None and all(
            current.get(trial, 0.0) > tokens for trial, tokens in fault.tokens.items()
        ):
            fault.recovered_s = time.time() - fault.at


def losses(results: Results) -> dict[Any, float]:
    table = results.table.set_index(["flops", "params", "seed", "skill"])["nll"]
    return dict(table.sort_index().to_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=62)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(SHARES), choices=SHARES, metavar="KIND")
    parser.add_argument("--results", type=Path, help="also write the table here")
    arguments = parser.parse_args()
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    mounted = mount(home)
    scratch = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = start_cluster(scratch)
    try:
        nodes = [add_node(cluster) for _ in range(2)]
        rng = random.Random(arguments.seed)
        left, rounds = kinds(arguments.faults, rng, arguments.only), list[Round]()
        while left:
            place, world = home / str(len(rounds)), len(rounds)
            rounds.append(one_round(cluster, place, world, rng, nodes, left))
        text = report(rounds, arguments, mounted)
        print(text)
        if arguments.results:
            arguments.results.write_text(text, encoding="utf-8")
    finally:
        cluster.shutdown()
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=False)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class Round:
    """A sweep under faults, the same in peace, and the seconds both took."""

    chaos: Chaos
    peace: Chaos
    troubled_s: float
    peace_s: float


def one_round(
    cluster: Any, home: Path, world: int, rng: random.Random, nodes: list[Any], left: list[str]
) -> Round:
    """Run a sweep under the faults that are left, then the same without."""
    home.mkdir()
    path = home / "spec.yaml"
    sort = SORTS[world % len(SORTS)]
    print(f"round {world + 1}: {sort}, {len(left)} faults are left", flush=True)
    spec(cluster.address, world, sort, home).save(path)
    chaos = Chaos(cluster, path, home / "troubled", rng, nodes, dict(os.environ), sort)
    peace = Chaos(cluster, path, home / "peace", rng, nodes, dict(os.environ), sort)
    began = time.monotonic()
    trouble(chaos, left)
    between = time.monotonic()
    peace.start()
    assert peace.driver is not None
    if peace.driver.wait(1800) != 0:
        raise SystemExit((home / "peace.log").read_text()[-2000:])
    return Round(chaos, peace, between - began, time.monotonic() - between)


def mount(home: Path) -> bool:
    """Put a small tmpfs on the directory; without the right to, its disk is not filled."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(home)]
    done = subprocess.run(["mount", *options], check=False, capture_output=True)
    if done.returncode:
        SHARES.pop("disk-full")
    return done.returncode == 0


def compare(each: Round) -> dict[str, Any]:
    """What a round lost, and what it paid twice."""
    ours, theirs = Results(each.chaos.out), Results(each.peace.out)
    ledger = Ledger(each.chaos.out / "ledger.sqlite", read_only=True)
    integrity = ledger.check()
    ledger.close()
    ended = ours.events[ours.events["kind"].isin(["finished", "diverged"])]
    mine, right = losses(ours), losses(theirs)
    both = mine.keys() & right.keys()
    halved = set(ours.events.loc[ours.events["kind"] == "out-of-memory", "trial_id"])
    keys = ours.table.set_index(["flops", "params", "seed", "skill"])["trial_id"]
    rounded = {key for key in both if keys[key] in halved}
    pace = float((theirs.trials["flops"] / theirs.trials["wall_s"].fillna(6.0)).median())
    return {
        "trials": len(ours.trials),
        "not finished": int((ours.trials["state"] != "finished").sum()),
        "finished trials lost": len({key[:3] for key in right.keys() - mine.keys()}),
        "ended twice": int(ended.duplicated("trial_id").sum()),
        "ledgers not whole": int(integrity != "ok"),
        "allocations that differ": len(mine.keys() ^ right.keys()),
        "losses compared bit by bit": len(both - rounded),
        "of these differ": sum(mine[k] != right[k] for k in both - rounded),
        "losses after memory ran out, with smaller micro-batches": len(rounded),
        "of these differ by more than 1e-4": sum(
            abs(mine[k] / right[k] - 1) > 1e-4 for k in rounded
        ),
        "wasted": float(ours.trials["wasted_flops"].sum()),
        "spent": ours.spent_flops,
        # Two seconds lie between reports: work after the last one is known to nobody.
        "intervals": len(each.chaos.faults) * pace * (CHECKPOINT_S + 2.0),
        "reasons": ours.trials.loc[ours.trials["state"] == "failed", "reason"].tolist(),
        "events": Counter(ours.events["kind"].tolist()),
    }


def report(rounds: list[Round], arguments: Any, mounted: bool) -> str:
    """What was lost, what was paid twice, and how long each kind of fault took to survive."""
    found = [compare(each) for each in rounds]
    faults = [fault for each in rounds for fault in each.chaos.faults]
    counts = {
        key: sum(f[key] for f in found) for key in found[0] if key not in ("events", "reasons")
    }
    events = sum((f["events"] for f in found), Counter[str]())
    wasted, spent = counts.pop("wasted"), counts.pop("spent")
    intervals = counts.pop("intervals")
    lines = [
        "# Chaos",
        "",
        f"{time.strftime('%Y-%m-%d')}, `{' '.join(['python', *sys.argv])}`, "
        f"seed {arguments.seed}, {os.cpu_count()} CPU cores, {platform.machine()}; "
        f"{'disk: a tmpfs of 48 MB' if mounted else 'no tmpfs: the disk was not filled'}",
        "",
        f"{len(faults)} faults in {sum(r.troubled_s for r in rounds):.0f} s on {len(rounds)} "
        f"sweeps, which took {sum(r.peace_s for r in rounds):.0f} s in peace; drivers were "
        f"started {sum(r.chaos.starts for r in rounds)} times. Load of the machine at the end: "
        f"{os.getloadavg()[0]:.0f}.",
        "",
        "| against the same sweeps in peace | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in counts.items()),
        f"| FLOPs paid twice, of all spent | {wasted / spent:.1%} |",
        f"| FLOPs paid twice, of one checkpoint interval per fault | {wasted / intervals:.2f} |",
        "",
        f"Events: {', '.join(f'{kind} {count}' for kind, count in events.most_common())}.",
        "",
        "| fault | times | survived | median recovery | worst recovery |",
        "|---|---|---|---|---|",
    ]
    for kind, count in Counter(fault.kind for fault in faults).most_common():
        took = sorted(f.recovered_s for f in faults if f.kind == kind and f.recovered_s)
        lines.append(
            f"| {kind} | {count} | {len(took)} | {took[len(took) // 2]:.0f} s | {took[-1]:.0f} s |"
        )
    lines += [f"\nFailed: {reason}" for each in found for reason in each["reasons"]]
    lines += [
        "",
        "Recovery is from the fault until every trial that was in training is further than it "
        "was, or has ended: the start of processes (torch's import) is included, a hang is "
        f"noticed after {HANG_S:g} s, up to {AT_ONCE} faults overlap, and the machine is shared "
        "with other work.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
