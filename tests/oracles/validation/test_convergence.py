"""The oracle's estimates against exact posteriors: right within Monte Carlo error, and nearer as 1 / sqrt(N)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glimpse_env.errors import ConfigurationError
from oracles.boed.criteria import CRITERIA, entropy, expected_criterion
from oracles.validation.convergence import ESTIMATORS, estimated_maps, problems, slope, squared_errors
from oracles.validation.toy_world import ExactJudge, History, ToyWorld
from tests.support.toy_problem import IMAGES, LABELS, exact_epe

HALF_PRECISION = 5e-4
"""What the bank's embeddings, kept in half precision, may add to an error."""


def all_images(world: ToyWorld) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every image with every cause: values (S, L), causes (S,), and p(image, cause) (S,)."""
    places, values = world.likelihood.shape[1:]
    images = np.array(list(itertools.product(range(values), repeat=places)))
    causes = np.repeat(np.arange(len(world.labels)), len(images))
    images = np.tile(images, (len(world.labels), 1))
    p = world.likelihood[causes[:, None], np.arange(places), images].prod(axis=1) / len(world.labels)
    return images, causes, p


def given_history(world: ToyWorld, history: History) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (S, L), their labels and p(image, label | history), by enumeration and counting alone."""
    images, causes, p = all_images(world)
    for place, value in history:
        p = p * (images[:, place] == value)
    return images, world.labels[causes], p / p.sum()


def score(p: np.ndarray, criterion: str) -> float:
    return 1 - p.max() if criterion in ("error", "least_confidence") else -(p[p > 0] * np.log(p[p > 0])).sum()


def small_world(seed: int) -> ToyWorld:
    return ToyWorld.random(np.random.default_rng(seed), side=2, values=2)


@pytest.mark.parametrize("history", [[], [(0, 1)], [(3, 0), (1, 1)]])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_closed_form_is_what_enumeration_gives(criterion: str, history: History) -> None:
    world = small_world(1)
    images, labels, p = given_history(world, history)
    for place, found in enumerate(world.expected(history, criterion)):
        by_hand = 0.0
        for value in (0, 1):
            shown = p * (images[:, place] == value)
            if shown.sum() > 0:
                by_hand += shown.sum() * score(np.bincount(labels, weights=shown / shown.sum()), criterion)
        assert found == pytest.approx(by_hand, abs=1e-9)
    assert world.present(history, criterion) == pytest.approx(score(np.bincount(labels, weights=p), criterion))


def test_a_world_of_images_is_that_of_enumeration() -> None:
    world = ToyWorld.of_images(IMAGES, LABELS)
    np.testing.assert_allclose(world.expected([], "entropy"), exact_epe([]), atol=1e-12)
    np.testing.assert_allclose(world.expected([(0, 0)], "entropy"), exact_epe([(0, 0)]), atol=1e-12)


def test_exact_judge_is_bayes_rule() -> None:
    world = ToyWorld.random(np.random.default_rng(2))
    judge = ExactJudge(world)
    values, labels = world.draw(50, np.random.default_rng(0))
    dataset = world.dataset(values, labels)
    places = np.tile([4, 0, 7], (50, 1))
    glimpses = dataset.images.reshape(50, -1)[np.arange(50)[:, None], places].reshape(50, 3, 1, 1, 1)
    found = judge.probabilities(glimpses, judge.grid.corners[places], np.full(50, 3), np.full(50, -1))
    exact = [world.causes([(int(place), int(values[n, place])) for place in places[n]]) for n in range(50)]
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_images_are_drawn_from_the_world() -> None:
    world = ToyWorld.random(np.random.default_rng(3))
    values, labels = world.draw(30_000, np.random.default_rng(0))
    for c in range(3):
        shown = np.stack([(values[labels == c] == value).mean(axis=0) for value in range(3)], axis=-1)  # (L, V)
        np.testing.assert_allclose(shown, world.likelihood[c], atol=5 * 0.5 / np.sqrt(10_000))


