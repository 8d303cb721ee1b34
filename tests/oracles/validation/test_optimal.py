"""Dynamic programming on toy worlds against every policy there is, and a policy's worth against play on every image."""

import itertools
from typing import Any

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy
from oracles.validation.optimal import AnytimeProblem, OptimalPolicy
from oracles.validation.toy_world import ToyWorld

STOP = 4
"""Action that stops, among the four places of a small world."""


class Table(GlimpsePolicy):
    """Looks up its action by what was seen: a first place, and then by the value there."""

    stops = True

    def __init__(self, problem: AnytimeProblem, first: int, then: tuple[int, int]):
        self.grid, self.first, self.then = problem.geometry.grid, first, then

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        bright = (histories.glimpses[:, 0, 0, 0, 0] > 0).astype(int)
        return np.where(histories.counts == 0, self.first, np.array(self.then)[bright]), state


def every_table(problem: AnytimeProblem) -> list[Table]:
    """All policies of two glimpses at most on four places of two values."""
    looking = [
        Table(problem, first, then)
        for first in range(4)
        for then in itertools.product([a for a in range(5) if a != first], repeat=2)
    ]
    return [*looking, Table(problem, STOP, (STOP, STOP))]


def worth_by_images(problem: AnytimeProblem, table: Table) -> float:
    """The table's value: each image of the world in turn, the loss by counting what shows the same."""
    world = problem.world
    images = np.array(list(itertools.product((0, 1), repeat=4)))
    joint = np.stack([world.likelihood[:, np.arange(4), image].prod(axis=1) for image in images])  # (images, M)
    joint = joint / joint.sum()
    total = 0.0
    for n, image in enumerate(images):
        action = table.first
        places: list[int] = []
        while action != STOP and len(places) < 2:
            places.append(action)
            action = table.then[image[places[0]]]
        same = (images[:, places] == image[places]).all(axis=1)
        p = np.bincount(world.labels, weights=joint[same].sum(axis=0), minlength=world.num_classes)
        p = p / p.sum()
        loss = 1 - p.max() if problem.criterion == "error" else -(p[p > 0] * np.log(p[p > 0])).sum()
        total += joint[n].sum() * (loss + problem.cost * len(places))
    return total


@pytest.mark.parametrize("criterion", ["error", "entropy"])
@pytest.mark.parametrize("cost", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_no_policy_is_better_and_the_optimal_one_is_worth_its_value(seed: int, cost: float, criterion: str) -> None:
    world = ToyWorld.random(np.random.default_rng(seed), side=2, values=2)
    problem = AnytimeProblem(world, 2, cost, criterion)
    tables = every_table(problem)
    values = [worth_by_images(problem, table) for table in tables]
    np.testing.assert_allclose([problem.worth(table).value for table in tables], values, atol=1e-12)
    assert problem.value([]) == pytest.approx(min(values), abs=1e-12)
    assert problem.worth(OptimalPolicy(problem)).value == pytest.approx(min(values), abs=1e-12)


@pytest.mark.parametrize("criterion", ["error", "entropy"])
def test_cost_nothing_looks_to_the_end_and_cost_one_not_at_all(criterion: str) -> None:
    """One nat, or a whole success, is more than a glimpse at three values and three classes can give."""
    world = ToyWorld.random(np.random.default_rng(1))
    free, dear = AnytimeProblem(world, 4, 0.0, criterion), AnytimeProblem(world, 4, 1.1, criterion)
    assert free.worth(OptimalPolicy(free)).glimpses == pytest.approx(4.0)
    assert dear.worth(OptimalPolicy(dear)).glimpses == 0.0
    assert dear.value([]) == world.present([], criterion)


def test_the_less_a_glimpse_costs_the_more_are_taken_and_the_less_is_lost() -> None:
    world = ToyWorld.random(np.random.default_rng(4), classes=4)
    found = []
    for cost in (0.2, 0.1, 0.05, 0.02, 0.0):
        problem = AnytimeProblem(world, 4, cost)
        found.append(problem.worth(OptimalPolicy(problem)))
        assert found[-1].value == pytest.approx(problem.value([]), abs=1e-12)
    glimpses, losses = [one.glimpses for one in found], [one.loss for one in found]
    assert glimpses == sorted(glimpses)
    assert losses == sorted(losses, reverse=True)
    assert glimpses[0] < 2 < 3 < glimpses[-1]


def test_action_values_and_what_is_refused() -> None:
    problem = AnytimeProblem(ToyWorld.random(np.random.default_rng(0), side=2, values=2), 2, 0.01)
    values = problem.action_values([(2, 1)])
    assert np.flatnonzero(np.isinf(values)).tolist() == [2]
    assert problem.best_actions([(2, 1), (0, 0)]).tolist() == [STOP]
    with pytest.raises(ConfigurationError, match="num_glimpses=5"):
        AnytimeProblem(problem.world, 5, 0.01)
    with pytest.raises(ConfigurationError, match="place 1 twice"):
        problem.worth(Table(problem, 1, (1, 1)))
