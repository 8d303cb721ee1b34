"""Photographs changed a little for training the judge: moved, zoomed, mirrored, their colours jittered."""

import math

import numpy as np
from PIL import Image

from glimpse_env.datasets.base import GlimpseDataset, LabelledImages, UnseenImages
from glimpse_env.datasets.cropping import Box, crop, parts_in_crop

MAX_SHIFT = 12 / 128
"""Images are moved by this at most, in image sides."""
ZOOM = (0.85, 1.15)
JITTER = 0.2
"""Brightness and contrast vary by this, each colour by half of it."""


def augmented(dataset: GlimpseDataset, chosen: np.ndarray, rng: np.random.Generator, *, mirror: bool) -> LabelledImages:
    """The images ``chosen`` (n,) of an RGB data set, each changed in its own way.

    What comes in from outside an image is its reflection. With ``mirror`` half of them are mirrored, and a part that
    has a left and a right becomes the other one.
    """
    side = dataset.images.shape[1]
    shift = MAX_SHIFT * side
    padding = math.ceil(side / 2 / ZOOM[0] + shift - side / 2)  # enough for every zoom and shift
    images = np.empty((len(chosen), *dataset.images.shape[1:]), dtype=np.uint8)
    parts = np.empty((len(chosen), *dataset.parts.shape[1:]), dtype=np.float32)
    twins = _mirror_twins(dataset.part_names)
    for index, source in enumerate(chosen):
        box = _random_box(side, padding, shift, rng)
        padded = np.pad(dataset.images[source], ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        image = crop(Image.fromarray(padded).point(_jitter(rng)), box, side)
        seen = parts_in_crop(dataset.parts[source] + np.array([padding, padding, 0]), box, side)
        if mirror and rng.random() < 0.5:
            image = image[:, ::-1]
            seen = seen[twins]
            seen[:, 1] = np.where(seen[:, 2] > 0, side - seen[:, 1], 0)
        images[index], parts[index] = image, seen
    return LabelledImages(images, np.asarray(dataset.labels[chosen]), parts)


def augmented_unseen(dataset: GlimpseDataset, fold: int, rng: np.random.Generator, *, mirror: bool) -> UnseenImages:
    """All images of a training split but those of ``fold``, in random order, each changed in its own way."""
    chosen = rng.permutation(np.flatnonzero(dataset.folds != fold))
    changed = augmented(dataset, chosen, rng, mirror=mirror)
    return UnseenImages(changed.images, changed.labels, np.asarray(dataset.folds[chosen]))


def _random_box(side: int, padding: int, shift: float, rng: np.random.Generator) -> Box:
    """A box in a padded image: zoomed about the centre, then moved."""
    half = side / 2 / rng.uniform(*ZOOM)
    x, y = padding + side / 2 + rng.uniform(-shift, shift, size=2)
    return x - half, y - half, x + half, y + half


def _jitter(rng: np.random.Generator) -> list[int]:
    """Look-up tables of the three colours, one after another, for :meth:`PIL.Image.Image.point`."""
    brightness, contrast = rng.uniform(1 - JITTER, 1 + JITTER, size=2)
    colour = rng.uniform(1 - JITTER / 2, 1 + JITTER / 2, size=(3, 1))
    values = ((np.arange(256) - 127.5) * contrast + 127.5) * brightness * colour  # (3, 256)
    tables: list[int] = np.clip(np.rint(values), 0, 255).astype(int).ravel().tolist()
    return tables


def _mirror_twins(part_names: tuple[str, ...]) -> np.ndarray:
    """(P,) int64: the part that takes each one's place in a mirror, as the left eye does the right eye's."""
    sides = {"left": "right", "right": "left"}
    twins = [" ".join(sides.get(word, word) for word in name.split()) for name in part_names]
    return np.array(
        [part_names.index(twin) if twin in part_names else index for index, twin in enumerate(twins)],
        dtype=np.int64,
    )
