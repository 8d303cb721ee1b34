"""Bounds on what glimpses tell of the class, beside the exact information of worlds that can be enumerated."""

import itertools

import numpy as np
import pytest

from agents.evaluation.statistics import entropy_of_shares
from oracles.baselines import FixedPolicy
from oracles.validation.information import class_log_likelihoods, contrastive_samples, snmc, spce, total_information
from oracles.validation.optimal import AnytimeProblem, OptimalPolicy
from oracles.validation.toy_world import ToyWorld
from tests.support.toy_worlds import TOGETHER, greedy

PROBLEM = AnytimeProblem(ToyWorld.random(np.random.default_rng(3), side=2), 2, 0.0, "entropy")
"""Three equally likely classes, four places, two glimpses: nothing is impossible, so that sNMC is finite."""
POLICY = OptimalPolicy(PROBLEM)
EXACT = total_information(PROBLEM, POLICY)


def ends() -> list[tuple[np.ndarray, float]]:
    """Log-likelihoods (classes,) of each history that the policy ends with, and its probability."""
    walked = PROBLEM.walk(POLICY)
    return [
        (class_log_likelihoods(PROBLEM.world, history), chance) for history, chance, _ in walked if len(history) == 2
    ]


@pytest.mark.parametrize("contrasts", [1, 2, 3])
def test_the_exact_information_lies_between_the_bounds_whose_expectations_are_enumerated(contrasts: int) -> None:
    """Every history, every class that may have made it, every draw of contrasts: no sampling error."""
    samples, weights = [], []
    for likelihoods, chance in ends():
        posterior = np.exp(likelihoods) / np.exp(likelihoods).sum()
        for drawn in itertools.product(range(3), repeat=1 + contrasts):
            samples.append(likelihoods[list(drawn)])
            weights.append(chance * posterior[drawn[0]] / 3**contrasts)
    assert sum(weights) == pytest.approx(1)
    low, high = (np.dot(weights, bound(np.stack(samples))) for bound in (spce, snmc))
    assert low < EXACT - 1e-3
    assert high > EXACT + 1e-3
    assert low <= np.log(contrasts + 1)
    played = contrastive_samples(
        PROBLEM, POLICY, rollouts=4000, contrasts=contrasts, rng=np.random.default_rng(contrasts)
    )
    for bound, expected in ((spce, low), (snmc, high)):
        terms = bound(played)
        assert abs(terms.mean() - expected) < 4 * terms.std() / len(terms) ** 0.5


def test_the_bounds_meet_as_contrasts_grow() -> None:
    samples = contrastive_samples(PROBLEM, POLICY, rollouts=4000, contrasts=300, rng=np.random.default_rng(0))
    low, high = spce(samples), snmc(samples)
    error = 4 * low.std() / len(low) ** 0.5
    assert 0 < high.mean() - low.mean() < 0.02
    assert low.mean() - error < EXACT < high.mean() + error


def test_any_posterior_gives_a_lower_bound_and_the_exact_one_the_information_itself() -> None:
    """H(theta) - log-loss misses by the mean divergence of the posterior from the exact one."""
    bounds = {}
    for temperature in (0.5, 1.0, 3.0):
        loss = gap = 0.0
        for likelihoods, chance in ends():
            exact = np.exp(likelihoods) / np.exp(likelihoods).sum()
            told = exact ** (1 / temperature) / (exact ** (1 / temperature)).sum()
            loss -= chance * (exact * np.log(told)).sum()
            gap += chance * (exact * np.log(exact / told)).sum()
        bounds[temperature] = entropy_of_shares(PROBLEM.world.labels) - loss
        assert bounds[temperature] == pytest.approx(EXACT - gap)
    assert bounds[1.0] == pytest.approx(EXACT)
    assert max(bounds[0.5], bounds[3.0]) < EXACT - 0.01


def test_information_is_known_where_the_world_is_plain() -> None:
    """The class is whether pixels 0 and 1 differ, each a fair coin: one of them tells nothing, both a bit."""
    both = AnytimeProblem(TOGETHER, 2, 0.0, "entropy")
    grid = both.geometry.grid
    assert total_information(both, FixedPolicy(grid, np.array([0, 1]))) == pytest.approx(np.log(2))
    assert total_information(both, FixedPolicy(grid, np.array([0, 5]))) == pytest.approx(0, abs=1e-12)
    hint = np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    assert total_information(AnytimeProblem(TOGETHER, 1, 0.0), greedy(both, "entropy")) == pytest.approx(hint)


def test_contrasts_that_cannot_show_what_was_seen_leave_the_upper_bound_infinite() -> None:
    assert snmc(np.array([[0.0, -np.inf]])) == np.inf
    assert spce(np.array([[0.0, -np.inf]])) == pytest.approx(np.log(2))
