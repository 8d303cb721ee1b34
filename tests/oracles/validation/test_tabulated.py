"""Small problems solved exactly: against every policy there is, on images planned with and on others."""

import itertools

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.sequences import judge_sequences
from oracles.validation.tabulated import (
    Following,
    TabulatedProblem,
    chosen_sets,
    clustered,
    glimpse_embeddings,
    greedy,
    open_loop,
    tabulated_losses,
)
from tests.support import toy

PLACES = 4


def problem_of(seed: int, images: int = 40, glimpses: int = 2, symbols: int = 2) -> TabulatedProblem:
    """Random symbols and losses, which are lower where a set holds the place that the first symbol names."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(symbols, size=(images, PLACES))
    losses = []
    for t in range(glimpses):
        sets = list(itertools.combinations(range(PLACES), t + 1))
        told = np.array([[1 + shown[n, 0] in one for n in range(images)] for one in sets])
        losses.append((rng.uniform(0, 1, told.shape) + 0.5 * ~told).astype(np.float32))
    return TabulatedProblem(shown, tuple(losses), losses[-1] < 0.5)


def mean_loss(problem: TabulatedProblem, sets: np.ndarray) -> float:
    return float(problem.losses[-1][sets, np.arange(len(sets))].mean(dtype=np.float64))


@pytest.mark.parametrize("seed", range(3))
def test_backward_induction_finds_the_best_of_all_policies(seed: int) -> None:
    """A policy of two glimpses at four places is a first place, and one for each symbol there."""
    problem = problem_of(seed)
    sets = {frozenset(one): i for i, one in enumerate(itertools.combinations(range(PLACES), 2))}
    tried = []
    for first in range(PLACES):
        for then in itertools.product([place for place in range(PLACES) if place != first], repeat=2):
            chosen = np.array([sets[frozenset((first, then[symbol]))] for symbol in problem.symbols[:, first]])
            tried.append(mean_loss(problem, chosen))
    ours, _ = chosen_sets(Following(None), problem, problem.symbols)
    assert mean_loss(problem, ours) == pytest.approx(min(tried), abs=1e-6)


def test_no_planner_is_better_than_the_optimum_and_each_step_of_looking_ahead_helps() -> None:
    lost = []
    for seed in range(4):
        problem = problem_of(seed, images=200, glimpses=3, symbols=3)
        planners = (greedy, open_loop, Following(greedy), Following(Following(greedy)), Following(None))
        losses = [mean_loss(problem, chosen_sets(one, problem, problem.symbols)[0]) for one in planners]
        assert min(losses) == pytest.approx(losses[-1], abs=1e-7)
        assert losses[0] >= losses[2] - 1e-7
        assert losses[2] >= losses[3] - 1e-7
        lost.append(np.array(losses) - losses[-1])
    assert (np.array(lost).max(axis=0)[:3] > 1e-3).all(), "each of the first three misses the optimum somewhere"


def test_a_sign_is_looked_at_by_who_looks_ahead_and_not_by_the_greedy() -> None:
    """Place 0 shows which of places 1 and 2 tells the class: alone it tells nothing, place 3 a little."""
    shown = np.array(list(itertools.product((0, 1), repeat=PLACES)))
    alone = np.tile([[1.0], [0.9], [0.9], [0.8]], len(shown))
    pairs = list(itertools.combinations(range(PLACES), 2))
    both = np.array([[0.0 if one == (0, 1 + sign) else 0.7 for sign in shown[:, 0]] for one in pairs])
    losses = (alone.astype(np.float32), both.astype(np.float32))
    problem = TabulatedProblem(shown, losses, both < 0.5)
    for planner, expected in ((Following(None), 0.0), (Following(greedy), 0.0), (greedy, 0.7)):
        ours, theirs = chosen_sets(planner, problem, shown[::-1])
        assert mean_loss(problem, ours) == pytest.approx(expected)
        assert theirs.tolist() == ours[::-1].tolist()


def test_images_that_show_what_no_image_of_the_world_does_are_looked_at_all_the_same() -> None:
    problem = problem_of(0)
    others = np.full((3, PLACES), 7)
    _, theirs = chosen_sets(Following(None), problem, others)
    assert len(set(theirs.tolist())) == 1


def test_losses_are_what_the_judge_says_in_episodes() -> None:
    data, judge = toy.toy_dataset(), toy.toy_judge()
    rows, places = np.array([1, 4, 17, 20]), np.array([0, 9, 40, 63])
    for split in (data, toy.toy_dataset(split="test", folds=np.full(24, -1))):
        losses, correct = tabulated_losses(judge, split, rows, places, 3)
        assert [len(one) for one in losses] == [4, 6, 4]
        corners = judge.grid.corners[places[[0, 2, 3]]]
        answers = judge_sequences(split, judge, rows, np.tile(corners, (len(rows), 1, 1)))
        true = np.take_along_axis(answers, split.labels[rows][:, None, None], axis=-1)[..., 0]
        numbers = [0, [*itertools.combinations(range(4), 2)].index((0, 2)), 2]
        for t, number in enumerate(numbers):
            np.testing.assert_allclose(losses[t][number], -np.log(true[:, t]), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(correct[2], answers[:, 2].argmax(-1) == split.labels[rows])
    assert glimpse_embeddings(judge, data, rows, places).shape == (4, 4, 32)


def test_clusters_are_found_at_each_place_and_others_go_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    world = rng.normal(size=(60, 2, 3)).astype(np.float32) * 0.01
    world[:30, 0] += 1
    world[::2, 1] -= 1
    ours, theirs = clustered(world, world[::-1].copy(), 2)
    assert (ours[::-1] == theirs).all()
    assert len(set(ours[:30, 0])) == len(set(ours[30:, 0])) == len(set(ours[::2, 1])) == 1
    assert ours[0, 0] != ours[-1, 0]


def test_shapes_that_disagree_are_refused() -> None:
    problem = problem_of(0)
    with pytest.raises(ConfigurationError, match="needs losses of shapes"):
        TabulatedProblem(problem.symbols, problem.losses[:1], problem.correct)
