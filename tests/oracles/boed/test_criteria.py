"""EPE and completion weights, against what enumeration and hand calculation give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories, HistoryObserver
from oracles.baselines import FixedPolicy, best_fixed
from oracles.boed.completion import CompletionConfig, completion_weights, effective_sample_size
from oracles.boed.criteria import entropy, expected_criterion
from oracles.boed.oracle import BOEDOracle, OracleConfig, OracleCounters
from tests.support.toy_problem import GEOMETRY, IMAGES, LABELS, ToyJudge, exact_epe, posterior_of, toy_dataset

EVERY = np.arange(len(IMAGES))
HISTORIES = [[], [0], [1], [8], [0, 1], [0, 5], [8, 0], [2, 3]]
SHARP = CompletionConfig(bandwidth=1e-2, samples=len(IMAGES), short_list=len(IMAGES))


def observation_of(image: int, places: list[int]) -> dict[str, np.ndarray]:
    """What an agent sees of an image of the world after looking at some pixels."""
    judge = ToyJudge()
    steps = len(places) + 1  # room for the next
    histories = Histories.empty(1, steps, 1, 1)
    for t, place in enumerate(places):
        histories.corners[0, t] = judge.grid.corners[place]
        histories.glimpses[0, t] = IMAGES[image, place // 3, place % 3]
    histories.counts[0] = len(places)
    return HistoryObserver(replace(judge.geometry, num_glimpses=steps), 1)(histories)


def seen_pixels(image: int, places: list[int]) -> list[tuple[int, int]]:
    return [(place, int(IMAGES[image].reshape(-1)[place])) for place in places]


@pytest.mark.parametrize("places", HISTORIES)
@pytest.mark.parametrize("image", [0, 3, 6])
def test_epe_over_the_whole_world_is_exact(image: int, places: list[int]) -> None:
    """With the world itself as the bank and a sharp likelihood, nothing is left to chance."""
    oracle = BOEDOracle(toy_dataset(EVERY), ToyJudge(), OracleConfig(completion=SHARP))
    action, _ = oracle.predict(observation_of(image, places))
    exact = exact_epe(seen_pixels(image, places))
    np.testing.assert_allclose(oracle.last_maps[0], exact, atol=1e-4)
    unseen = [place for place in range(9) if place not in places]
    assert exact[action[0]] == pytest.approx(exact[unseen].min(), abs=1e-6)


@pytest.mark.parametrize("count", [64, 1024])
def test_epe_from_a_sampled_bank_is_within_monte_carlo_error(count: int) -> None:
    rng = np.random.default_rng(0)
    judge, history = ToyJudge(), [0]
    config = OracleConfig(completion=CompletionConfig(bandwidth=1e-2, samples=count, short_list=count))
    exact = exact_epe(seen_pixels(0, history))
    errors = []
    for _ in range(20):
        bank = toy_dataset(np.r_[EVERY, rng.integers(len(EVERY), size=count - len(EVERY))])
        oracle = BOEDOracle(bank, judge, config)
        oracle.predict(observation_of(0, history))
        errors.append(oracle.last_maps[0] - exact)
    # half the bank agrees with the history; an entropy here is between 0 and log 4
    assert np.abs(np.mean(errors, axis=0)).max() < 4 * np.log(4) / np.sqrt(20 * count / 2)
    assert np.sqrt(np.square(errors).mean()) < np.log(4) / np.sqrt(count / 2)


def test_oracle_solves_the_toy_problem_where_no_fixed_sequence_can() -> None:
    judge = ToyJudge()
    oracle = BOEDOracle(toy_dataset(EVERY), judge, OracleConfig(completion=SHARP))
    rollouts = play(oracle, toy_dataset(EVERY, "test"), judge, EVERY, progress=False)
    assert rollouts.success.all()
    np.testing.assert_allclose(rollouts.entropy[:, 1], 0.0, atol=1e-5)
    for family, part in ((0, 1), (1, 5)):
        assert (rollouts.locations[family == LABELS // 2] == (0, part)).all()
    fixed = best_fixed(toy_dataset(EVERY), judge, GEOMETRY.num_glimpses)
    rollouts = play(FixedPolicy(judge.grid, fixed), toy_dataset(EVERY, "test"), judge, EVERY, progress=False)
    assert rollouts.success.mean() == 0.75  # it settles one family, and for the other is right half the time


def test_expected_entropy_is_never_above_the_present_one_under_an_exact_posterior() -> None:
    oracle = BOEDOracle(toy_dataset(EVERY), ToyJudge(), OracleConfig(completion=SHARP))
    for image in EVERY:
        for places in HISTORIES:
            oracle.predict(observation_of(int(image), places))
            p = np.bincount(LABELS, weights=posterior_of(seen_pixels(int(image), places)))
            present = -(p[p > 0] * np.log(p[p > 0])).sum()
            assert (oracle.last_maps <= present + 1e-4).all()
    seen = sum(len(places) > 0 for places in HISTORIES) * len(EVERY)
    assert oracle.counters == OracleCounters(predictions=seen, locations=9 * seen)


def test_criteria_by_hand() -> None:
    """Two completions of labels 0 and 1, one location, one class probability pair each."""

    class Handed(ToyJudge):
        def class_log_probabilities(self, network, summed, counts):
            return summed.log_softmax(-1)

    embeddings = torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]]]).log()  # (S, L, D = classes)
    arguments = (Handed(), 0, torch.zeros(2), 0, embeddings, torch.tensor([0, 1]), torch.tensor([0.75, 0.25]))
    by_hand = 0.75 * -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) + 0.25 * -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
    assert expected_criterion(*arguments, "entropy").item() == pytest.approx(by_hand, abs=1e-6)
    assert expected_criterion(*arguments, "log_loss").item() == pytest.approx(
        -0.75 * np.log(0.9) - 0.25 * np.log(0.4), abs=1e-6
    )
    assert expected_criterion(*arguments, "error").item() == pytest.approx(0.25)
    with pytest.raises(ConfigurationError, match="criterion='surprise'"):
        expected_criterion(*arguments, "surprise")


def test_entropy_of_known_distributions() -> None:
    log_probabilities = torch.log_softmax(torch.zeros(3, 7), dim=-1)
    np.testing.assert_allclose(entropy(log_probabilities), np.log(7), rtol=1e-6)
    certain = torch.tensor([[0.0, -torch.inf]])
    assert entropy(certain).item() == 0.0
    drawn = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 48)) * 20).float().log_softmax(-1)
    p = drawn.double().softmax(-1)
    np.testing.assert_allclose(entropy(drawn), torch.special.entr(p).sum(-1), atol=1e-5)


@pytest.mark.parametrize("target", [1.5, 10.0, 60.0])
def test_bandwidth_bisection_meets_the_effective_sample_size(target: float) -> None:
    distances = torch.from_numpy(np.random.default_rng(1).chisquare(5, size=(4, 200)).astype(np.float32))
    weights = completion_weights(distances, torch.zeros(4, 200), CompletionConfig(effective_samples=target))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(effective_sample_size(weights), target, rtol=0.02)
    order = distances.argsort(-1)
    assert (weights.gather(1, order).diff(dim=-1) <= 1e-8).all(), "nearer images weigh more"


def test_weights_are_a_gaussian_likelihood_of_the_summed_distance() -> None:
    distances, prior = torch.tensor([[1.0, 3.0, torch.inf]]), torch.tensor([[0.0, 0.5, 9.0]])
    weights = completion_weights(distances, prior, CompletionConfig(bandwidth=2.0))
    by_hand = np.array([np.exp(-1 / 8), np.exp(-3 / 8 + 0.5), 0.0])
    np.testing.assert_allclose(weights[0], by_hand / by_hand.sum(), rtol=1e-5)
