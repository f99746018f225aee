"""Foreign trainers under faults, beside the same sweeps left in peace; and what a start costs.

    python benchmarks/trainers.py [--write]

Four parts. (1) An adaptive sweep of a dozen trials and more through a command; its driver and a
trial of it are killed in the middle, and its losses are compared with those of the same sweep
undisturbed, and with the script run by hand. (2) Commands that misbehave, one sweep for each kind:
killed, a killed child, SIGTERM ignored, a hang, a full disk (on a small tmpfs, where one may be
mounted), a gigabyte of output, half a file of losses, a daemon left behind. (3) A launcher of two
that is killed. (4) Seconds from a free slot to the start of the next trial's process, beside those
that the process itself takes to start. After each it is looked whether anything is left running.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from sweeper import Results, Sweep

SCRIPT = '''
import json, os, signal, subprocess, sys, time
a = dict(x[2:].split("=", 1) for x in sys.argv[1:])
p, t, out, mode = float(a["params"]), float(a["tokens"]), a["out"], a.get("mode", "")
rank = int(a.get("rank", 0))
tried = os.path.join(out, "tried%d" % rank)
first = not os.path.exists(tried)
open(tried, "w").close()
ckpt = os.path.join(out, "ckpt%d" % rank)
at = int(open(ckpt).read()) if os.path.exists(ckpt) else 0
while at < 10:
    time.sleep(float(a.get("pause", 0.05)))
    at += 1
    with open(ckpt + "~", "w") as file:
        file.write(str(at))
    os.replace(ckpt + "~", ckpt)
    if rank == 0 and mode != "hang" or not first:
        with open(os.path.join(out, "progress.jsonl"), "a") as file:
            file.write(json.dumps({"tokens": t * at / 10, "loss": 3.0}) + "\\n")
    if at == 5 and first:
        if mode == "kill":
            os.kill(os.getpid(), 9)
        if mode == "child":
            child = subprocess.Popen(["sleep", "600"])
            child.kill()
            child.wait()
            sys.exit("a worker ended by SIGKILL")
        if mode == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        if mode == "hang":
            time.sleep(600)
        if mode == "disk":
            with open(os.path.join(out, "filler"), "wb") as file:
                try:
                    while True:
                        file.write(b"x" * 2**20)
                except OSError as error:
                    problem = str(error)
            time.sleep(3)
            os.unlink(os.path.join(out, "filler"))  # somebody makes room
            sys.exit(problem)
        if mode == "output":
            line = b"all work and no play makes a dull log\\n" * 27000
            for _ in range(1000):
                sys.stdout.buffer.write(line)
        if mode == "half":
            with open(os.path.join(out, "losses.json"), "w") as file:
                file.write('{"code": 1.')
            os.kill(os.getpid(), 9)
        if mode == "daemon":
            subprocess.Popen(["sleep", "601"], start_new_session=True, env={})
        if mode == "launcher":
            if rank:
                os.kill(os.getppid(), 9)  # its launcher; the other waits for it in vain
            time.sleep(600)
if rank == 0:
    seed = float(a["seed"])
    body, noise = 1.5 + 400 / p**.34, .001 * ((p * 7919 + t + seed) % 13 - 6)
    loss = {"code": body + 410 / t**.28 + noise, "validation": body + 500 / t**.28 - noise}
    with open(os.path.join(out, "part"), "w") as file:
        json.dump(loss, file)
    os.replace(os.path.join(out, "part"), os.path.join(out, "losses.json"))
'''  # fmt: skip

MODES = ("kill", "child", "deaf", "hang", "disk", "output", "half", "daemon", "launcher")
HANG_S = 8.0
DISK_BYTES = 64 * 2**20


def spec(home: Path, mode: str = "", **changes: object) -> Path:
    """A sweep's YAML file: a grid of three, or an adaptive sweep."""
    ladder = [{"params": round(2e5 * 1.3**i)} for i in range(14)]
    command = ["{python}", "-S", "script.py", "--params={params}", "--tokens={tokens}"]
    command += ["--seed={seed}", "--out={directory}", f"--mode={mode}", "--rank={node_rank}"]
    workers = 2 if mode == "launcher" else 0
    values = {
        "budgets": [1e15],
        "allowance": 2e16,
        "search": {"policy": "grid", "sizes_per_budget": 3},
        "trainer": {
            "command": command,
            "skills": {"code": "code", "validation": "aggregate"},
            "workdir": str(home),
            "grace_s": 1.0,
            "keep": mode == "output",
        },
        "sizes": {"ladder": ladder},
        "cluster": {
            "device": "cpu-core",
            "cpus": 2,
            "hang_s": HANG_S if mode in ("deaf", "hang") else 600.0,
            "resources": [{"cpus": 1, "workers": workers}],
        },
        **changes,
    }
    path = home / f"{mode or 'adaptive'}.yaml"
    Sweep.from_dict(values).save(path)
    return path


