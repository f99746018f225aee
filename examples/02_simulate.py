"""Try a search policy on a known world before a FLOP is spent: adaptive against the fixed grid.

The losses come from two surfaces with known optima, so the errors printed are true errors.
"""

import math

from sweeper import SearchSettings, Sweep

SURFACES = {  # E, A, B, alpha, beta: knowledge wants capacity, code wants data
    "knowledge": (1.5, 100.0, 450.0, 0.42, 0.42),
    "code": (1.0, 60.0, 500.0, 0.42, 0.42),
}


def losses(allocation, rng):
    return {
        skill: E + A / allocation.params**a + B / allocation.tokens**b + 0.01 * rng.normal()
        for skill, (E, A, B, a, b) in SURFACES.items()
    }


def true_optimum(skill, flops):
    _, A, B, a, b = SURFACES[skill]
    return (a * A / (b * B) * (flops / 6) ** b) ** (1 / (a + b))


def main() -> None:
    for policy in ("adaptive", "grid"):
        sweep = Sweep(
            budgets=[1e11, 2e11, 4e11, 8e11],
            allowance=1e13,
            search=SearchSettings(policy=policy, tolerance=0.15),
        )
        outcome = sweep.simulate(losses, seed=0)
        fits = outcome.fit("guarded" if policy == "adaptive" else "parabola")
        spent = outcome.table.groupby("trial_id")["spent_flops"].first().sum()
        print(f"{policy}: {outcome.table['trial_id'].nunique()} trials, {spent:.2g} FLOPs")
        for skill, fit in fits.items():
            best = fit.at(8e11)
            if not best.ok:
                print(f"  {skill:<10} no number: {best.status}. {best.reason}")
                continue
            error = math.log(best.params / true_optimum(skill, 8e11))
            low, high = best.interval
            print(
                f"  {skill:<10} p*(8e11) = {best.params:,.0f} [{low:,.0f} - {high:,.0f}], "
                f"true error {error:+.1%}; exponent {fit.law.exponent:.3f} (true 0.5)"
            )


if __name__ == "__main__":
    main()
