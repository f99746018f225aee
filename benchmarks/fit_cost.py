"""CPU seconds and memory of a whole `fit_skills`, each method, against the guarded default.

python benchmarks/fit_cost.py
"""

import datetime
import resource
import time

import numpy as np
import pandas as pd
from worlds import world

from fitting import fit_skills
from fitting.laws.skill_models import METHODS

SKILLS, BUDGETS, SIZES, SEED = 20, 9, 12, 3


def table() -> pd.DataFrame:
    """20 skills of the base world on the paper's range of budgets."""
    base, rng = world("fail"), np.random.default_rng(SEED)
    budgets = np.geomspace(6e18, 3e21, BUDGETS)
    centre = np.array([base.log_optimum("aggregate", c) for c in budgets])
    params = np.exp((centre[:, None] + np.linspace(-1.5, 1.5, SIZES)).ravel())
    draws = [base.table(np.repeat(budgets, SIZES), params, rng) for _ in range(4)]
    found = pd.concat([t.assign(skill=t["skill"] + f"-{i}") for i, t in enumerate(draws)])
    return found[found["skill"].isin(found["skill"].unique()[:SKILLS])]


def main() -> None:
    rows = table()
    fit_skills(rows[rows["skill"] == rows["skill"].iloc[0]])  # imports are not the fit's cost
    seconds = {}
    for method in METHODS:
        started = time.process_time()
        fit_skills(rows, method=method)
        seconds[method] = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"# Cost of fit_skills, {datetime.date.today()}, seed {SEED}")
    print(f"{SKILLS} skills x {BUDGETS} budgets x {SIZES} sizes; peak memory {memory:.0f} MB")
    for method, cost in seconds.items():
        print(f"{method:<10} {cost:6.2f} CPU s  {cost / seconds['guarded']:.2f} of guarded's")


if __name__ == "__main__":
    main()