def drive(path: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a driver, as a person would."""
    log = out.with_suffix(".log").open("ab")
    command = [sys.executable, "-m", "sweeper", "run", str(path), "--out", str(out), "--quiet"]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(path: Path, out: Path) -> float:
    """Run a sweep to its end; returns the seconds."""
    began = time.monotonic()
    if drive(path, out).wait(900):
        raise SystemExit(out.with_suffix(".log").read_text()[-3000:])
    return time.monotonic() - began


def foreign(home: Path) -> list[str]:
    """Processes of the script, and what it leaves behind, that are alive."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        ours = f"--out={home}" in line and "script.py" in line
        ours = ours or line in ("sleep 600", "sleep 601")
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line[:80])
    return found


def gone(home: Path, seconds: float = 10.0) -> list[str]:
    """What is left running after some seconds."""
    until = time.monotonic() + seconds
    while (left := foreign(home)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def losses(results: Results) -> dict[tuple[float, ...], float]:
    table = results.table.dropna(subset=["loss"])
    return dict(table.set_index(["flops", "params", "tokens", "seed", "skill"])["nll"])


def by_hand(results: Results, home: Path) -> int:
    """How many trials of a sweep the script, run by hand, gives other losses."""
    wrong = 0
    for trial in results.trials.itertuples():
        out = home / "by_hand" / trial.trial_id
        out.mkdir(parents=True)
        arguments = [f"--params={trial.params}", f"--tokens={trial.tokens}", "--pause=0"]
        arguments += [f"--seed={trial.seed}", f"--out={out}"]
        subprocess.run([sys.executable, "-S", home / "script.py", *arguments], check=True)
        rows = results.table[results.table["trial_id"] == trial.trial_id]
        wrong += json.loads((out / "losses.json").read_text()) != dict(
            zip(rows["skill"], rows["loss"], strict=True)
        )
    return wrong


def killed_twice(home: Path) -> list[str]:
    """Part 1."""
    path = spec(
        home, budgets=[1e15, 2e15], allowance=1e17,
        search={"policy": "adaptive", "min_trials": 14, "tolerance": 0.2},
        cluster={"device": "cpu-core", "cpus": 1, "retries": 5},
    )  # fmt: skip
    finish(path, home / "peace")
    driver, rng = drive(path, home / "killed"), 0
    for victim in ("driver", "trial", "driver"):
        while len(alive := running(home)) < 1 or ended(home / "killed") < 3 * (rng + 1):
            time.sleep(0.05)
            if driver.poll() is not None:
                break
        if victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            time.sleep(0.5)
            assert not gone(home), "a killed driver leaves a trainer"
            driver = drive(path, home / "killed")
        elif alive:
            with contextlib.suppress(psutil.Error):
                alive[0].kill()
        rng += 1
    driver.wait(900)
    peace, killed = Results(home / "peace"), Results(home / "killed")
    right, mine = losses(peace), losses(killed)
    ends = [end.reason for end in (peace.finished, killed.finished) if end]
    differ = sum(right[key] != mine[key] for key in right.keys() & mine.keys())
    counts = {
        "trials of the undisturbed sweep": len(peace.trials),
        "trials of the one whose driver was killed twice, and a trial once": len(killed.trials),
        "times trials were started in it": int(killed.trials["attempts"].sum()),
        "finished trials lost": len(right.keys() - mine.keys()) // 2,
        "allocations that differ": len(right.keys() ^ mine.keys()) // 2,
        "losses that differ, bit by bit": differ,
        "trials whose losses differ from the script's by hand": by_hand(peace, home),
        "why the two searches stopped": ", ".join(ends),
    }
    return [f"| {name} | {count} |" for name, count in counts.items()]


def running(home: Path) -> list[psutil.Process]:
    """Processes of the script."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if (
            "script.py" in words
            and any(str(home) in word for word in words)
            and "keeper.py" not in " ".join(words)
        ):
            found.append(process)
    return found


def ended(out: Path) -> int:
    with contextlib.suppress(Exception):
        return int((Results(out).trials["state"] != "running").sum())
    return 0


def misbehaving(home: Path, modes: list[str]) -> Iterator[str]:
    """Parts 2 and 3: a row for each kind."""
    for mode in modes:
        seconds = finish(spec(home, mode), home / mode)
        results = Results(home / mode)
        faults = results.events[results.events["kind"].isin(
            ["worker-died", "hung", "storage", "error", "losses", "device"]
        )]  # fmt: skip
        states = results.trials["state"].value_counts().to_dict()
        said = faults["detail"].iloc[0] if len(faults) else ""
        notes = results.events[results.events["kind"] == "note"]["detail"].tolist()
        kept = sum(f.stat().st_size for f in (home / mode).rglob("output*")) / 2**20
        finished = ", ".join(f"{n} {state}" for state, n in states.items())
        words = (said or (notes[0] if notes else "no fault")).replace(sys.executable, "python")
        words = words.replace("|", "/")[:150]
        yield (
            f"| {mode} | {finished} | {len(faults)} | {len(gone(home))} | {kept:.0f} MB | "
            f"{seconds:.0f} s | {words} |"
        )


def overhead(home: Path) -> list[str]:
    """Part 4: of the sweep in peace, whose trials follow one another on two slots."""
    waits = Results(home / "peace").overhead_s()
    own = []
    for _ in range(10):
        began = time.monotonic()
        subprocess.run([sys.executable, "-S", "-c", "pass"], check=True)
        own.append(time.monotonic() - began)
    middle, bare = waits.median(), statistics.median(own)
    return [
        f"| free slot to the next process's start, median of {len(waits)} | {middle:.3f} s |",
        f"| the same, worst | {waits.max():.3f} s |",
        f"| `python -S -c pass`, median of 10 at the same time | {bare:.3f} s |",
        f"| ratio of the two medians | {middle / bare:.1f} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in results/")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="trainers-"))
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(home)]
    mounted = subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0
    (home / "script.py").write_text(SCRIPT)
    try:
        modes = [mode for mode in MODES if mounted or mode != "disk"]
        head = killed_twice(home)
        start = overhead(home)
        for name in ("peace", "killed"):
            shutil.rmtree(home / name)
        rows = list(misbehaving(home, modes))
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(home)], check=False)
        shutil.rmtree(home, ignore_errors=True)
    text = [
        "# Foreign trainers under faults", "",
        f"{time.strftime('%Y-%m-%d')}, `python benchmarks/trainers.py`, {os.cpu_count()} shared "
        f"CPU cores, {platform.machine()}, load {os.getloadavg()[0]:.0f}; "
        f"{'disk: a tmpfs of 64 MB' if mounted else 'no tmpfs: the disk was not filled'}.", "",
        "| an adaptive sweep through a command | |", "|---|---|", *head, "",
        "| what misbehaves in its first attempt | three trials end | faults | left running | "
        "output kept | took | said |", "|---|---|---|---|---|---|---|", *rows, "",
        "| start of a trial | |", "|---|---|", *start,
    ]  # fmt: skip
    print("\n".join(text))
    if args.write:
        place = Path(__file__).parent / "results/trainers.md"
        place.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
