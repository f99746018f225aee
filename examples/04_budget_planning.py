"""Plan a big run per skill from a table of losses, here that of arXiv 2503.10061's Figure 1."""

from fitting import cost_of_choice, fit_skills
from fitting.decisions.tradeoffs import pareto_front, serve, weighted
from fitting.reference import skills_points
from fitting.tuning.published import STEP_LAW

FLOPS, SERVED = 1e23, 2e12  # what the big run may cost, and the tokens it will serve


def main() -> None:
    fits = fit_skills(skills_points())
    weights = {"code": 2, "knowledge": 1}
    both = weighted(fits, weights, name="code twice")
    for skill, fit in {**fits, both.skill: both}.items():
        best, (low, high) = fit.at(FLOPS), fit.at(FLOPS).interval
        print(f"{skill}: {best.params:.3g} params [{low:.2g}, {high:.2g}] on {best.tokens:.3g}")
        print(cost_of_choice(fit, FLOPS)[["factor", "excess", "wasted"]].round(4).to_string())
        plan = serve(fit, SERVED, flops=FLOPS)
        print(f"  serving {SERVED:.0e} tokens: {plan.params:.3g} params, saves {plan.saving:.0%}")
        rate = STEP_LAW.learning_rate.at(best.params, best.tokens)
        print(f"  learning rate {rate.value:.2g}: {rate.warning}")
    print(pareto_front(fits, "knowledge", "code", FLOPS, points=3).to_string(float_format="%.4g"))


if __name__ == "__main__":
    main()
