"""Tables of the judge's embeddings of a split's glimpses, computed once and then read in place of pixels."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy, copied_chunks, named
from glimpse_env.files import cache_folder, digest, kept, load_array, new_array, whole_file
from glimpse_env.judge.judge import Judge, rows_for_network


class EmbeddingTable:
    """Embeddings phi(y, l) of the glimpses at every grid location, in half precision.

    Args:
        dataset: the split, with the images that it has in the data set.
        judge: the judge that embeds.
        network: k, one of its networks.
        rows: (n,) int64 ascending, the images in the table; default all of the split.
        copies: the copies of each image; :meth:`__call__` and :meth:`summed` read the first.
        cached: whether it is kept in the cache, or in memory.

    Attributes:
        array: (copies * n, L, D) float16, mapped where ``cached``; entry c * n + i is copy c of image ``rows[i]``.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        network: int,
        rows: np.ndarray | None = None,
        copies: tuple[ImageCopy, ...] = (ORIGINAL,),
        cached: bool = True,
    ):
        self._made_from = (dataset, judge, network, rows, copies, cached)
        rows = np.arange(len(dataset)) if rows is None else rows

        def fill(make: Callable[..., Any]) -> Any:
            one = judge.embed_split(network, dataset, rows[:1])
            table = make(shape=(len(copies) * len(rows), *one.shape[1:]), dtype=np.float16)
            for entries, some, copy in copied_chunks(dataset, rows, copies, "embeddings"):
                table[entries] = judge.embed_split(network, dataset, some, copy).cpu().numpy()
            return table

        if cached:
            # nothing is added for the originals alone, so that older tables are found
            further = [] if copies == (ORIGINAL,) else [named(copies)]
            key = digest(judge.identity, dataset.fingerprint, dataset.split, network, rows, *further)
            path = cache_folder() / "embeddings" / f"{dataset.name}-{key}.npy"

            def write(path: Path) -> None:
                with whole_file(path) as temporary:
                    fill(partial(new_array, temporary)).flush()

            self.array: np.ndarray = kept(path, partial(load_array, mode="c"), write)
        else:
            self.array = fill(np.empty)
        self._flat = torch.from_numpy(self.array).flatten(0, 1)  # (n * L, D)
        self._places = np.full(len(dataset), -1)  # of an image's first location in there
        self._places[rows] = np.arange(len(rows)) * self.array.shape[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments, from which the table is made again."""
        return type(self), self._made_from

    @property
    def width(self) -> int:
        """D, width of an embedding."""
        return self.array.shape[2]

    def __call__(self, indices: np.ndarray, locations: np.ndarray) -> np.ndarray:
        """Returns embeddings (B, D) float16 of the glimpses at ``locations`` (B,) of the images ``indices`` (B,)."""
        return self._flat.numpy().take(self._places[indices] + locations, axis=0)

    def summed(self, indices: np.ndarray, locations: np.ndarray, counts: np.ndarray | None = None) -> torch.Tensor:
        """Sums over t the embeddings at ``locations`` (B, t) of the images ``indices`` (B,): (B, D) float32; with
        ``counts`` (B,) int64 only those of each episode's first ones."""
        places, offsets = self._places[indices][:, None] + locations, None
        if counts is not None:
            places = places[np.arange(locations.shape[1]) < counts[:, None]]  # (sum of counts,)
            offsets = torch.from_numpy(np.cumsum(counts) - counts)
        # added up in single precision
        return functional.embedding_bag(torch.from_numpy(places), self._flat, offsets, mode="sum").float()


class TabulatedJudge:
    """Answers for one split as a judge does, up to half precision, from tables and without a convolution."""

    def __init__(self, dataset: GlimpseDataset, judge: Judge):
        """
        Args:
            dataset: the split whose images will be judged.
            judge: the judge; its tables are computed now if they are not in the cache.
        """
        self.judge, self._folds = judge, np.array(dataset.folds)
        self._tables = {}
        for network in range(len(judge.networks)):
            rows = rows_for_network(network, self._folds)
            if len(rows):
                self._tables[network] = EmbeddingTable(dataset, judge, network, rows)

    @torch.inference_mode()
    def probabilities(self, indices: np.ndarray, locations: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
        """Computes class probabilities after t glimpses.

        Args:
            indices: (B,) int64, images of the split.
            locations: (B, t) int64, grid locations.
            counts: (B,) int64, glimpses of each episode, further locations being left out; None where all have t.

        Returns:
            (B, classes) float32, rows sum to one.
        """

        def ask(network: int, rows: np.ndarray) -> torch.Tensor:
            own = None if counts is None else counts[rows]
            summed = self._tables[network].summed(indices[rows], locations[rows], own)
            steps = locations.shape[1] if own is None else torch.from_numpy(own)
            return self.judge.class_log_probabilities(network, summed, steps)

        return self.judge.mean_over_networks(self._folds[indices], ask)
