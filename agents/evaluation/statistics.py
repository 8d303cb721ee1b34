"""Statistics of evaluations: pure functions over per-image outcomes, each with its interval."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from glimpse_env.errors import ConfigurationError

RESAMPLES_PER_BATCH = 500
"""Resamples of paired samples that are in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its interval; each is None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns ``{"value": ..., "interval": [low, high]}``; the interval is None where it is not defined."""
        interval = None if self.low is None or self.high is None else [self.low, self.high]
        return {"value": self.value, "interval": interval}


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Computes Wilson's score interval of a success probability.

    >>> [round(bound, 3) for bound in wilson_interval(successes=45, trials=50)]
    [0.786, 0.957]

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


def resampled_rows(*sizes: int, resamples: int, seed: int = 0) -> list[np.ndarray]:
    """Returns rows (resamples, size) drawn with replacement for each of several samples, each by itself."""
    rng = np.random.default_rng(seed)
    return [rng.integers(size, size=(resamples, size)) for size in sizes]


def resampling_weights(size: int, *, resamples: int, seed: int = 0) -> np.ndarray:
    """Returns the weights (resamples, size) that resamples of ``size`` values give each; they sum to one."""
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples) / size


def percentile_interval(
    resampled: np.ndarray, confidence: float = 0.95, method: Literal["linear", "outward"] = "linear"
) -> tuple[float, float]:
    """Returns the percentile interval of a statistic's values (R,) on resamples, NaN where one of them is.

    Args:
        resampled: the values.
        confidence: in (0, 1).
        method: ``"linear"`` interpolates between values; ``"outward"`` takes the next value outside, so that infinite
            values elsewhere do no harm.
    """
    if np.isnan(resampled).any():
        return np.nan, np.nan
    below, above = ("linear", "linear") if method == "linear" else ("lower", "higher")
    tail = (1 - confidence) / 2
    return (
        float(np.quantile(resampled, tail, method=below)),  # type: ignore[call-overload]
        float(np.quantile(resampled, 1 - tail, method=above)),  # type: ignore[call-overload]
    )


@dataclass(frozen=True)
class BoundedEstimate(Estimate):
    """An estimate that may be a lower bound only, as some runs never reach a threshold inside their budget."""

    at_least: bool
    """Whether the value is a lower bound."""
    open_above: bool
    """Whether the interval's upper end is a lower bound."""

    def resampled(self, bounded: np.ndarray, unbounded: np.ndarray) -> "BoundedEstimate":
        """Returns the estimate with its interval, from values (R,) on resamples: where what is never reached counts
        with its budget, and where it is infinite."""
        low, high = percentile_interval(bounded, method="outward")
        open_above = percentile_interval(unbounded, method="outward")[1] != high
        return BoundedEstimate(self.value, low, high, self.at_least, open_above)


def bootstrap(
    statistic: Callable[..., Any],
    *samples: np.ndarray,
    paired: bool = False,
    resamples: int = 5000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Literal["linear", "outward"] = "linear",
) -> Estimate:
    """Computes a statistic of samples with its percentile bootstrap interval.

    Args:
        statistic: ``statistic(*samples, axis)`` reduces ``axis`` of every sample; NaN or infinite where it is not
            defined.
        samples: arrays (N,), e.g. a value an image or a seed.
        paired: whether the n-th entries of all samples belong together and are resampled together; else samples may
            differ in length and each is resampled by itself.
        resamples: number of resamples, drawn with replacement.
        seed: of the resampling.
        confidence: in (0, 1).
        method: see :func:`percentile_interval`.

    Returns:
        The estimate. Its value and interval are None where the statistic is not defined on the samples, the interval
        alone where a sample has one entry or an end of the interval is not defined.

    Raises:
        ConfigurationError: if paired samples differ in length or hold fewer than two entries, or a sample is empty.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    lengths = {len(array) for array in arrays}
    if min(lengths) < (2 if paired else 1) or (paired and len(lengths) > 1):
        needed = "one length of at least two" if paired else "at least one entry each"
        raise ConfigurationError(f"samples have lengths {sorted(lengths)}; they need {needed}.")
    value = float(statistic(*arrays, axis=-1))
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if min(lengths) < 2:
        return Estimate(value, None, None)
    if paired:
        rng, (length,) = np.random.default_rng(seed), lengths
        parts = []
        for start in range(0, resamples, RESAMPLES_PER_BATCH):
            rows = rng.integers(length, size=(min(RESAMPLES_PER_BATCH, resamples - start), length))
            parts.append(statistic(*(array[rows] for array in arrays), axis=-1))
        resampled = np.concatenate(parts)
    else:
        drawn = resampled_rows(*map(len, arrays), resamples=resamples, seed=seed)
        resampled = statistic(*(array[rows] for array, rows in zip(arrays, drawn, strict=True)), axis=-1)
    low, high = percentile_interval(resampled, confidence, method)
    return Estimate(value, low, high) if np.isfinite([low, high]).all() else Estimate(value, None, None)


def mean_of(values: np.ndarray, *, seed: int = 0) -> Estimate:
    """Returns the mean of ``values`` (N,), one an image or a seed, with its bootstrap interval over them."""
    return bootstrap(np.mean, values, paired=True, seed=seed)


def mean_difference(ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0) -> Estimate:
    """Returns the mean of ``ours`` - ``theirs`` (N,), on the same images, with its bootstrap interval over images."""
    return mean_of(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64), seed=seed)


def entropy_of_shares(labels: np.ndarray) -> float:
    """Returns the entropy, in nats, of the shares that classes have among ``labels`` (N,) int."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def gap_closed(policy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, *, seed: int = 0) -> Estimate:
    """Computes how far a policy has come from one to another: (policy - floor) / (ceiling - floor) of their means.

    Args:
        policy: (N,) success of the policy on each image, or another number of which more is better.
        floor: (N,) of the lower policy on the same images, like random.
        ceiling: (N,) of the upper policy on the same images, like the oracle.
        seed: seed of the bootstrap over images.

    Returns:
        The estimate; not defined where the ceiling is not above the floor.
    """

    def share(policy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, axis: int) -> np.ndarray:
        lower = floor.mean(axis=axis)
        gap = ceiling.mean(axis=axis) - lower
        closed = policy.mean(axis=axis) - lower
        return np.divide(closed, gap, out=np.full_like(closed, np.nan), where=gap > 0)

    return bootstrap(share, policy, floor, ceiling, paired=True, seed=seed)


def success_by_budget(
    success: np.ndarray, used: np.ndarray, budgets: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Computes the success rate of a family of stopping rules by the mean number of glimpses over images.

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
    drawn = resampling_weights(count, resamples=resamples, seed=seed)
    weights = np.concatenate([np.full((1, count), 1 / count), drawn])  # (1 + R, N)
    glimpses = weights @ used.T  # (1 + R, K)
    rates = weights @ success[np.arange(count), used - 1].astype(np.float64).T
    return np.stack([np.interp(budgets, xs, ys) for xs, ys in zip(glimpses, rates, strict=True)])


def percentile_estimates(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns values (M,) and the ends (M,), (M,) of their percentile intervals from ``samples`` (1 + R, M): the values
    themselves, then those of R resamples."""
    return samples[0], *np.quantile(samples[1:], [0.025, 0.975], axis=0)
