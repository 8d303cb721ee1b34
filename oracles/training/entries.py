"""What judges and amortised oracles train on with a frozen encoder: tables of features in place of images."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import DataSource, LabelledImages, Split
from glimpse_env.datasets.copies import copies_of
from glimpse_env.datasets.images import mirrored_parts
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.table import FeatureTable


class FeatureEntries:
    """Frozen features of a split's images, and of their mirror images where those are as likely.

    Entry c * N + i is copy c of image i of N, the originals first. :class:`LabelledImages` of entries have (n,) int64
    of these in place of pixels.

    Args:
        source: the data set.
        features: what turns its glimpses into features.
        own: the split to train on where the data set has one for it; others train on ``train``.

    Attributes:
        dataset: the split.
    """

    def __init__(self, source: DataSource, features: GlimpseFeatures, own: Split):
        self.dataset = source.load(own if source.num_folds == 1 else "train")
        self.table = FeatureTable(self.dataset, features, copies_of(source.mirror_symmetric, 0))

    def draw(self, fold: int, rng: np.random.Generator, *, copies: bool = True) -> LabelledImages:
        """Draws the entries of one pass: every image that is not in ``fold`` once, in random order.

        Args:
            fold: whose images are left out.
            rng: draws the order, and which copy of each image it is.
            copies: whether there are copies, or originals only.
        """
        data = self.dataset
        rows = rng.permutation(np.flatnonzero((data.folds != fold) | (data.split != "train")))
        drawn = data.take(rows)
        copy = rng.integers(len(self.table.copies), size=len(rows)) if copies else np.zeros(len(rows), dtype=np.int64)
        parts, mirrored = drawn.parts, copy > 0
        if parts.shape[1]:
            parts[mirrored] = mirrored_parts(parts[mirrored], data.part_names, data.geometry.image_size)
        return replace(drawn, images=copy * len(data) + rows, parts=parts)

    def __call__(self, entries: np.ndarray, locations: np.ndarray | None = None) -> Tensor:
        """Returns features of glimpses.

        Args:
            entries: (n,) int64.
            locations: (n, m) int64, grid locations; default all.

        Returns:
            (n, m, W) float32.
        """
        copy, rows = np.divmod(entries, len(self.dataset))
        if locations is None:
            count = len(self.dataset.geometry.grid)
            locations = np.broadcast_to(np.arange(count), (len(rows), count))
        features = np.empty((*locations.shape, self.table.width), dtype=np.float16)
        for c in np.unique(copy):
            mine = copy == c
            features[mine] = self.table(rows[mine, None], locations[mine], int(c))
        return torch.from_numpy(features).float()
