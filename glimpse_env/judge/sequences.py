"""The judge's answers, step by step, for glimpse sequences that exist already."""

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.judge import Judge

IMAGES_PER_CHUNK = 256
"""Images judged at a time."""


def judge_sequences(dataset: GlimpseDataset, judge: Judge, indices: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns the judge's class probabilities after each glimpse of N sequences.

    Each image is judged by the network of its fold, or by the mean of all where it has none, as in episodes.

    Args:
        dataset: the split that the images are of.
        judge: of the data set.
        indices: (N,) int, images of the split.
        corners: (N, T, 2) int pixels: top-left corners (row, col) of the glimpses, in order.

    Returns:
        (N, T, classes) float32, summing to one over classes.
    """
    count, steps = corners.shape[:2]
    probabilities = np.empty((count, steps, judge.num_classes), dtype=np.float32)
    for start in range(0, count, IMAGES_PER_CHUNK):
        rows = slice(start, start + IMAGES_PER_CHUNK)
        images, places = np.asarray(indices)[rows], corners[rows]
        folds = np.asarray(dataset.folds[images])
        summed: np.ndarray | float = 0.0
        for t in range(steps):
            glimpses = judge.geometry.sensor(dataset.images, images, places[:, t])[:, None]  # (b, 1, g, g, C * scales)
            summed = summed + judge.embed_sum(glimpses, places[:, t : t + 1], folds)
            probabilities[rows, t] = judge.predict_from_sum(summed, t + 1, folds)
    return probabilities
