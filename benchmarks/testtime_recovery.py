"""How well the laws of pass@k are recovered on the grid of T^2, and what they then say.

106 checkpoints, 8 tasks with known constants, relative noise per checkpoint common to its k.
Prints Markdown: errors of the constants, forecasts of 21 over-trained checkpoints from the other
85, and the frontier beside Chinchilla's. Run: python benchmarks/testtime_recovery.py
"""

from __future__ import annotations

import argparse
import sys
from datetime import date

import numpy as np
import pandas as pd
from checkpoints import (
    QUESTIONS,
    TASKS,
    checkpoint_grid,
    sample_nll,
    sample_questions,
)

from fitting.decisions.nll_law import fit_nll_law
from fitting.decisions.pass_law import fit_pass_law
from fitting.decisions.passk import PassCurves
from fitting.decisions.testtime import SamplingLaw, sampling_frontier
from trainables.progress import counted

CONSTANTS = ("E", "A", "B", "G", "alpha", "beta", "gamma")
C_INFERENCE = 2e9


def forecast_error(law: SamplingLaw, held: PassCurves, seen: np.ndarray) -> float:
    predicted = law.value(held.params[:, None], held.tokens[:, None], held.k)
    return float(np.abs(predicted / seen - 1).mean())


def approach_one(noise: float, seeds: int) -> tuple[np.ndarray, float, float]:
    """Relative errors of the constants (tasks * seeds, 7), forecast error, error of ln p*."""
    _, _, long = checkpoint_grid()
    off, forecasts, optima = [], [], []
    for i, truth in enumerate(counted(TASKS.values(), f"tasks at noise {noise:.2%}")):
        for seed in range(seeds):
            curves = sample_nll(truth, noise, np.random.default_rng((i, seed)))
            found = fit_nll_law(curves)
            off.append([abs(getattr(found, c) / getattr(truth, c) - 1) for c in CONSTANTS])
            held = curves.subset(long)
            law = fit_nll_law(curves.subset(~long))
            forecasts.append(forecast_error(law, held, held.neg_log_pass))
            mine, right = (x.optimum(2.56e19, C_INFERENCE).params for x in (found, truth))
            optima.append(abs(np.log(mine / right)))
    return np.array(off), float(np.mean(forecasts)), float(np.median(optima))


def approach_two(questions: int, seeds: int) -> tuple[float, float]:
    """Forecast error, and median error of ln p*."""
    _, _, long = checkpoint_grid()
    forecasts, optima = [], []
    truth = QUESTIONS.optimum(2.56e19, C_INFERENCE).params
    for seed in counted(range(seeds), f"seeds of {questions} questions"):
        curves = sample_questions(QUESTIONS, questions, np.random.default_rng(seed))
        held = curves.subset(long)
        law = fit_pass_law(curves.subset(~long))
        forecasts.append(forecast_error(law, held, held.pass_rate))
        found = fit_pass_law(curves).optimum(2.56e19, C_INFERENCE).params
        optima.append(abs(np.log(found / truth)))
    return float(np.mean(forecasts)), float(np.median(optima))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    print(f"# Recovery of pass@k laws, {date.today()}\n")
    print(f"`python {' '.join(sys.argv)}`, seeds 0 to {seeds - 1}, 8 tasks.\n")
    print("Approach 1. Relative errors of the constants, median / worst; forecast of mean -ln")
    print("pass@k of 21 over-trained checkpoints from 85; median error of ln p* at 2.56e19.\n")
    print("| noise | " + " | ".join(CONSTANTS) + " | forecast | ln p* |")
    print("|" + "---|" * (len(CONSTANTS) + 3))
    for noise in (0.0, 0.0005, 0.001, 0.003, 0.01):
        off, forecast, optimum = approach_one(noise, seeds)
        cells = [f"{np.median(c):.2%} / {c.max():.2%}" for c in off.T]
        print(f"| {noise:.2%} | {' | '.join(cells)} | {forecast:.2%} | {optimum:.3f} |")
    print("\nApproach 2. Questions drawn from Beta laws, mean loss with 1 % noise.\n")
    print("| questions | forecast of pass@k | ln p* |\n|---|---|---|")
    for questions in (200, 1000):
        forecast, optimum = approach_two(questions, seeds)
        print(f"| {questions} | {forecast:.2%} | {optimum:.3f} |")
    print(f"\nFrontier of task recall at {C_INFERENCE:.0e} FLOPs per token served.\n")
    rows = sampling_frontier(TASKS["recall"], np.geomspace(1e16, 1e22, 13).tolist(), C_INFERENCE)
    shown = ["train_flops", "params", "k", "tokens_per_param", "value"]
    shown += ["chinchilla_params", "chinchilla_k", "chinchilla_value"]
    print("| " + " | ".join(shown) + " |\n|" + "---|" * len(shown))
    for row in rows[shown].itertuples(index=False):
        print("| " + " | ".join("none" if pd.isna(v) else f"{v:.4g}" for v in row) + " |")


if __name__ == "__main__":
    main()
