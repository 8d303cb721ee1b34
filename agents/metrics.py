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


def gap_closed(
    agent: np.ndarray, random: np.ndarray, oracle: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """How far from random to the oracle an agent has come: (agent - random) / (oracle - random).

    Args:
        agent: (N,) success of the agent on each image.
        random: (N,) success of the random policy on the same images.
        oracle: (N,) success of the oracle on the same images.
        confidence: of the bootstrap interval over images.
        seed: of the bootstrap.

    Returns:
        The estimate; not defined where the oracle is not above random.
    """

    def share(agent: np.ndarray, random: np.ndarray, oracle: np.ndarray, axis: int) -> np.ndarray:
        floor = random.mean(axis=axis)
        gap = oracle.mean(axis=axis) - floor
        closed = agent.mean(axis=axis) - floor
        return np.divide(closed, gap, out=np.full_like(closed, np.nan), where=gap > 0)

    samples = tuple(np.asarray(sample, dtype=np.float64) for sample in (agent, random, oracle))
    return paired_bootstrap(share, samples, confidence=confidence, seed=seed)
