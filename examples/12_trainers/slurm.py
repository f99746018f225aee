"""Drive a sweep on Slurm, without Ray. Kept in the directory, so that it may be started again."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from sweeper import Finished, Sweep

sweep, root, slots, pause_s = Sweep.load("slurm.yaml"), Path(sys.argv[1]), 4, float(sys.argv[2])


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


while True:
    for job in root.glob("trials/*/job"):  # those that are out
        if not run("squeue", "--noheader", f"--jobs={job.read_text()}", "-o%i"):
            ended = (job.parent / "log.csv").exists()
            why = "" if ended else "its job ended without losses"
            print(
                job.parent.name, sweep.tell(root, job.parent.name, failed=why, kind="worker-died")
            )
            job.unlink(missing_ok=True)
    free = slots - len(list(root.glob("trials/*/job")))
    asked = sweep.ask(root, free) if free else []
    if isinstance(asked, Finished):
        break
    for trial in asked:
        job = run("sbatch", "--parsable", "--gpus=1", f"--wrap={shlex.join(trial.command)}")
        (trial.directory / "job").write_text(job)
    time.sleep(pause_s)
print(asked.reason, asked.detail)
