"""What skills learn from each other of their optima's common drift."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from fitting.mixture.data import read_trials
from fitting.mixture.fit import fit_guarded
from fitting.mixture.kinds import KINDS, STEADY
from fitting.mixture.member import Component
from fitting.mixture.pooling import follow
from fitting.mixture.problem import Problem

LADDER = 1e16 * 4.0 ** np.arange(4)
SLOPE = 0.66
"""Of ln p*: an untuned recipe's, as Porian et al. 2024 and our own trainings have it."""


def table_of(skills: int, seed: int, *, noise: float = 0.02) -> pd.DataFrame:
    """Parabolas whose optima lie .2 apart and grow alike, four sizes on each budget."""
    rng, rows = np.random.default_rng(seed), []
    for i, (flops, level) in enumerate(zip(LADDER, (4.0, 3.8, 3.62, 3.46), strict=True)):
        for j, u in enumerate(np.linspace(-1.0, 1.0, 4)):
            size = 1e7 * np.exp(SLOPE * 1.39 * i + u)
            for k in range(skills):
                loss = level + 0.1 * (u - 0.2 * k) ** 2 + noise * rng.normal()
                rows.append((4 * i + j, flops, size, flops / 6 / size, f"skill-{k}", loss))
    names = ["trial_id", "flops", "params", "tokens", "skill", "loss"]
    return pd.DataFrame(rows, columns=names)


def fitted(table: pd.DataFrame) -> Component:
    """The member "steady", before skills tell each other anything."""
    problem = Problem(read_trials(table), np.log(LADDER))
    plain = problem.solve([problem.discrepancy(KINDS[0])], None, {})
    return problem.solve([problem.discrepancy(STEADY)], plain[0], {})[0]


def test_one_skill_alone_learns_nothing():
    member = fitted(table_of(1, 0))
    after, gained = follow(member, 1.0)
    np.testing.assert_allclose(gained, 0, atol=1e-6)
    for ours, wanted in zip(after.log_optimum(LADDER), member.log_optimum(LADDER), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_a_kind_that_has_nothing_in_common_stays_as_it_is():
    member = fitted(table_of(2, 0))
    kind = replace(member.discrepancy.kind, recipe=0.0)
    member = replace(member, discrepancy=replace(member.discrepancy, kind=kind))
    after, gained = follow(member, 1.0)
    assert after is member
    assert not gained.any()


def test_means_and_widths_are_those_of_all_drifts_taken_together():
    """Against the joint Gaussian of three skills' drifts, written out."""
    member = fitted(table_of(3, 1))
    block = member.layout.effect_slice(0)
    like = member.discrepancy
    x = like.places
    own, common = like.kind.drift.covariance(x, x), like.kind.recipe**2 * np.outer(x, x)
    drift = member.theta[:, block]
    marginal = np.linalg.inv(member.covariance[:, block, block])
    told = marginal - np.linalg.inv(own + common)
    size = len(own)
    prior = np.kron(np.eye(3), own) + np.kron(np.ones((3, 3)), common)
    precision = np.linalg.inv(prior)
    for s in range(3):
        at = slice(s * size, (s + 1) * size)
        precision[at, at] += told[s]
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.concatenate([m @ d for m, d in zip(marginal, drift, strict=True)])
    after, gained = follow(member, 1.0)
    np.testing.assert_allclose(after.theta[:, block].ravel(), mean, atol=1e-6)
    for s in range(3):
        at = slice(s * size, (s + 1) * size)
        np.testing.assert_allclose(
            after.covariance[s][block, block], covariance[at, at], rtol=1e-4, atol=1e-8
        )
    assert (gained > 0).all()


def test_evidence_gained_is_that_of_a_belief_told_by_the_others():
    """Where trials tell drifts well, it is the ratio of two densities there."""
    member = fitted(table_of(3, 2, noise=1e-4))
    block = member.layout.effect_slice(0)
    like = member.discrepancy
    x = like.places
    own, common = like.kind.drift.covariance(x, x), like.kind.recipe**2 * np.outer(x, x)
    marginal = np.linalg.inv(member.covariance[:, block, block])
    told = marginal - np.linalg.inv(own + common)
    seen = np.stack(
        [
            np.linalg.solve(k, m @ d)
            for k, m, d in zip(told, marginal, member.theta[:, block], strict=True)
        ]
    )
    spread = np.linalg.inv(told)
    _, gained = follow(member, 1.0)
    for s in range(3):
        others = [i for i in range(3) if i != s]
        inner = [np.linalg.inv(spread[i] + own) for i in others]
        force = sum(x @ a @ seen[i] for a, i in zip(inner, others, strict=True))
        variance = 1 / (like.kind.recipe**-2 + sum(x @ a @ x for a in inner))
        mean, doubt = x * force * variance, np.outer(x, x) * variance
        after = multivariate_normal(mean, spread[s] + own + doubt).logpdf(seen[s])
        before = multivariate_normal(np.zeros(len(own)), spread[s] + own + common).logpdf(seen[s])
        assert gained[s] == pytest.approx(after - before, rel=0.02, abs=0.02)


def test_skills_of_one_recipe_tell_each_other_how_optima_grow():
    """Exponents of .66, expected .49: with what they have in common optima err less, and the
    widths say so."""
    errors, inside = {True: [], False: []}, []
    for seed in range(6):
        table = table_of(5, seed, noise=0.03)
        truth = np.log(1e7) + SLOPE * 1.39 * np.arange(4) + 0.2 * np.arange(5)[:, None]
        for told, found in errors.items():
            kinds = [replace(k, recipe=told * k.recipe, deepen=0.0) for k in KINDS]
            flat = fit_guarded(table, ladder=LADDER, components=kinds)
            found.append(flat.log_optimum(LADDER)[0] - truth)
        mean, error = fit_guarded(table, ladder=LADDER).log_optimum(LADDER)
        inside.append(np.abs(mean - truth) <= 1.645 * error)
    alone, together = (np.sqrt(np.mean(np.square(errors[told]))) for told in (False, True))
    assert together < 0.6 * alone  # .40
    assert np.mean(inside) > 0.8
