"""Mirrored and shifted copies of a split's images."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.images import mirrored_parts
from glimpse_env.files import cache_folder, digest, kept, load_array, new_array, whole_file

IMAGES_PER_CHUNK = 64
"""Images copied at a time."""


@dataclass(frozen=True)
class ImageCopy:
    """One way to copy images: mirrored left to right, or not, then moved, the pixels at the edge repeated."""

    mirrored: bool = False
    down: int = 0
    """Pixels that the content moves down; negative is up."""
    right: int = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Copies images (N, H, W, C); the original is returned as it is."""
        if self.mirrored:
            images = images[:, :, ::-1]
        for axis, shift in ((1, self.down), (2, self.right)):
            if shift:
                side = images.shape[axis]
                images = images.take(np.clip(np.arange(side) - shift, 0, side - 1), axis=axis)
        return images


ORIGINAL = ImageCopy()


def copies_of(mirrored: bool, shift: int) -> tuple[ImageCopy, ...]:
    """Returns the ways to copy an image: the original first.

    Args:
        mirrored: whether to add the mirror images of all others.
        shift: pixels by which further copies are moved in each of the four directions; 0 for none.
    """
    moves = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)] if shift else [(0, 0)]
    return tuple(
        ImageCopy(flip, down, right) for flip in ([False, True] if mirrored else [False]) for down, right in moves
    )


def named(copies: tuple[ImageCopy, ...]) -> list[dict[str, int]]:
    """Returns the copies as JSON values."""
    return [asdict(copy) for copy in copies]


def copied_images(dataset: GlimpseDataset, rows: np.ndarray, copies: tuple[ImageCopy, ...]) -> np.ndarray:
    """Returns every copy of the images ``rows`` (n,): (copies * n, H, W, C) uint8, memory-mapped from the cache.

    Copy c of image ``rows[i]`` is entry c * n + i.
    """
    key = digest(dataset.fingerprint, dataset.split, rows, named(copies))
    path = cache_folder() / "copies" / f"{dataset.name}-{key}.npy"

    def write(path: Path) -> None:
        with whole_file(path) as temporary:
            array = new_array(temporary, (len(copies) * len(rows), *dataset.images.shape[1:]), np.uint8)
            for entries, some, copy in copied_chunks(dataset, rows, copies, "copies"):
                array[entries] = copy(dataset.images[some])
            array.flush()

    return kept(path, load_array, write)


def with_mirror_images(dataset: GlimpseDataset) -> GlimpseDataset:
    """Returns 2 N images, those of a split of N and their mirror images: entry N + i mirrors image i, parts too."""
    copies, everything = copies_of(True, 0), np.arange(len(dataset))
    parts = np.asarray(dataset.parts)
    mirrored = mirrored_parts(parts, dataset.part_names, dataset.geometry.image_size) if parts.shape[1] else parts
    return replace(
        dataset,
        images=copied_images(dataset, everything, copies),
        labels=np.tile(dataset.labels, 2),
        folds=np.tile(dataset.folds, 2),
        parts=np.concatenate([parts, mirrored]),
        fingerprint=digest(dataset.fingerprint, named(copies)),
    )


def copied_chunks(
    dataset: GlimpseDataset, rows: np.ndarray, copies: tuple[ImageCopy, ...], what: str
) -> Iterator[tuple[slice, np.ndarray, ImageCopy]]:
    """Yields every copy of the images ``rows`` (n,), some at a time: their entries, their rows (b,), and the copy.

    A bar tells the progress of ``what`` is made of them.
    """
    with tqdm(total=len(copies) * len(rows), desc=f"{dataset.name}/{dataset.split}: {what}", unit="img") as bar:
        for c, copy in enumerate(copies):
            for start in range(0, len(rows), IMAGES_PER_CHUNK):
                some = rows[start : start + IMAGES_PER_CHUNK]
                first = c * len(rows) + start
                yield slice(first, first + len(some)), some, copy
                bar.update(len(some))
