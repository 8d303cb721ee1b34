"""Photographs of other classes that losses are regressed over as well: without labels, the judge gives posteriors.

With q_n the judge's posterior of the class of image n, the mean of log-posteriors over random glimpses and networks,
the loss of a further image is the cross-entropy -sum_theta q_n(theta) log p(theta | glimpses), a mean over networks.
"""

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.reduction import Reduction
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from oracles.base import random_part

RANDOM_SEQUENCES = 32
"""Sequences of random glimpses that an image's posterior is a mean over."""
IMAGES_AT_A_TIME = 64
"""Images whose losses are computed at a time."""


def other_classes(dataset: GlimpseDataset, known: tuple[str, ...]) -> np.ndarray:
    """Returns the images (n,) int64 ascending of classes that are not among ``known``, upper and lower case and
    punctuation aside. Labels serve for nothing else."""
    taken = {_plain(name) for name in known}
    apart = np.array([_plain(name) not in taken for name in dataset.class_names])
    return np.flatnonzero(apart[np.asarray(dataset.labels)])


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def moved(features: Tensor, theirs: Reduction, ours: Reduction) -> Tensor:
    """Returns features (..., W) of one reduction as another of the same encoder has them, (..., W') float32: exactly
    where its components lie in the span of the first one's, else up to what that has lost."""
    back = torch.linalg.pinv(theirs.components)  # (W, F)
    return features.float() @ (back @ ours.components) + (theirs.mean - ours.mean) @ ours.components


class FurtherImages:
    """Features and losses of photographs without labels.

    Features are those of the other data set's table, moved to the judge's principal components: nothing is encoded
    where that table is there.

    Args:
        dataset: split of another data set with the judge's geometry.
        frozen: its own features, of the judge's encoder; None where the judge has no frozen one.
        judge: judge with frozen features; none of its networks may have seen these images.
        known: classes of the judge's data set, whose images are left out, as some might be test images there.
        most: images, at most, drawn at random where there are more.

    Attributes:
        rows: (n,) int64 ascending, the images of ``dataset``.
        features: (n, L, F) float16, their frozen features.
        posteriors: (n, classes) float32, what the judge says of their class.

    Raises:
        ConfigurationError: if the judge has no frozen features, the geometry is another, or no image is left.
    """

    def __init__(
        self, dataset: GlimpseDataset, frozen: GlimpseFeatures | None, judge: Judge, known: tuple[str, ...], most: int
    ):
        ours, theirs = (None if one is None else one.reduction for one in (judge.frozen, frozen))
        if frozen is None or ours is None or theirs is None or dataset.geometry != judge.geometry:
            raise ConfigurationError(
                f"further={dataset.name!r} needs a judge on frozen features that are reduced, and the same geometry "
                f"({dataset.geometry}, not {judge.geometry}); leave it out."
            )
        self.judge, self.rows = judge, random_part(other_classes(dataset, known), most)
        if len(self.rows) == 0:
            raise ConfigurationError(f"further={dataset.name!r} has no image of another class.")
        table, places = FeatureTable(dataset, frozen), torch.from_numpy(judge.grid.normalised)
        chunks = np.array_split(self.rows, -(-len(self.rows) // IMAGES_AT_A_TIME))
        self.features = torch.cat(
            [moved(torch.from_numpy(table.array[chunk]), theirs, ours).half() for chunk in chunks]
        )
        with torch.inference_mode():
            self._embedded = [
                torch.cat(
                    [network.embed(some.float(), places).half() for some in self.features.split(IMAGES_AT_A_TIME)]
                )
                for network in judge.networks
            ]  # of each network (n, L, D)
            self.posteriors = self._posteriors()

    def __len__(self) -> int:
        return len(self.rows)

    @torch.inference_mode()
    def losses(self, locations: list[int], most_nats: float) -> Tensor:
        """Returns the cross-entropy (n, L) after ``locations`` and each further one, of -log p up to ``most_nats``."""
        total = torch.zeros(len(self), self._embedded[0].shape[1], device=self.judge.device)
        for k, embeddings in enumerate(self._embedded):
            for rows in torch.arange(len(self)).split(IMAGES_AT_A_TIME):
                embedded = embeddings[rows].float()  # (b, L, D)
                summed = embedded + embedded[:, locations].sum(1, keepdim=True)
                answers = self.judge.class_log_probabilities(k, summed, len(locations) + 1).clamp_min(-most_nats)
                total[rows] -= (answers * self.posteriors[rows, None]).sum(-1)
        return total / len(self._embedded)

    def _posteriors(self) -> Tensor:
        steps, places = self.judge.card.num_glimpses, len(self.judge.grid)
        random = np.random.default_rng(0).random((RANDOM_SEQUENCES, places)).argsort(axis=1)[:, :steps]
        told = torch.zeros(len(self), self.judge.num_classes, device=self.judge.device)
        for k, embeddings in enumerate(self._embedded):
            for sequence in torch.from_numpy(random):
                told += self.judge.class_log_probabilities(k, embeddings[:, sequence].float().sum(1), steps)
        return torch.softmax(told / (len(random) * len(self._embedded)), dim=-1)
