"""The stopping rule: exact where the posterior is, and never dearer for a higher threshold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import Geometry
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.boed.stopping import expected_information_gain, glimpses_used, play_out
from tests.support import toy
from tests.support.toy_problem import IMAGES, LABELS, ToyJudge, exact_epe, posterior_of, toy_dataset

EVERY = np.arange(len(IMAGES))
SHARP = OracleConfig(completion=CompletionConfig(bandwidth=1e-2, samples=len(IMAGES), short_list=len(IMAGES)))
WORLD = Geometry(image_size=3, glimpse_size=1, stride=1, num_glimpses=4)
SIGNALS = st.lists(st.lists(st.floats(-1, 3), min_size=3, max_size=3), min_size=1, max_size=6).map(np.array)


def entropy_of(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def mutual_information(history: list[tuple[int, int]], place: int) -> float:
    """I(theta; y_l | history) = sum p(theta, y) log p(theta, y) / p(theta) p(y), by enumeration of the world."""
    joint: dict[tuple[int, int], float] = {}
    for weight, label, value in zip(
        posterior_of(history), LABELS, IMAGES.reshape(len(IMAGES), -1)[:, place], strict=True
    ):
        joint[int(label), int(value)] = joint.get((int(label), int(value)), 0.0) + weight
    labels = {a: sum(p for (c, _), p in joint.items() if c == a) for a, _ in joint}
    values = {b: sum(p for (_, d), p in joint.items() if d == b) for _, b in joint}
    return sum(p * np.log(p / (labels[a] * values[b])) for (a, b), p in joint.items() if p > 0)


@pytest.mark.parametrize("places", [[], [0], [1], [8], [0, 1], [0, 5], [2, 3]])
def test_the_gain_is_the_largest_mutual_information_of_what_is_not_seen(places: list[int]) -> None:
    flat = IMAGES.reshape(len(IMAGES), -1)
    for image in EVERY:
        history = [(place, int(flat[image, place])) for place in places]
        seen = np.isin(np.arange(9), places)
        present = entropy_of(np.bincount(LABELS, weights=posterior_of(history)))
        gain = expected_information_gain(np.array(present), exact_epe(history), seen)
        wanted = max(mutual_information(history, place) for place in np.flatnonzero(~seen))
        assert gain == pytest.approx(wanted, abs=1e-12)
        assert gain > -1e-12


def test_a_location_seen_does_not_count() -> None:
    epe, seen = np.array([[0.1, 0.7, 0.5], [0.1, 0.7, 0.5]]), np.array([[True, False, False], [False, True, False]])
    np.testing.assert_allclose(expected_information_gain(np.array([1.0, 1.0]), epe, seen), [0.5, 0.9])


def test_an_exact_posterior_stops_when_there_is_no_information_left_and_not_before() -> None:
    """Two glimpses tell the class: the first halves the world, the second what is left, the others tell nothing."""
    oracle = BOEDOracle(toy_dataset(EVERY), ToyJudge(), SHARP)
    played = play_out(oracle, replace(toy_dataset(EVERY, "test"), geometry=WORLD), ToyJudge(), EVERY, progress=False)
    np.testing.assert_allclose(played.gain, np.broadcast_to([np.log(2), 0.0, 0.0], (8, 3)), atol=1e-5)
    np.testing.assert_allclose(played.entropy, np.broadcast_to([np.log(2), 0, 0, 0], (8, 4)), atol=1e-5)
    assert (glimpses_used(played.gain, 0.0) >= 2).all()
    assert (glimpses_used(played.gain, 1e-3) == 2).all()
    assert (glimpses_used(played.gain, np.log(2) + 1e-3) == 1).all()
    assert played.success[:, 1:].all()
    assert not played.success[:, 0].all()


@given(SIGNALS, st.floats(-2, 4), st.floats(-2, 4))
def test_a_higher_threshold_never_uses_more_glimpses(signal: np.ndarray, one: float, other: float) -> None:
    assert (glimpses_used(signal, max(one, other)) <= glimpses_used(signal, min(one, other))).all()


@given(SIGNALS, st.floats(-2, 4))
def test_glimpses_used_step_by_step(signal: np.ndarray, threshold: float) -> None:
    for row, used in zip(signal, glimpses_used(signal, threshold), strict=True):
        t = 1
        while t < 4 and row[t - 1] >= threshold:
            t += 1
        assert used == t


def test_of_several_networks_present_and_expected_entropy_are_both_means_over_networks() -> None:
    judge, train, test = toy.toy_judge(), toy.toy_dataset(), toy.toy_dataset(split="test", folds=np.full(24, -1))
    config = OracleConfig(completion=CompletionConfig(effective_samples=4, samples=12, short_list=12))
    oracle, indices, maps = BOEDOracle(train, judge, config), np.array([4, 0, 17]), []
    rollouts = play(
        oracle,
        test,
        judge,
        indices,
        progress=False,
        on_step=lambda _rows, _t, _policy: maps.append(oracle.last_maps.copy()),
    )
    played = play_out(oracle, test, judge, indices, progress=False)
    np.testing.assert_allclose(played.entropy, rollouts.entropy, rtol=1e-5)
    np.testing.assert_array_equal(played.success[:, -1], rollouts.success)
    widest = 0.0
    for row, image in enumerate(indices):
        corners = rollouts.corners[row]
        glimpses = np.stack([test.images[image, r : r + 12, c : c + 12] for r, c in corners])
        for t in (1, 2, 3):
            answers = [
                judge.probabilities(glimpses[None, :t], corners[None, :t], np.array([t]), np.array([k]))[0]
                for k in (0, 1)
            ]
            unseen = ~np.isin(np.arange(len(judge.grid)), rollouts.locations[row, :t])
            present = np.mean([entropy_of(answer) for answer in answers])
            assert played.gain[row, t - 1] == pytest.approx(present - maps[t][row, unseen].min(), abs=1e-5)
            widest = max(widest, entropy_of(np.mean(answers, axis=0)) - present)
    assert widest > 1e-3, "the entropy of the mixture would have been another"


def test_what_has_no_entropies_to_compare_is_refused() -> None:
    world, judge = replace(toy_dataset(EVERY, "test"), geometry=WORLD), ToyJudge()
    wrong = BOEDOracle(toy_dataset(EVERY), judge, replace(SHARP, criterion="error"))
    with pytest.raises(ConfigurationError, match="criterion='error'"):
        play_out(wrong, world, judge, EVERY)
    single = replace(WORLD, num_glimpses=1)
    with pytest.raises(ConfigurationError, match="num_glimpses=1"):
        play_out(BOEDOracle(toy_dataset(EVERY), judge, SHARP), replace(world, geometry=single), judge, EVERY)
