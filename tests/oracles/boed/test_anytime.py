"""The oracle that stops: in finite worlds it is dynamic programming, which greedy design and thresholds are not."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.boed.anytime import AnytimeConfig, AnytimeOracle, covering_places
from oracles.boed.completion import CompletionConfig
from oracles.boed.lattice import levels
from oracles.boed.oracle import OracleConfig
from oracles.stopping import StoppingPolicy
from oracles.validation.optimal import AnytimeProblem
from oracles.validation.toy_world import ToyWorld
from tests.support import toy
from tests.support.toy_worlds import HOPELESS, TOGETHER, anytime, exact_judge, greedy, random_world

WORLDS = {"together": TOGETHER, "hopeless": HOPELESS, "random 0": random_world(0), "random 1": random_world(1)}


@pytest.mark.parametrize("criterion", ["error", "least_confidence", "log_loss"])
@pytest.mark.parametrize("cost", [0.0, 0.03, 0.25])
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_it_is_dynamic_programming(world: ToyWorld, cost: float, criterion: str) -> None:
    problem = AnytimeProblem(world, 4, cost, criterion)
    oracle = anytime(problem)
    assert problem.worth(oracle).value == pytest.approx(problem.value([]), abs=1e-6)
    for history, _, action in problem.walk(oracle):
        assert action in problem.best_actions(history, tie=1e-4), history


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_its_maps_are_the_values_of_the_actions(world: ToyWorld) -> None:
    problem = AnytimeProblem(world, 3, 0.05, "entropy")
    oracle, asked = anytime(problem), 0
    for history, _, _ in problem.walk(oracle):
        if len(history) < 3:
            oracle.predict(problem.observation([history]))
            values = problem.action_values(history)
            unseen = np.isfinite(values[:-1])
            np.testing.assert_allclose(oracle.last_maps[0][unseen], values[:-1][unseen], atol=1e-4)
            assert oracle.last_stop[0] == pytest.approx(values[-1], abs=1e-4)
            asked += 1
    assert asked > 1


def test_greedy_design_falls_short_where_glimpses_tell_only_together() -> None:
    """It is worth two glimpses, of which the first gains nothing yet."""
    problem = AnytimeProblem(TOGETHER, 2, 0.1)
    policy = greedy(problem, "error")
    one_step = problem.worth(StoppingPolicy(policy, exact_judge(problem), "gain", problem.cost))
    assert one_step.value == pytest.approx(0.25 + 0.1), "the hint"
    assert problem.worth(anytime(problem)).value == pytest.approx(problem.value([])) == pytest.approx(0.2)
    near = problem.worth(anytime(problem, depth=1, oracle=policy.config))
    assert near.value == pytest.approx(one_step.value), "no further ahead than greedy design, it is that"


@pytest.mark.parametrize("rule", ["entropy", "confidence"])
def test_thresholds_fall_short_where_some_doubt_cannot_be_helped(rule: str) -> None:
    """After pixel 0 both families leave two classes; only of one does another glimpse tell which."""
    problem = AnytimeProblem(HOPELESS, 3, 0.05)
    policy, judge = greedy(problem, "entropy"), exact_judge(problem)
    thresholds = np.linspace(0.0, 1.5, 61) if rule == "entropy" else np.linspace(0.0, 1.0, 61)
    best = min(problem.worth(StoppingPolicy(policy, judge, rule, float(at))).value for at in thresholds)
    exact = problem.worth(anytime(problem)).value
    assert exact == pytest.approx(problem.value([])) == pytest.approx(0.5 * 0.5 + 0.05 * 1.5)
    assert best == pytest.approx(0.5 * 0.5 + 0.05 * (2 + 3) / 2), "it looks on in vain"
    assert best > exact + 0.02


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_cost_nothing_looks_to_the_end_and_cost_one_not_at_all(world: ToyWorld) -> None:
    for criterion in ("error", "least_confidence"):
        assert AnytimeProblem(world, 4, 0.0).worth(anytime(AnytimeProblem(world, 4, 0.0, criterion))).glimpses == 4.0
        assert AnytimeProblem(world, 4, 1.0).worth(anytime(AnytimeProblem(world, 4, 1.0, criterion))).glimpses == 0.0


def noise_oracle(config: AnytimeConfig) -> AnytimeOracle:
    """With an untrained judge of two networks, on images of noise."""
    return AnytimeOracle(toy.toy_dataset(), toy.toy_judge(), config)


def test_no_judge_makes_a_glimpse_that_costs_nothing_seem_harmful() -> None:
    test = toy.toy_dataset(split="test", folds=np.full(24, -1))
    for criterion in ("entropy", "log_loss", "error"):
        oracle = noise_oracle(AnytimeConfig(0.0, criterion, places=3))
        rollouts = play(oracle, test, toy.toy_judge(), np.arange(24), stop=True, progress=False)
        assert (rollouts.lengths == 4).all()
        dear = noise_oracle(AnytimeConfig(5.0, criterion, places=3))
        assert not play(dear, test, toy.toy_judge(), np.arange(24), stop=True, progress=False).lengths.any()


def test_posteriors_computed_are_counted() -> None:
    completion = CompletionConfig(samples=10, short_list=12, effective_samples=4)
    oracle = noise_oracle(AnytimeConfig(0.0, places=5, oracle=OracleConfig(completion=completion)))
    test = toy.toy_dataset(split="test", folds=np.full(24, -1))
    play(oracle, test, toy.toy_judge(), np.array([3]), stop=True, progress=False)
    per_completion = [65 + sum(math.comb(5, d) for d in range(1, left + 1)) for left in (4, 3, 2, 1)]
    assert oracle.evaluations == 2 * (12 * per_completion[0] + 10 * sum(per_completion[1:]))


def test_sets_of_places_and_what_follows_them() -> None:
    lattice = levels(4, 3)
    assert [len(level.members) for level in lattice] == [1, 4, 6, 4]
    for level, larger in itertools.pairwise(lattice):
        for members, following in zip(level.members.tolist(), level.following.tolist(), strict=True):
            for place, index in enumerate(following):
                if place in members:
                    assert index == -1
                else:
                    assert larger.members[index].tolist() == sorted([*members, place])


def test_places_are_those_that_serve_different_completions() -> None:
    losses = torch.tensor([[0.0, 0.1, 0.9, 1.0], [0.9, 0.8, 0.0, 1.0], [0.0, 0.1, 0.9, float("inf")]])
    assert covering_places(losses, 2) == [0, 2]
    assert covering_places(losses, 9) == [0, 2, 1]


def test_settings_are_checked() -> None:
    for wrong in ({"cost": -0.1}, {"cost": float("nan")}, {"criterion": "joy"}, {"places": 0}, {"depth": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            replace(AnytimeConfig(), **wrong)
