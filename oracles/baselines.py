"""Policies to compare the oracle with: random, centre-out, best fixed, hand-crafted by parts, and clairvoyant."""

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy
from glimpse_env.devices import resident
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy, PlannedPolicy, check_room, masked_argmin, random_part

FITTED_IMAGES = 1500
"""Images that :func:`best_fixed` is fitted to, at most."""
FITTED_BYTES = 2**30
"""Bytes of the embeddings that :func:`best_fixed` holds, at most."""


class RandomPolicy(GlimpsePolicy):
    """Uniform over the locations not yet seen."""

    def __init__(self, grid: LocationGrid, seed: int = 0):
        self.grid = grid
        self.rng = np.random.default_rng(seed)

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        scores = self.rng.random((len(histories.counts), len(self.grid)))
        return masked_argmin(scores, histories, self.grid), state


class FixedPolicy(GlimpsePolicy):
    """The same locations for every image.

    Args:
        sequence: (T,) grid locations.
    """

    def __init__(self, grid: LocationGrid, sequence: np.ndarray):
        self.grid = grid
        self.sequence = np.asarray(sequence, dtype=np.int64)

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        check_room(histories.counts, len(self.sequence))
        return self.sequence[histories.counts], state


def centre_out(grid: LocationGrid, num_glimpses: int) -> np.ndarray:
    """Returns (T,) locations: the centre, then outwards on a lattice with half a glimpse's spacing; with zooms of the
    narrowest windows."""
    grid = grid.levels[0]
    every = max(1, math.floor(grid.glimpse_size // 2 / grid.stride))  # of the locations along a side
    steps = np.stack(np.divmod(np.arange(len(grid)), grid.side), axis=-1)  # (L, 2)
    lattice = np.flatnonzero(((steps - steps[grid.centre]) % every == 0).all(axis=1))
    offsets = grid.corners - grid.corners[grid.centre]
    distance = np.hypot(*offsets[lattice].T)
    angle = np.arctan2(offsets[lattice, 0], offsets[lattice, 1])
    return lattice[np.lexsort((angle, distance.round(6)))][:num_glimpses]


def coarse_to_fine(grid: LocationGrid, num_glimpses: int) -> np.ndarray:
    """Returns (T,) locations: the widest window in the centre, then the next narrower one there, and so on; when the
    narrowest is reached, outwards with those as :func:`centre_out`. The last glimpses are left out where they are few.
    """
    levels = list(zip(grid.level_slices, grid.levels, strict=True))
    wide = [part.start + level.centre for part, level in levels[:0:-1]]
    return np.array([*wide, *centre_out(grid, num_glimpses)])[:num_glimpses]


def fitted_images(dataset: GlimpseDataset, judge: Judge) -> np.ndarray:
    """Returns the images (n,) int64 ascending that :func:`best_fixed` is fitted to: all, or a random part.

    At many locations a part has fewer images, so that their embeddings stay below :data:`FITTED_BYTES`.
    """
    numbers = judge.embed_split(0, dataset, np.arange(1)).numel()  # of one image's embeddings
    return random_part(np.arange(len(dataset)), min(FITTED_IMAGES, max(1, FITTED_BYTES // (4 * numbers))))


def best_fixed(
    dataset: GlimpseDataset, judge: Judge, num_glimpses: int, *, sweeps: int = 2, rows: np.ndarray | None = None
) -> np.ndarray:
    """Returns (T,) locations that serve training images best: chosen greedily, then each again given the others.

    Greedy steps minimise the mean log-loss of the label; the sweeps maximise the success after T glimpses, log-loss
    deciding between equals. Each image is judged by the network that never saw it; ``rows`` (n,) int64 ascending are
    the images, by default :func:`fitted_images`.
    """
    rows = fitted_images(dataset, judge) if rows is None else rows
    embeddings, labels, networks = embedded_images(dataset, judge, rows)
    sequence: list[int] = []
    summed = embeddings.new_zeros(len(labels), embeddings.shape[-1])
    for t in range(num_glimpses):
        losses, _ = _scores(judge, embeddings, labels, networks, summed, t + 1)
        losses[sequence] = torch.inf
        sequence.append(int(losses.argmin()))
        summed = summed + embeddings[:, sequence[-1]]
    for _ in range(sweeps):
        for t in range(num_glimpses):
            others = summed - embeddings[:, sequence[t]]
            losses, success = _scores(judge, embeddings, labels, networks, others, num_glimpses)
            rank = success - 1e-3 * losses
            rank[[location for j, location in enumerate(sequence) if j != t]] = -torch.inf
            sequence[t] = int(rank.argmax())
            summed = others + embeddings[:, sequence[t]]
    return np.array(sequence)


class HandCraftedPolicy(PlannedPolicy):
    """HGS: looks at annotated parts in a given order, a hidden part replaced by a random visible one; with zooms
    through the narrowest windows.

    Peeks at the part annotations of the image (not at its pixels), so it serves for demonstrations, not as a rival.
    """

    ORDER = ("beak", "eye", "forehead", "belly", "feet")
    """Parts as the paper lists them; where a data set has several of a kind, any visible one."""
    _ALIASES: ClassVar = {"eye": ("eye", "left eye", "right eye"), "feet": ("feet", "left leg", "right leg")}

    def __init__(self, grid: LocationGrid, num_glimpses: int, seed: int = 0):
        self.grid, self.num_glimpses = grid, num_glimpses
        self.rng = np.random.default_rng(seed)

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, None]:
        """Returns the sequences (B, T) for the images, which have no maps.

        Raises:
            ConfigurationError: if the data set has no part annotations.
        """
        if not dataset.part_names:
            raise ConfigurationError(f"data set {dataset.name!r} has no parts: hand-crafted glimpses need them.")
        return np.stack([self._sequence(dataset, int(index)) for index in indices]), None

    def _sequence(self, dataset: GlimpseDataset, index: int) -> np.ndarray:
        parts = dataset.parts[index]
        visible = np.flatnonzero(parts[:, 2] > 0)
        if len(visible) == 0:
            return self.rng.choice(len(self.grid.levels[0]), self.num_glimpses, replace=False)
        sequence = []
        for name in [self.ORDER[t % len(self.ORDER)] for t in range(self.num_glimpses)]:
            wanted = [p for p in visible if dataset.part_names[p] in self._ALIASES.get(name, (name,))]
            part = self.rng.choice(wanted if wanted else visible)
            corner = parts[part, :2] - (self.grid.glimpse_size - 1) / 2
            sequence.append(int(self.grid.levels[0].nearest(corner)))
        return np.array(sequence)


class ClairvoyantPolicy(PlannedPolicy):
    """Sees the image and its label: greedy on the label's true log-loss. An upper bound, not a rival."""

    def __init__(self, judge: Judge, num_glimpses: int):
        self.judge, self.grid, self.num_glimpses = judge, judge.grid, num_glimpses

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sequences (B, T), planned whole, and the maps (B, T, L) that they are the minima of."""
        sequences = np.empty((len(indices), self.num_glimpses), dtype=np.int64)
        maps = np.empty((len(indices), self.num_glimpses, len(self.judge.grid)), dtype=np.float32)
        for b, index in enumerate(indices):
            fold = int(dataset.folds[index])
            asked = range(len(self.judge.networks)) if fold == -1 else [fold]
            embeddings = {k: self.judge.embed_split(k, dataset, np.array([index]))[0] for k in asked}  # (L, D)
            summed = {k: embeddings[k].new_zeros(embeddings[k].shape[-1]) for k in asked}
            for t in range(self.num_glimpses):
                likelihood = torch.stack(
                    [
                        self.judge.class_log_probabilities(k, summed[k] + embeddings[k], t + 1)[
                            :, int(dataset.labels[index])
                        ].exp()
                        for k in asked
                    ]
                ).mean(0)  # (L,)
                maps[b, t] = -likelihood.log().cpu().numpy()
                candidates = maps[b, t].copy()
                candidates[sequences[b, :t]] = np.inf
                sequences[b, t] = candidates.argmin()
                for k in asked:
                    summed[k] = summed[k] + embeddings[k][sequences[b, t]]
        return sequences, maps


def embedded_images(
    dataset: GlimpseDataset, judge: Judge, rows: np.ndarray, copy: ImageCopy = ORIGINAL
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Returns embeddings (N, L, D), labels (N,) and networks (N,) of images, or of copies of them, each by the network
    that may judge it.

    Embeddings are on the judge's device where there is room, else, as labels always, on the CPU.
    """
    networks = np.maximum(dataset.folds[rows], 0)
    embeddings: Tensor | None = None
    for k in np.unique(networks):
        members = rows[networks == k]
        for start in range(0, len(members), 64):
            chunk = members[start : start + 64]
            part = judge.embed_split(int(k), dataset, chunk, copy)
            if embeddings is None:
                embeddings = torch.empty(len(rows), *part.shape[1:])
            embeddings[torch.from_numpy(np.searchsorted(rows, chunk))] = part.cpu()
    assert embeddings is not None
    return resident(embeddings, judge.device), torch.from_numpy(np.asarray(dataset.labels[rows])), networks


@torch.no_grad()
def _scores(
    judge: Judge, embeddings: Tensor, labels: Tensor, networks: np.ndarray, summed: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Returns mean log-loss (L,) and success (L,) over images after one more glimpse at each location, ``count`` in
    all."""
    losses, success = (torch.zeros(embeddings.shape[1], device=judge.device) for _ in range(2))
    for k in np.unique(networks):
        for rows in np.array_split(np.flatnonzero(networks == k), max(1, int((networks == k).sum()) // 64)):
            log_probabilities = judge.class_log_probabilities(int(k), summed[rows, None] + embeddings[rows], count)
            target = labels[rows].to(judge.device)[:, None, None].expand(*log_probabilities.shape[:2], 1)
            losses -= log_probabilities.gather(-1, target)[..., 0].sum(0)
            success += (log_probabilities.argmax(-1) == target[..., 0]).float().sum(0)
    return losses / len(labels), success / len(labels)
