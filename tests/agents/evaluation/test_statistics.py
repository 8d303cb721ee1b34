"""Statistics against published values and values worked out by hand."""

import numpy as np
import pytest

from agents.evaluation.statistics import (
    Estimate,
    bootstrap,
    gap_closed,
    mean_difference,
    mean_of,
    percentile_estimates,
    success_by_budget,
    wilson_interval,
)
from glimpse_env.errors import ConfigurationError


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
        # table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_agrees_with_newcombes_table(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_by_its_formula():
    z, share, n = 1.6448536269514722, 0.7, 50
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert wilson_interval(35, 50, confidence=0.9) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)]
)
def test_wilson_interval_refuses_impossible_counts(successes, trials, confidence):
    with pytest.raises(ConfigurationError, match="successes"):
        wilson_interval(successes, trials, confidence)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    sample = np.random.default_rng(1).normal(3.0, 2.0, size=2000)
    estimate = bootstrap(np.mean, sample, paired=True)
    half = 1.96 * sample.std() / np.sqrt(len(sample))
    assert estimate.value == pytest.approx(sample.mean())
    assert estimate.low == pytest.approx(sample.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(sample.mean() + half, abs=0.02)


def test_bootstrap_keeps_pairs_together():
    """The difference of two samples that differ by a constant is that constant in every resample."""
    sample = np.random.default_rng(2).normal(size=50)
    estimate = bootstrap(lambda a, b, axis: (a - b).mean(axis=axis), sample + 0.25, sample, paired=True)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))


def test_bootstrap_is_repeatable_and_refuses_unpaired_samples():
    sample = np.arange(20.0)
    assert bootstrap(np.mean, sample, paired=True, seed=3) == bootstrap(np.mean, sample, paired=True, seed=3)
    with pytest.raises(ConfigurationError, match="lengths"):
        bootstrap(np.mean, sample, sample[1:], paired=True)


def test_gap_closed_by_hand():
    random = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0] * 50)  # 10 %
    oracle = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0] * 50)  # 90 %
    agent = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0] * 50)  # 70 %
    estimate = gap_closed(agent, random, oracle)
    assert estimate.value == pytest.approx(0.75)
    assert 0.65 < estimate.low < 0.75 < estimate.high < 0.85
    # delta method: var = E[((a - r) - value (o - r))^2] / (N E[o - r]^2)
    error = ((agent - random) - 0.75 * (oracle - random)).std() / np.sqrt(500) / 0.8
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_gap_closed_is_one_for_the_oracle_itself_and_zero_for_random():
    rng = np.random.default_rng(0)
    random, oracle = rng.random(300) < 0.3, rng.random(300) < 0.8
    assert gap_closed(oracle, random, oracle) == Estimate(1.0, 1.0, 1.0)
    assert gap_closed(random, random, oracle) == Estimate(0.0, 0.0, 0.0)


def test_gap_closed_is_not_defined_without_a_gap():
    outcomes = np.array([True, False] * 10)
    assert gap_closed(outcomes, outcomes, outcomes) == Estimate(None, None, None)
    few = np.array([True] + [False] * 19)
    none = np.zeros(20, dtype=bool)
    estimate = gap_closed(few, none, few)  # a third of the resamples leave the one success out
    assert estimate == Estimate(1.0, None, None)
    assert estimate.to_json() == {"value": 1.0, "interval": None}


def test_gap_closed_of_losses_where_less_is_better():
    fixed, clairvoyant = np.full(20, 1.5), np.full(20, 0.5)
    estimate = gap_closed(-np.full(20, 0.75), -fixed, -clairvoyant)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.75, 0.75, 0.75))


def test_means_and_paired_differences():
    rng = np.random.default_rng(4)
    hard = rng.normal(2.0, 1.0, size=900)
    ours, theirs = hard + rng.normal(0.0, 0.1, size=900), hard + 0.05
    assert mean_of(ours).value == pytest.approx(ours.mean())
    difference = mean_difference(ours, theirs)
    half = 1.96 * (ours - theirs).std() / 30
    assert (difference.low, difference.high) == pytest.approx(
        ((ours - theirs).mean() - half, (ours - theirs).mean() + half), abs=0.2 * half
    )
    assert mean_of(ours).high - mean_of(ours).low > 5 * (difference.high - difference.low), "paired, so much surer"
    assert mean_difference(np.array([True, False]), np.array([False, True])).value == 0.0


def test_success_by_budget_by_hand():
    """Two images: one is right from the first glimpse on, the other from the third."""
    success = np.array([[1, 1, 1], [0, 0, 1]], dtype=bool)
    used = np.array([[1, 1], [1, 3], [3, 3]])  # all stop at once, the hard one goes on, none stops
    budgets = np.array([1.0, 1.5, 2.0, 3.0])
    rates = success_by_budget(success, used, budgets, resamples=400)
    assert rates.shape == (401, 4)
    np.testing.assert_allclose(rates[0], [0.5, 0.75, 1.0, 1.0])
    assert set(rates[1:, 0]) == {0.0, 0.5, 1.0}, "resamples hold the hard image never, once or twice"
    np.testing.assert_array_equal(rates, success_by_budget(success, used, budgets, resamples=400))
    with pytest.raises(ConfigurationError, match="not in order"):
        success_by_budget(success, used[::-1], budgets)


def test_stopping_all_images_alike_is_the_success_after_so_many_glimpses():
    success = np.random.default_rng(5).random((200, 4)) < [0.2, 0.5, 0.6, 0.9]
    used = np.broadcast_to(np.arange(1, 5)[:, None], (4, 200))
    value, low, high = percentile_estimates(success_by_budget(success, used, np.arange(1, 5), resamples=4000))
    np.testing.assert_allclose(value, success.mean(axis=0))
    half = 1.96 * np.sqrt(value * (1 - value) / 200)
    np.testing.assert_allclose(low, value - half, atol=0.012)
    np.testing.assert_allclose(high, value + half, atol=0.012)
