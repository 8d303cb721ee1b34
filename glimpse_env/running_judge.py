"""The judge of episodes under way, which reads each of their glimpses once."""

from functools import cached_property

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.assessment import Posterior
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.tables import TabulatedJudge


class RunningJudge:
    """A judge's answers on B episodes, asked as they go on.

    Args:
        dataset: where their images come from.
        judge: the judge.
        tabulated: answers in its place, where given.
        size: B.
    """

    def __init__(self, dataset: GlimpseDataset, judge: Posterior, tabulated: TabulatedJudge | None, size: int):
        self.dataset, self.judge, self.tabulated = dataset, judge, tabulated
        self._num_summed = np.zeros(size, dtype=np.int64)  # glimpses in the sums
        self._sums = np.zeros(0, dtype=np.float32)  # (K, B, D), see Judge.embed_sum

    def begin(self, rows: np.ndarray | slice) -> None:
        """Forgets the glimpses of the episodes ``rows``."""
        self._num_summed[rows] = 0

    def ask_all(self, indices: np.ndarray, corners: np.ndarray, locations: np.ndarray, t: int) -> np.ndarray:
        """Returns class probabilities (B, classes) float32 of all episodes after ``t`` glimpses each.

        Args:
            indices: (B,) int64, the images.
            corners: (B, T, 2) int64 pixels.
            locations: (B, T) int64, the same on the grid; only read from tables.
            t: glimpses taken.
        """
        folds = np.asarray(self.dataset.folds)[indices]
        if t == 0:
            return self._prior(folds)
        if self.tabulated is not None:
            return self.tabulated.probabilities(indices, locations[:, :t])
        if not isinstance(self.judge, Judge):
            return self.judge.probabilities(
                self._cut(indices, corners[:, :t]), corners[:, :t], np.full(len(indices), t), folds
            )
        done = int(self._num_summed[0])
        if done < t:
            fresh = corners[:, done:t]
            summed = self.judge.embed_sum(self._cut(indices, fresh), fresh, folds)
            self._sums = summed if done == 0 else self._sums + summed
            self._num_summed[:] = t
        return self.judge.predict_from_sum(self._sums, t, folds)

    def ask(
        self, indices: np.ndarray, corners: np.ndarray, locations: np.ndarray, counts: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Returns class probabilities (b, classes) float32 of the episodes ``rows`` (b,), after ``counts`` (B,)
        glimpses each; other arguments as in :meth:`ask_all`."""
        some = counts[rows] > 0
        if some.all():
            return self._ask_begun(indices, corners, locations, counts, rows)
        answers = np.empty((len(rows), self.judge.num_classes), dtype=np.float32)
        answers[~some] = self._prior(np.asarray(self.dataset.folds)[indices[rows[~some]]])
        if some.any():
            answers[some] = self._ask_begun(indices, corners, locations, counts, rows[some])
        return answers

    def _ask_begun(
        self, indices: np.ndarray, corners: np.ndarray, locations: np.ndarray, counts: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """As :meth:`ask`, of episodes with a glimpse or more."""
        indices, counts = indices[rows], counts[rows]
        most = int(counts.max())
        corners, locations = corners[rows, :most], locations[rows, :most]
        if self.tabulated is not None:
            return self.tabulated.probabilities(indices, locations, counts)
        folds = np.asarray(self.dataset.folds)[indices]
        if not isinstance(self.judge, Judge):
            return self.judge.probabilities(cut(self.dataset, indices, corners, counts), corners, counts, folds)
        steps, done = np.arange(corners.shape[1]), self._num_summed[rows]
        owner, step = np.nonzero((steps >= done[:, None]) & (steps < counts[:, None]))  # (m,) glimpses not yet summed
        if not len(self._sums):
            shape = (len(self.judge.networks), len(self._num_summed), self.judge.card.config.embedding)
            self._sums = np.zeros(shape, dtype=np.float32)
        self._sums[:, rows[done == 0]] = 0
        if len(owner):
            fresh = corners[owner, step][:, None]
            embedded = self.judge.embed_sum(self._cut(indices[owner], fresh), fresh, folds[owner])  # (K, m, D)
            first = np.flatnonzero(np.diff(owner, prepend=-1))  # of each episode's glimpses
            self._sums[:, rows[owner[first]]] += np.add.reduceat(embedded, first, axis=1)
        self._num_summed[rows] = counts
        return self.judge.predict_from_sum(self._sums[:, rows], counts, folds)

    def _prior(self, folds: np.ndarray) -> np.ndarray:
        """Returns the answers (b, classes) before the first glimpse on images of the folds (b,)."""
        known, priors = self._priors
        return priors[np.searchsorted(known, folds)]

    def _cut(self, indices: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Cuts all glimpses at ``corners`` (b, n, 2) out of the images ``indices`` (b,)."""
        batch, count = corners.shape[:2]
        flat = corners.reshape(batch * count, -1)
        glimpses = self.dataset.geometry.sensor(self.dataset.images, np.repeat(indices, count), flat)
        return glimpses.reshape(batch, count, *glimpses.shape[1:])

    @cached_property
    def _priors(self) -> tuple[np.ndarray, np.ndarray]:
        """The folds in the data set, (F,) ascending, and the judge's answers before the first glimpse, (F, classes)."""
        folds = np.unique(self.dataset.folds)
        none = np.zeros(len(folds), dtype=np.int64)
        corners = np.repeat(self.dataset.geometry.grid.corners[None, :1], len(folds), axis=0)
        return folds, self.judge.probabilities(cut(self.dataset, none, corners, none), corners, none, folds)


def cut(dataset: GlimpseDataset, indices: np.ndarray, corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cuts the first ``counts`` (b,) glimpses at ``corners`` (b, n, 2) out of the images ``indices`` (b,).

    Returns:
        (b, n, g, g, C * scales) uint8, zero where there is no glimpse.
    """
    owner, step = np.nonzero(np.arange(corners.shape[1]) < counts[:, None])
    seen = dataset.geometry.sensor(dataset.images, indices[owner], corners[owner, step])  # (m, g, g, C * scales)
    glimpses = np.zeros((*corners.shape[:2], *seen.shape[1:]), dtype=np.uint8)
    glimpses[owner, step] = seen
    return glimpses
