"""The judge as episodes see it: class probabilities from glimpses, and what they say of the label."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


class Posterior(Protocol):
    """The interface of a judge that episodes need; :class:`glimpse_env.judge.judge.Judge` has it."""

    @property
    def num_classes(self) -> int: ...

    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        """Returns p(theta | the first ``counts`` glimpses), (B, classes) float32, rows summing to one.

        Args:
            glimpses: (B, T, g, g, C * scales) uint8.
            corners: (B, T, 2) int64 pixels, (B, T, 3) with zooms; any position, not only the grid's.
            counts: (B,) int64 in 0..T; later glimpses are ignored.
            folds: (B,) int64: the network to ask, or -1 for the mean of all.
        """


@dataclass(frozen=True)
class Assessment:
    """The judge's answers on B episodes."""

    probabilities: np.ndarray
    """(B, classes) float32: p(theta | y_1:t, l_1:t)."""
    log_loss: np.ndarray
    """(B,) float64 nats: -log p(true label)."""
    success: np.ndarray
    """(B,) bool: whether the most probable class is the label."""

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> "Assessment":
        """Compares probabilities (B, classes) with labels (B,)."""
        of_label = probabilities[np.arange(len(labels)), labels]
        return cls(probabilities, -_log(of_label), probabilities.argmax(axis=1) == labels)

    @cached_property
    def entropy(self) -> np.ndarray:
        """(B,) float64 nats."""
        return entropy_of(self.probabilities)


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Computes the entropies (...) float64 in nats of probabilities (..., classes)."""
    return -(probabilities * _log(probabilities)).sum(axis=-1)


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithm in float64, finite where a probability is zero."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