@pytest.mark.parametrize("seed", range(3))
def test_every_estimator_is_right_within_monte_carlo_error(seed: int) -> None:
    """The mean over banks is within 4 standard errors of the exact value, at every place not yet seen."""
    world, history, rng = next(iter(problems(1, seed)))
    configs = {name: make(2000) for name, make in ESTIMATORS.items()}
    unseen = np.setdiff1d(np.arange(world.num_places), [place for place, _ in history])
    spreads = []
    for name, maps in estimated_maps(world, history, configs, 2000, 40, rng).items():
        exact = world.expected(history, configs[name].criterion)
        standard_error = maps.std(axis=0, ddof=1) / np.sqrt(len(maps))
        off = np.abs(maps.mean(axis=0) - exact)
        assert (off <= 4 * standard_error + HALF_PRECISION)[unseen].all(), name
        spreads.append(standard_error[unseen].max())
    assert max(spreads) > HALF_PRECISION, "the standard errors, not the allowance, decide"


def test_the_error_falls_with_the_root_of_the_number_of_samples() -> None:
    sizes = (32, 128, 512, 2048)
    found = squared_errors(sizes, repetitions=30, worlds=3, seed=0)
    assert set(found) == set(ESTIMATORS)
    for name, squared in found.items():
        assert -0.6 <= slope(sizes, squared) <= -0.4, name


def test_slope_of_a_known_power() -> None:
    sizes = (10, 100, 1000)
    assert slope(sizes, np.array([[4.0, 6.0], [0.5, 0.5], [0.04, 0.06]])) == pytest.approx(-0.5)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[ToyWorld, History]:
    """A world of up to 4 causes, 2 x 2 places and 2 values, whose classes are as they come, and a possible history."""
    count = draw(st.integers(1, 4))
    sure = draw(st.booleans())
    chances = st.sampled_from([0.0, 1.0]) if sure else st.floats(0.0, 1.0)
    shows = draw(hnp.arrays(np.float64, (count, 4), elements=chances))
    labels = np.unique(draw(hnp.arrays(np.int64, count, elements=st.integers(0, 3))), return_inverse=True)[1]
    world = ToyWorld(np.stack([1 - shows, shows], axis=-1), labels, np.array([0, 255], dtype=np.uint8))
    cause = draw(st.integers(0, count - 1))
    places = draw(st.lists(st.integers(0, 3), max_size=3, unique=True))
    return world, [(place, int(shows[cause, place] > 0.5)) for place in places]


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_no_criterion_is_expected_to_rise_under_an_exact_posterior(problem: tuple[ToyWorld, History]) -> None:
    """And with all completions, weighted by their exact posterior, the oracle's sum is the closed form."""
    world, history = problem
    judge = ExactJudge(world)
    values, labels, weights = given_history(world, history)
    embeddings = judge.embed_grid(0, world.dataset(values, labels, "test").images)
    seen = [place for place, _ in history]
    shown = world.pixels[[value for _, value in history]].reshape(-1, 1, 1, 1)
    summed = judge.embed_glimpses(0, shown, judge.grid.corners[seen]).sum(0)
    unseen = np.setdiff1d(np.arange(4), seen)
    p = judge.class_log_probabilities(0, summed, len(history))
    for criterion in CRITERIA:
        found = expected_criterion(
            judge,
            0,
            summed,
            len(history),
            embeddings,
            torch.from_numpy(labels),
            torch.from_numpy(weights.astype(np.float32)),
            criterion,
        ).numpy()
        of_one = criterion in ("error", "least_confidence")
        present = float(1 - p.exp().max()) if of_one else float(entropy(p))
        assert (found[unseen] <= present + 1e-4).all()
        np.testing.assert_allclose(found[unseen], world.expected(history, criterion)[unseen], atol=1e-4)
        assert (world.expected(history, criterion) <= world.present(history, criterion) + 1e-9).all()


def test_worlds_that_make_no_sense_are_refused() -> None:
    pixels = np.array([0, 255], dtype=np.uint8)
    for likelihood, labels in (
        (np.full((2, 4, 2), 0.4), np.arange(2)),
        (np.full((2, 3, 2), 0.5), np.arange(2)),
        (np.full((2, 4, 2), 0.5), np.arange(3)),
    ):
        with pytest.raises(ConfigurationError, match="a toy world needs"):
            ToyWorld(likelihood, labels, pixels)
