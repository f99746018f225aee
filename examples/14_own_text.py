"""Own text in a quarter of an hour, and whether the report's numbers are true.

Python's documentation as text and its library as code, half and half of the tokens, prepared,
planned for the time given, run, and read. Then trainings that the sweep did not ask for, of other
seeds and sizes, are held against what it says: losses against their intervals, and optima found in
those trainings alone against the sweep's.

    python examples/14_own_text.py MINUTES [CHECKS]
"""

import contextlib
import math
import runpy
import sys
from pathlib import Path

import pandas as pd

from fitting import FitError, fit_skills
from sweeper import Results, Sweep
from sweeper.analysis.conclusions import conclusions
from sweeper.analysis.weak import weak_in
from sweeper.commands.prepare import load_corpora
from sweeper.plan.given import Given, choose
from sweeper.spec.reading import read_yaml
from trainables.context import LocalContext
from trainables.engine.loop import train
from trainables.prepare.run import prepare

HERE = Path(__file__).parent
SPEC, CORPUS, SWEEP = HERE / "14_own_text.yaml", Path("corpora/own-text"), Path("sweeps/own-text")
FACTORS = (0.4, 0.75, 1.3, 2.5)  # of the aggregate's optimum on each budget
SEED = 1000  # the sweep's own seeds are small


def planned(minutes: float) -> Sweep:
    """The corpus made, and the sweep that fits the time."""
    if not (CORPUS / "manifest.json").exists():
        runpy.run_path(str(HERE / "05_python_source.py"))["write_text"]()
        prepare(load_corpora(HERE / "05_corpora.yaml", {"share_of": "tokens"}), CORPUS)
    memory = Path("corpora/own-text.speed.json")
    found = choose(read_yaml(SPEC), Given(minutes=minutes), Sweep, memory=memory)
    print(found.plan, *found.lines(), "", sep="\n")
    return found.spec


def unasked(results: Results, fits, count: int) -> pd.DataFrame:
    """Losses of trainings that the sweep did not ask for: four sizes a budget, other seeds."""
    sweep, rows = results.sweep, []
    places = [(flops, factor) for factor in FACTORS for flops in sweep.budgets]
    for number in range(count):
        flops, factor = places[number % len(places)]
        best = fits[results.aggregate].at(flops).params
        guess = best if math.isfinite(best) else math.sqrt(flops / 120)
        allocation = sweep.space.allocation(flops, factor * guess, seed=SEED + number)
        record = train(sweep.own_trial(allocation), LocalContext())
        for skill, loss in record["losses"].items():
            rows.append({
                "trial_id": f"check-{number}", "flops": flops, "params": allocation.params,
                "tokens": allocation.tokens, "skill": skill, "loss": loss["nll"] / loss["tokens"],
            })  # fmt: skip
        print(f"check {number + 1} of {count}: {allocation}", flush=True)
    return pd.DataFrame(rows)


def held(fits, checks: pd.DataFrame) -> pd.DataFrame:
    """Every check's loss beside what the sweep says of it, where it says anything."""
    rows = []
    for row in checks.to_dict(orient="records"):
        with contextlib.suppress(FitError):
            said = fits[row["skill"]].loss(row["params"], row["tokens"])
            low, high = said.interval
            inside = low <= row["loss"] <= high
            rows.append({**row, "said": said.value, "low": low, "high": high, "inside": inside})
    return pd.DataFrame(rows)


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else len(FACTORS) * 3
    fresh = not (SWEEP / "sweep.yaml").exists()
    sweep = planned(minutes) if fresh else Sweep.load(SWEEP / "sweep.yaml")
    results = sweep.run(SWEEP)
    fits = results.fit()
    print(f"\n{fits}\n")
    for sentence in conclusions(fits, results.aggregate, weak_in(results, fits)):
        print(f"* {sentence}")

    frame = held(fits, unasked(results, fits, count))
    if frame.empty:
        print("\nno skill has a law to hold the checks against: give it more minutes")
        return
    print(
        f"\n{frame.drop(columns='trial_id').to_string(index=False, float_format='{:.4g}'.format)}"
    )
    print(
        f"\n{frame['inside'].mean():.0%} of {len(frame)} losses lie inside their 90 % intervals:"
    )
    for skill, rows in frame.groupby("skill"):
        off = (rows["loss"] - rows["said"]).std()
        print(f"  {skill:<20} {rows['inside'].sum()} of {len(rows)}, off by {off:.3f} nats (sd)")
    alone = fit_skills(frame[["trial_id", "flops", "params", "tokens", "skill", "loss"]])
    print("\noptima by the sweep, and by the checks alone (90 %):")
    for skill in alone:
        for flops in sweep.budgets:
            ours, theirs = fits[skill].at(flops), alone[skill].at(flops)
            meet = (
                ours.interval[0] <= theirs.interval[1] and theirs.interval[0] <= ours.interval[1]
            )
            print(f"  {skill:<20} {flops:.2g}  {ours.params:.3g} [{ours.interval[0]:.3g}, "
                  f"{ours.interval[1]:.3g}]  {theirs.params:.3g} [{theirs.interval[0]:.3g}, "
                  f"{theirs.interval[1]:.3g}]  {'meet' if meet else 'apart'}")  # fmt: skip


if __name__ == "__main__":
    main()
