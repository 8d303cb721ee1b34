"""Plans of all the glimpses that are left: found where greedy fails, and as exhaustive search has them."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.base import GlimpsePolicy
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.support.toy_problem import ToyJudge, toy_dataset

# The class is whether pixels 0 and 1 differ; either alone tells nothing. Pixel 4 tells the class three times in four.
ROWS = [
    ([a, b, 7, 7, hint if (a != b) else 255 - hint, 7, 7, 7, 7], int(a != b))
    for a, b in itertools.product((0, 255), repeat=2)
    for hint in (255, 255, 255, 0)
]
IMAGES = np.array([row for row, _ in ROWS], dtype=np.uint8).reshape(-1, 3, 3, 1)
LABELS = np.array([label for _, label in ROWS], dtype=np.int64)
EVERY = np.arange(len(IMAGES))
WORLD = replace(
    toy_dataset(EVERY % 8), images=IMAGES, labels=LABELS, class_names=("same", "differ"), fingerprint="differ"
)
EXACT = CompletionConfig(bandwidth=1e-3, samples=16, short_list=16)
"""Only images that show what was seen count, each as much."""


def final_entropy(config: OracleConfig) -> tuple[float, np.ndarray]:
    """Mean exact entropy after two glimpses on every image of the world, and where they were (N, 2)."""
    policy: GlimpsePolicy = BOEDOracle(WORLD, ToyJudge(IMAGES, LABELS), config)
    rollouts = play(policy, WORLD, ToyJudge(IMAGES, LABELS), EVERY, progress=False)
    return float(rollouts.entropy[:, -1].mean()), rollouts.locations


def best_pair() -> float:
    """Least mean entropy after the same two pixels on every image, by trying all pairs."""
    flat, best = IMAGES.reshape(len(IMAGES), -1), np.inf
    for pair in itertools.combinations(range(9), 2):
        total = 0.0
        for i in EVERY:
            p = np.bincount(LABELS[(flat[:, pair] == flat[i, pair]).all(axis=1)], minlength=2)
            p = p[p > 0] / p.sum()
            total -= float((p * np.log(p)).sum())
        best = min(best, total / len(IMAGES))
    return best


@pytest.mark.parametrize("history", ["seen", "completion"])
@pytest.mark.parametrize("criterion", ["entropy", "log_loss"])
def test_a_plan_finds_what_tells_only_together_where_greedy_does_not(history: str, criterion: str) -> None:
    config = OracleConfig(criterion, EXACT, horizon="last", history=history)
    planned, locations = final_entropy(config)
    assert planned == pytest.approx(best_pair(), abs=1e-6) == 0.0
    assert {frozenset(row) for row in locations.tolist()} == {frozenset((0, 1))}
    greedy, locations = final_entropy(replace(config, horizon="next"))
    hint = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert greedy == pytest.approx(hint, abs=1e-6), "the hint, and then half of what tells only together"
    assert set(locations[:, 0]) == {4}


def test_the_plans_map_is_least_where_the_plan_goes_on() -> None:
    judge = ToyJudge(IMAGES, LABELS)
    oracle = BOEDOracle(WORLD, judge, OracleConfig("entropy", EXACT, horizon="last"))
    first = oracle.first_map()
    assert first.argmin() in (0, 1)
    assert first.min() == pytest.approx(0.0, abs=1e-6), "given the other one it tells all"


def test_horizon_and_history_are_checked() -> None:
    for wrong in ({"horizon": "far"}, {"history": "other"}):
        with pytest.raises(ConfigurationError, match="must be one of"):
            OracleConfig(**wrong)


def test_completions_own_histories_under_equal_weights_are_a_fixed_sequence() -> None:
    """With no say of the glimpses seen in the weights, nothing of the image is left in the map."""
    equal, world = CompletionConfig(bandwidth=1e6, samples=8, short_list=8), toy_dataset(np.arange(8))
    for history, fixed in (("completion", True), ("seen", False)):
        config = OracleConfig("entropy", equal, history=history)
        policy = BOEDOracle(world, ToyJudge(), config)
        maps: list[np.ndarray] = []

        def keep(_rows: np.ndarray, _t: int, chosen: Any, maps: list[np.ndarray] = maps) -> None:
            maps.append(chosen.last_maps.copy())

        play(policy, world, ToyJudge(), np.arange(8), progress=False, on_step=keep)
        assert np.allclose(maps[1], maps[1][:1], atol=1e-5) == fixed
