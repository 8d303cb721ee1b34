"""Tables of the frozen features of all grid locations of a split, computed once and then read in place of pixels."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy, named
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.partial import PartialArray, record_path
from glimpse_env.encoding.reduction import window_key
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import array_is_whole, cache_folder, digest, load_array, only_process, place_for
from glimpse_env.parallel import make_shards
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.sensing.sensor import cut_on_grid

GLIMPSES_PER_CHUNK = 4096
"""Glimpses that a process of a stopped computation loses, at most."""


class FeatureTable:
    """Frozen features of the glimpses at every grid location, in half precision, mapped from the cache.

    Each copy of the images has a file of its own: tables that differ in some copies share the files of the others. What
    is missing is computed now, as far as an earlier computation was not stopped; the values do not depend on which
    process computes them.

    Args:
        dataset: the split.
        features: what turns its glimpses into features.
        copies: the copies of each image.
        rows: (n,) int64 ascending, the images in the table; default all of the split.
        workers, ray: processes on this machine, or the address of a Ray cluster, where features are missing; see
            :func:`glimpse_env.parallel.make_shards`. Images are sent to them, so that they need no data set.

    Attributes:
        arrays: of each copy (n, L, W) float16, mapped: all features at the L locations of image ``rows[i]`` in row i.

    Raises:
        ConfigurationError: if the features are of images with other channels or scales, or workers and Ray are both
            asked for.
        ShardError: if processes die over a chunk again and again.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        features: GlimpseFeatures,
        copies: tuple[ImageCopy, ...] = (ORIGINAL,),
        rows: np.ndarray | None = None,
        *,
        workers: int = 1,
        ray: str | None = None,
    ):
        self._made_from = (dataset, features, copies, rows)
        geometry, channels = dataset.geometry, dataset.images.shape[3]
        if (channels, geometry.scales) != (features.channels, features.scales):
            raise ConfigurationError(
                f"features of {features.channels} channels and scales={features.scales} do not fit "
                f"{dataset.name}/{dataset.split} with {channels} channels and scales={geometry.scales}."
            )
        self.copies = copies
        paths = [table_path(dataset, features, copy, rows) for copy in copies]
        images = np.arange(len(dataset)) if rows is None else np.asarray(rows)
        if not all(map(array_is_whole, paths)):
            paths = [path if array_is_whole(path) else place_for(path) for path in paths]
            with only_process(paths):
                _fill(dataset, features, dict(zip(paths, copies, strict=True)), images, workers, ray)
        for path in paths:
            if record_path(path).exists():  # of a process that died behind its last chunk
                with contextlib.suppress(OSError):
                    record_path(path).unlink()
        # "c" only because PyTorch warns of arrays that it must not write to
        self.arrays: list[np.ndarray] = [load_array(path, "c") for path in paths]
        self._rows = np.full(len(dataset), -1)  # of the images
        self._rows[images] = np.arange(len(images))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments, with which the table is found again."""
        return type(self), self._made_from

    @property
    def width(self) -> int:
        """W, numbers of a glimpse."""
        return self.arrays[0].shape[2]

    @property
    def array(self) -> np.ndarray:
        """(copies * n, L, W) float16; entry c * n + i is copy c of image ``rows[i]``. Mapped where there is one copy,
        else put together in memory at each call."""
        return self.arrays[0] if len(self.arrays) == 1 else np.concatenate(self.arrays)

    def __call__(self, indices: np.ndarray, locations: np.ndarray, copy: int = 0) -> np.ndarray:
        """Returns the features of glimpses.

        Args:
            indices: (...) int64, images of the split of N; c * N + i is copy c of image i.
            locations: (...) int64, grid locations; both are broadcast against each other.
            copy: position in ``copies`` of the images below N.

        Returns:
            (..., W) float16.

        Raises:
            ConfigurationError: if an image is not among the table's rows.
        """
        further = np.asarray(indices) // len(self._rows)
        if not further.any():
            array, rows = self.arrays[copy], self._rows[indices]
            if np.any(rows < 0):
                raise ConfigurationError(
                    f"image {np.asarray(indices)[rows < 0].flat[0]} is not among the {len(array)} rows of this table "
                    "of features; make a table with it, or with all images."
                )
            return array.reshape(-1, self.width).take(rows * array.shape[1] + locations, axis=0)
        indices, locations, further = np.broadcast_arrays(indices, locations, further)
        features = np.empty((*indices.shape, self.width), dtype=np.float16)
        for c in np.unique(further):
            mine = further == c
            features[mine] = self(indices[mine] - c * len(self._rows), locations[mine], copy + c)
        return features


def table_path(
    dataset: GlimpseDataset, features: GlimpseFeatures, copy: ImageCopy = ORIGINAL, rows: np.ndarray | None = None
) -> Path:
    """Returns where the cache has, or will have, the features of one copy of a split's images, or of some of them."""
    further = [] if rows is None else [np.asarray(rows)]
    key = digest(
        features.identity, dataset.fingerprint, dataset.split, window_key(dataset.geometry), named((copy,)), *further
    )
    return cache_folder() / "features" / f"{dataset.name}-{dataset.split}-{key}.npy"


