"""Statistics of evaluations: pure functions over per-image outcomes, each with its interval."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from glimpse_env.errors import ConfigurationError


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that goes with it; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """``{"value": ..., "interval": [low, high]}``; the interval is None where it is not defined."""
        interval = None if self.low is None or self.high is None else [self.low, self.high]
        return {"value": self.value, "interval": interval}


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success probability.

    Args:
        successes: 0..trials.
        trials: at least 1.
        confidence: in (0, 1).

    Raises:
        ConfigurationError: if the counts or the confidence lie outside.
    """
    if not (trials >= 1 and 0 <= successes <= trials and 0.0 < confidence < 1.0):
        raise ConfigurationError(
            f"successes={successes}, trials={trials}, confidence={confidence}: "
            "need 0 <= successes <= trials, trials >= 1 and 0 < confidence < 1."
        )
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def paired_bootstrap(
    statistic: Callable[..., Any],
    samples: tuple[np.ndarray, ...],
    *,
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Estimate:
    """``statistic`` of paired samples with its percentile bootstrap interval over the pairs.

    Args:
        statistic: ``statistic(*samples, axis)`` reduces ``axis`` of every sample; NaN where it is not defined.
        samples: arrays (N,) whose n-th entries belong to the same image.
        confidence: in (0, 1).
        resamples: number of resamples of the N images, drawn with replacement, the same for every sample.
        seed: of the resampling.

    Returns:
        The estimate; value and interval are None where the statistic is not defined on the samples, the interval
        alone where it is not defined on some resample.

    Raises:
        ConfigurationError: if the samples differ in length or hold fewer than two images.
    """
    lengths = {len(sample) for sample in samples}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ConfigurationError(
            f"paired samples have lengths {sorted(lengths)}; they need one length of at least two images."
        )
    value = float(statistic(*samples, axis=-1))
    if not np.isfinite(value):
        return Estimate(None, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # NaN in, NaN out: dealt with below
        result = stats.bootstrap(
            samples,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=500,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(value, None, None)
    return Estimate(value, low, high)


def mean_of(values: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of ``values`` (N,), one an image, with its bootstrap interval over images."""
    return paired_bootstrap(np.mean, (np.asarray(values, dtype=np.float64),), confidence=confidence, seed=seed)


def mean_difference(ours: np.ndarray, theirs: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of ``ours`` - ``theirs`` (N,), on the same images, with its bootstrap interval over images."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    return mean_of(differences, confidence=confidence, seed=seed)


def gap_closed(
    policy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """How far a policy has come from one to another: (policy - floor) / (ceiling - floor) of their means.

    Args:
        policy: (N,) success of the policy on each image, or another number of which more is better.
        floor: (N,) of the lower policy on the same images, like random.
        ceiling: (N,) of the upper policy on the same images, like the oracle.
        confidence: of the bootstrap interval over images.
        seed: of the bootstrap.

    Returns:
        The estimate; not defined where the ceiling is not above the floor.
    """

    def share(policy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, axis: int) -> np.ndarray:
        lower = floor.mean(axis=axis)
        gap = ceiling.mean(axis=axis) - lower
        closed = policy.mean(axis=axis) - lower
        return np.divide(closed, gap, out=np.full_like(closed, np.nan), where=gap > 0)

    samples = tuple(np.asarray(sample, dtype=np.float64) for sample in (policy, floor, ceiling))
    return paired_bootstrap(share, samples, confidence=confidence, seed=seed)


def success_by_budget(
    success: np.ndarray, used: np.ndarray, budgets: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """The success rate of a family of stopping rules where it takes so many glimpses in the mean over images.

    Between two rules of the family it is interpolated: what a coin between them would give.

    Args:
        success: (N, T) bool, whether the judge is right after 1..T glimpses.
        used: (K, N) int, glimpses at which each of K rules stops, none of them later on any image than the next rule.
        budgets: (M,) mean numbers of glimpses, ascending.
        resamples: of the N images with replacement, the same for every family of one ``seed``: differences of two
            results are paired.
        seed: of the resampling.

    Returns:
        (1 + resamples, M): first on the images themselves, then on each resample.

    Raises:
        ConfigurationError: if a rule stops later than the next one.
    """
    if (np.diff(used, axis=0) < 0).any():
        raise ConfigurationError("the rules are not in order; put the one that stops earliest first.")
    count = len(success)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = np.concatenate([np.ones((1, count)), drawn]) / count  # (1 + R, N)
    glimpses = weights @ used.T  # (1 + R, K)
    rates = weights @ success[np.arange(count), used - 1].astype(np.float64).T
    return np.stack([np.interp(budgets, xs, ys) for xs, ys in zip(glimpses, rates, strict=True)])


def percentile_estimates(samples: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (M,) and their percentile intervals' ends (M,), (M,) from ``samples`` (1 + R, M), the values first."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples[1:], [tail, 1 - tail], axis=0)
    return samples[0], low, high
