"""Build the sdist and, from it, the wheel; look whether all is in it; try the console from it.

`make wheel` and `.ci/run` call it. The wheel is unpacked beside the environment's dependencies, so
that what is tried is what `pip install` would put there, not this checkout.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fitting", "trainables", "sweeper")
RUNS = "flops,params,tokens,loss\n" + "".join(
    f"{c},{p},{c / 6 / p},{1.7 + 400 / p**0.34 + 410 / (c / 6 / p) ** 0.28}\n"
    for c in (1e18, 3e18, 1e19)
    for p in (5e7, 1e8, 2e8, 4e8, 8e8, 1.6e9)
)


def build(folder: Path) -> Path:
    """The wheel, built from the sdist."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(names: set[str]) -> None:
    """Every tracked file of the packages is in the wheel, and nothing else but its metadata."""
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = set(listed.stdout.split())
    missing, other = tracked - names, {n for n in names - tracked if ".dist-info/" not in n}
    if missing or other:
        sys.exit(f"wheel: missing {sorted(missing)}, not of the packages {sorted(other)}")


def try_console(unpacked: Path, folder: Path) -> None:
    """The commands of the first minutes, from the wheel alone."""
    (folder / "runs.csv").write_text(RUNS)
    environment = os.environ | {"PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    for line in (
        "--version",
        "init laptop --out sweep.yaml",
        "plan sweep.yaml",
        "skills",
        "fit runs.csv",
        "predict runs.csv --flops 1e20",
        "report runs.csv --out runs.html",
    ):
        command = [sys.executable, "-m", "sweeper", *line.split()]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"isoskill {line}: {done.stdout}{done.stderr}")
    where = "import sweeper; print(sweeper.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where], cwd=folder, env=environment, capture_output=True, text=True
    )
    if not done.stdout.startswith(str(unpacked)):
        sys.exit(f"not tried from the wheel but from {done.stdout}")


def main() -> None:
    """Build, look, try."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        with zipfile.ZipFile(wheel) as archive:
            check_contents(set(archive.namelist()))
            archive.extractall(folder / "unpacked")
        try_console(folder / "unpacked", folder)
        print(f"{wheel.name}: complete, and its console works")


if __name__ == "__main__":
    main()
