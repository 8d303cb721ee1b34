"""The judge's answers step by step about sequences of glimpses that are there already."""

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.judge import Judge

IMAGES_PER_CHUNK = 256
"""Images judged at a time."""


def judge_sequences(
    dataset: GlimpseDataset,
    judge: Judge,
    indices: np.ndarray,
    corners: np.ndarray,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """Computes the judge's class probabilities after each glimpse of N sequences.

    Args:
        dataset: the split that the glimpses are taken of.
        judge: a judge of this data set.
        indices: (N,) int, images of the split.
        corners: (N, T, 2) int pixels: top-left corners (row, col) of the glimpses, in order.
        folds: (N,) int: the network to ask, or -1 for the mean of all; default the images' folds, as in episodes.

    Returns:
        (N, T, classes) float32, summing to one over classes.
    """
    indices = np.asarray(indices)
    folds = np.asarray(dataset.folds[indices] if folds is None else folds)
    count, steps = corners.shape[:2]
    probabilities = np.empty((count, steps, judge.num_classes), dtype=np.float32)
    for start in range(0, count, IMAGES_PER_CHUNK):
        rows = slice(start, start + IMAGES_PER_CHUNK)
        embed_sum: np.ndarray | float = 0.0
        for t in range(steps):
            places = corners[rows, t]
            glimpses = judge.geometry.sensor(dataset.images, indices[rows], places)  # (b, g, g, C * scales)
            embed_sum = embed_sum + judge.embed_sum(glimpses[:, None], places[:, None], folds[rows])
            probabilities[rows, t] = judge.predict_from_sum(embed_sum, t + 1, folds[rows])
    return probabilities
