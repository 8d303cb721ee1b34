"""The judge's answers step by step about sequences of glimpses that are there already."""

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.assessment import Posterior

IMAGES_PER_CHUNK = 256
"""Images judged at a time."""


def judge_sequences(
    dataset: GlimpseDataset,
    judge: Posterior,
    indices: np.ndarray,
    corners: np.ndarray,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """Computes the judge's class probabilities after each glimpse of N sequences.

    Args:
        dataset: the split that the glimpses are taken of.
        judge: the judge of this data set.
        indices: (N,) int, images of the split.
        corners: (N, T, 2) int pixels: top-left corners (row, col) of the glimpses, in order; (N, T, 3) with zooms.
        folds: (N,) int: the network to ask, or -1 for the mean of all; default the images' folds, as in episodes.

    Returns:
        (N, T, classes) float32, summing to one over classes.
    """
    indices, sensor = np.asarray(indices), dataset.geometry.sensor
    folds = np.asarray(dataset.folds[indices] if folds is None else folds)
    count, steps = corners.shape[:2]
    probabilities = np.empty((count, steps, judge.num_classes), dtype=np.float32)
    for start in range(0, count, IMAGES_PER_CHUNK):
        rows = slice(start, start + IMAGES_PER_CHUNK)
        places = corners[rows]
        glimpses = sensor(dataset.images, np.repeat(indices[rows], steps), places.reshape(-1, places.shape[2]))
        glimpses = glimpses.reshape(len(places), steps, *glimpses.shape[1:])  # (b, T, g, g, C * scales)
        for t in range(1, steps + 1):
            answers = judge.probabilities(glimpses[:, :t], places[:, :t], np.full(len(places), t), folds[rows])
            probabilities[rows, t - 1] = answers
    return probabilities
