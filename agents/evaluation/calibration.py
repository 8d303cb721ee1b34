"""Calibration of a judge on the histories that a policy visits: its confidence beside its accuracy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.statistics import Estimate, wilson_interval
from glimpse_env.errors import ConfigurationError

BINS = 15
"""Bins of equally many images."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Calibration:
    """Calibration after one number of glimpses. Confidence is the probability of the most probable class."""

    confidence: np.ndarray
    """(N,) float64: the judge's confidence for each image."""
    right: np.ndarray
    """(N,) bool: whether the most probable class was right."""
    error: Estimate
    """Expected calibration error with its 95 % interval."""
    perfect: Estimate
    """Calibration error of a perfect judge of the same confidences: its mean and its middle 95 %. The plug-in estimate
    is never zero, so an error inside says nothing against the judge."""

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def mean_confidence(self) -> float:
        return float(self.confidence.mean())

    @property
    def over_confidence(self) -> float:
        """Mean confidence less accuracy; negative where the judge is under-confident."""
        return self.mean_confidence - self.accuracy

    def bins(self) -> list[tuple[float, float, float, float, int]]:
        """Returns (mean confidence, accuracy, low, high, images) of each bin behind the error.

        Low and high are Wilson's 95 % interval of the accuracy.
        """
        order, bins = np.argsort(self.confidence, kind="stable"), []
        for rows in np.array_split(order, min(BINS, len(order))):
            confidence, right = self.confidence[rows], self.right[rows]
            interval = wilson_interval(int(right.sum()), len(rows))
            bins.append((float(confidence.mean()), float(right.mean()), *interval, len(rows)))
        return bins

    def to_json(self) -> dict[str, Any]:
        """Returns the figures without those of each image."""
        return {
            "calibration_error": self.error.to_json(),
            "calibration_error_of_a_perfect_judge": self.perfect.to_json(),
            "mean_confidence": self.mean_confidence,
            "accuracy": self.accuracy,
            "over_confidence": self.over_confidence,
            "images": len(self.right),
        }


def calibrate(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Calibration:
    """Measures the calibration of class probabilities (N, classes) against labels (N,).

    The interval is the basic bootstrap's over images, 2 e - (97.5 % and 2.5 % quantiles of the resampled errors), cut
    off at zero: resampling adds noise to the error as sampling did, and reflecting takes it off again where the
    percentile interval would add it twice. Next to zero it does not hold; compare with ``perfect`` there.

    Raises:
        ConfigurationError: if there are fewer than two images.
    """
    if len(labels) < 2:
        raise ConfigurationError(f"calibration of {len(labels)} images is not defined; take at least 2.")
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == labels
    rng = np.random.default_rng(seed)
    error = float(_errors(confidence, right))
    rows = rng.integers(len(right), size=(RESAMPLES, len(right)))
    resampled = _errors(confidence[rows], right[rows])
    perfect = _errors(np.broadcast_to(confidence, rows.shape), rng.random(rows.shape) < confidence)
    low, high = 2 * error - np.quantile(resampled, [0.975, 0.025])
    interval = Estimate(error, max(0.0, float(low)), max(0.0, float(high)))
    middle = np.quantile(perfect, [0.025, 0.975])
    return Calibration(
        confidence, right, interval, Estimate(float(np.mean(perfect)), float(middle[0]), float(middle[1]))
    )


def _errors(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Computes :func:`oracles.training.posterior.calibration_error` (...) of many samples (..., N) at once.

    That function stays as it is: the last digits of its result are part of judges' identities.
    """
    count = right.shape[-1]
    order = np.argsort(confidence, axis=-1, kind="stable")
    gaps = np.take_along_axis(confidence - right, order, axis=-1)
    starts = [rows[0] for rows in np.array_split(np.arange(count), min(BINS, count))]
    return np.abs(np.add.reduceat(gaps, starts, axis=-1)).sum(axis=-1) / count
