"""Banks of images for a measurement: drawn birds, and copies of them where a bank is larger."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm.auto import tqdm

from agents.evaluation.cost.settings import CostSettings
from agents.evaluation.evaluate import Timed, start_on
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.datasets.copies import ImageCopy
from glimpse_env.files import load_array, new_array
from glimpse_env.judge.judge import find_judge
from glimpse_env.rollout import play
from oracles.boed.completion import CompletionConfig, ImageBank, Match
from oracles.boed.oracle import BOEDOracle, OracleConfig

NOISE = 4
"""Largest difference of a copy's pixel values from the bird's."""


@contextmanager
def cache_in(parent: Path | None) -> Iterator[Path]:
    """Yields a temporary folder that is the cache meanwhile, and is removed with its content.

    Args:
        parent: where it is made; None for the system's place.
    """
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-oracle-", dir=parent, ignore_cleanup_errors=True) as folder,
        mock.patch.dict(os.environ, GLIMPSE_CACHE=folder),
    ):
        yield Path(folder)


class World:
    """The images: birds, copies of them, and others to look at; made when first used.

    Args:
        settings: numbers of images.
        folder: where files of images are written.
    """

    def __init__(self, settings: CostSettings, folder: Path):
        self.settings, self.folder = settings, folder
        self.source = Birds(num_train=settings.drawn, num_val=1, num_test=settings.sequences, num_judge=1)
        self.judge, self.test = find_judge(self.source), self.source.load("test")

    @cached_property
    def train(self) -> GlimpseDataset:
        """Images of the largest bank: block b of as many images as were drawn holds them moved and mirrored in the b-th
        way, with noise."""
        birds, count, rng = self.source.load("train"), max(self.settings.banks), np.random.default_rng(0)
        if count <= len(birds):
            return birds
        path = self.folder / "bank.npy"
        images = new_array(path, (count, *birds.images.shape[1:]), np.uint8)
        pixels = int(np.prod(images.shape[1:]))
        pool = rng.integers(-NOISE, NOISE + 1, pixels + 65_536, dtype=np.int16)  # each image's noise begins elsewhere
        noises = np.lib.stride_tricks.sliding_window_view(pool, pixels)
        for start in tqdm(range(0, count, 500), desc="bank", unit="chunk"):
            rows = np.arange(start, min(start + 500, count))
            for block in np.unique(rows // len(birds)):
                here = rows[rows // len(birds) == block]
                part = np.asarray(birds.images[here % len(birds)])
                if block:
                    noise = noises[rng.integers(len(noises), size=len(here))].reshape(part.shape)
                    part = np.clip(copy_of(int(block))(part) + noise, 0, 255).astype(np.uint8)
                images[here] = part
        images.flush()
        source = np.arange(count) % len(birds)
        others: dict[str, Any] = {
            name: np.asarray(getattr(birds, name)[source]) for name in ("labels", "folds", "parts")
        }
        return replace(birds, images=load_array(path), **others)


def copy_of(block: int) -> ImageCopy:
    """Returns how a block's images are copied: every other one mirrored, moved to points on a spiral."""
    down, right = np.rint(2 * np.sqrt(block) * np.array([np.cos(2.4 * block), np.sin(2.4 * block)])).astype(int)
    return ImageCopy(bool(block % 2), int(down), int(right))


class Setting:
    """A bank of ``size`` images, its judge, and the images that are looked at."""

    def __init__(self, world: World, size: int):
        self.settings, self.world, self.size = world.settings, world, size
        self.judge, self.test = world.judge, world.test
        self.exact_locations: dict[Match, np.ndarray] = {}
        """Locations (N, T) that the exact search led to, where that was measured in this run."""

    @cached_property
    def dataset(self) -> GlimpseDataset:
        """The first ``size`` images of the largest bank."""
        whole = self.world.train
        arrays: dict[str, Any] = {
            name: getattr(whole, name)[: self.size] for name in ("images", "labels", "folds", "parts")
        }
        return replace(whole, split="judge", **arrays)  # not "train", as a few images need not show every species

    @cached_property
    def bank(self) -> ImageBank:
        """The bank of :attr:`dataset`, with tables in the cache."""
        return ImageBank(self.dataset, self.judge, 0, self.size)

    def config(self, match: Match, coarse: int) -> CompletionConfig:
        """Returns the settings of completions; ``coarse`` components, 0 for the exact search."""
        return CompletionConfig(
            match,
            samples=min(self.settings.samples, self.size),
            short_list=min(self.settings.short_list, self.size),
            bank_size=self.size,
            coarse=coarse,
        )

    def oracle(self, match: Match, coarse: int) -> BOEDOracle:
        """Returns an oracle over the bank."""
        config = OracleConfig(completion=self.config(match, coarse))
        return BOEDOracle(self.dataset, self.judge, config, banks=[self.bank])

    def locations(self, match: Match) -> np.ndarray:
        """Returns the locations (N, T) that the exact search leads to, of this run or played now."""
        if match not in self.exact_locations:
            self.exact_locations[match] = sequences(self, Timed(self.oracle(match, 0)))
        return self.exact_locations[match]

    def clear(self) -> None:
        """Removes the bank's tables from the disk."""
        for name in ("dataset", "bank"):
            self.__dict__.pop(name, None)
        for name in ("embeddings", "coarse"):
            shutil.rmtree(self.world.folder / name, ignore_errors=True)


def sequences(setting: Setting, policy: Timed) -> np.ndarray:
    """Plays a batch of sequences on images that are not in the bank and returns their locations (N, T)."""
    rows, test = np.arange(setting.settings.sequences), setting.test
    start = start_on(policy, test)
    return play(policy, test, setting.judge, rows, batch_size=len(rows), progress=False, start=start).locations
