"""Plan a big run per skill from a table of losses, here that of arXiv 2503.10061's Figure 1."""

from fitting import cost_of_choice, fit_skills, fit_surface, quality_of, serving_optimum
from fitting.hyperparameters import STEP_LAW
from fitting.reference import skills_points

FLOPS = 1e23  # what the big run may cost
SERVED = 2e12  # tokens it will serve over its life


def main() -> None:
    for skill, fit in fit_skills(skills_points()).items():
        best = fit.at(FLOPS)
        low, high = best.interval
        print(f"{skill}: {best.params:.3g} params [{low:.2g}, {high:.2g}] on {best.tokens:.3g}")
        print(cost_of_choice(fit, FLOPS)[["factor", "excess", "wasted"]].round(4).to_string())
        rows = fit.observations
        surface = fit_surface(rows["params"], rows["tokens"], rows["loss"])
        plan = serving_optimum(surface, SERVED, loss=quality_of(surface, best.params))
        print(f"  serving {SERVED:.0e} tokens: {plan.params:.3g} params, saves {plan.saving:.0%}")
        rate = STEP_LAW.learning_rate.at(best.params, best.tokens)
        print(f"  learning rate {rate.value:.2g}: {rate.warning}")


if __name__ == "__main__":
    main()