class _Chunk:
    """Images that one process encodes without a break; pickled with the images themselves.

    Args:
        path: of their table.
        start: position of the first one in there.
        load: returns the images (n, H, W, C) uint8.
        count: n.
    """

    def __init__(self, path: Path, start: int, load: Callable[[], np.ndarray], count: int):
        self.path, self.start, self.load, self.count = path, start, load, count

    def __str__(self) -> str:
        return f"{self.path.stem}-{self.start:06d}"

    @property
    def size(self) -> str:
        """Number of the images, for messages."""
        return f"{self.count} images"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.start, partial(np.asarray, self.load()), self.count)


def _copied(dataset: GlimpseDataset, copy: ImageCopy, rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(copy(dataset.images[rows]))


class _Encode:
    """Encodes all grid locations of the images of a chunk."""

    def __init__(self, features: GlimpseFeatures, geometry: Geometry):
        self.features, self.geometry = features, geometry

    def __call__(self, chunk: _Chunk) -> dict[str, np.ndarray]:
        images, grid = chunk.load(), self.geometry.grid
        everywhere = np.broadcast_to(np.arange(len(grid)), (len(images), len(grid)))
        glimpses = cut_on_grid(images, everywhere, grid, self.geometry.scales)
        features = self.features.encode(glimpses).half().cpu().numpy()
        if not np.isfinite(features).all():
            raise ConfigurationError(
                f"encoder={self.features.encoder.name!r} gives features that are not finite in half precision; scale "
                "them down, or let them be reduced (width above 0)."
            )
        return {"features": features}


def _fill(
    dataset: GlimpseDataset,
    features: GlimpseFeatures,
    copies: dict[Path, ImageCopy],
    rows: np.ndarray,
    workers: int,
    ray: str | None,
) -> None:
    """Computes the tables that are missing, each of one copy of the images ``rows``."""
    locations = len(dataset.geometry.grid)
    at_a_time = max(1, GLIMPSES_PER_CHUNK // locations)
    shape = (len(rows), locations, features.width)
    parts = {path: PartialArray(path, shape, np.float16, at_a_time) for path in copies if not array_is_whole(path)}
    chunks = [
        _Chunk(path, start, partial(_copied, dataset, copies[path], some), len(some))
        for path, part in parts.items()
        for start in part.missing
        for some in [rows[start : start + at_a_time]]
    ]
    total = len(parts) * len(rows)
    with tqdm(
        total=total,
        initial=total - sum(chunk.count for chunk in chunks),
        desc=f"{dataset.name}/{dataset.split}: features of {features.encoder.title}",
        unit="img",
    ) as bar:
        encode = _Encode(features, dataset.geometry)
        gpus = int(features.encoder.device.type == "cuda")
        for chunk, result in make_shards(encode, chunks, workers=workers, ray=ray, gpus=gpus):
            parts[chunk.path].write(chunk.start, result["features"])
            bar.update(chunk.count)
    for part in parts.values():
        part.finish()
