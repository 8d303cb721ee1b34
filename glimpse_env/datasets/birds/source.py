"""Drawn birds: 48 species in 8 families, made so that where to look next depends on what was seen.

Any piece of plumage tells a bird's family. The six species of a family differ in one small mark only, on
another part of the body for each family (beak, crown, wing, tail, feet, breast, eye, vent). So the family
tells which part to look for, and the piece that was seen tells where it is. The six marks share their colours,
so that a sliver of one does not tell them apart. Nothing is downloaded: images are
painted on first use.

The same birds are painted at 224 x 224 as well, for glimpses like CelebA-HQ's, and labelled by whether they have a
certain mark instead of by their species.
"""

import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np

from glimpse_env.checks import one_of, whole_number
from glimpse_env.datasets.base import DataSource, LabelledImages, Split
from glimpse_env.datasets.birds.anatomy import PART_NAMES, Pose, extent
from glimpse_env.datasets.birds.drawing import Drawing, Scene, paint
from glimpse_env.datasets.birds.scenery import BACKDROPS, PERCHES, SIZE, Light, Scenery
from glimpse_env.datasets.birds.species import ATTRIBUTES, SPECIES
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest
from glimpse_env.processes import become_worker
from glimpse_env.sensing.geometry import Geometry

DRAWING = 2
"""Version of the painting; part of the fingerprint."""

IMAGES_PER_CHUNK = 64
"""Images that a worker paints at a time."""
FEWEST_FOR_WORKERS = 500
"""Below this many images, starting workers costs more than it saves."""
IMAGES_PER_PASS = 9600
"""Most images of the usual size in one pass of training the judge, and fewer larger ones; more would need gigabytes of
memory."""
SPREAD = 28.0
"""The middle of a bird is within this many units of the middle of the image."""
EDGE = 2.5
"""Units that every bird keeps free along the image's border."""
GEOMETRIES = {
    SIZE: Geometry(image_size=SIZE, glimpse_size=32, stride=8, num_glimpses=5),
    224: Geometry(image_size=224, glimpse_size=16, stride=208 / 49, num_glimpses=5),  # CelebA-HQ's
}
"""Geometries by the size of the images in pixels."""

SPLIT_STARTS: dict[Split, int] = {
    "train": 0,
    "val": 10_000_000,
    "test": 20_000_000,
    "judge": 30_000_000,
    "oracle": 40_000_000,
}
"""Index of each split's first image, so far apart that no two splits share one."""


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draws everything about a picture but the species, which it does not depend on."""
    scenery = Scenery(
        backdrop=BACKDROPS[int(rng.integers(len(BACKDROPS)))],
        perch=PERCHES[int(rng.integers(len(PERCHES)))],
        perch_slope=float(rng.uniform(-0.12, 0.12)),
        clutter=int(rng.integers(3, 12)),
        light=Light(
            brightness=float(rng.uniform(0.8, 1.1)),
            warmth=float(rng.uniform(-1, 1)),
            slope=(float(rng.uniform(-0.14, 0.14)), float(rng.uniform(-0.14, 0.14))),
        ),
        texture_seed=int(rng.integers(2**32)),
    )
    hue, richness = float(rng.uniform(-0.02, 0.02)), float(rng.uniform(0.85, 1.1))
    return Scene(pose=sample_pose(rng), scenery=scenery, hue=hue, richness=richness)


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draws a posture, and a place within `SPREAD` of the middle at which the whole bird is inside the image."""
    tilt = float(rng.uniform(-0.35, 0.65))
    centred = Pose(
        row=SIZE / 2,
        col=SIZE / 2,
        scale=float(rng.uniform(0.95, 1.25)),
        mirrored=bool(rng.random() < 0.5),
        tilt=tilt,
        head=0.35 * tilt + float(rng.uniform(-0.25, 0.25)),
        tail=float(rng.uniform(-0.2, 0.4)),
        wing=float(rng.uniform(-0.04, 0.1)),
    )
    top, bottom, left, right = extent(centred)
    while True:
        angle = rng.uniform(0, 2 * math.pi)
        distance = SPREAD * rng.random() ** 0.45  # a little denser towards the rim than evenly
        down = 4 + distance * math.sin(angle)  # most of a bird is above the middle of its body
        across = distance * math.cos(angle)
        if min(top + down, left + across) >= EDGE and max(bottom + down, right + across) <= SIZE - EDGE:
            return replace(centred, row=centred.row + down, col=centred.col + across)


def label_of(seed: int, index: int) -> int:
    """Returns the species of a picture: each run of 48 indices from a multiple of 48 is a shuffle of all species."""
    block, place = divmod(index, len(SPECIES))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, block, 0])))
    return int(rng.permutation(len(SPECIES))[place])


def draw(seed: int, index: int, size: int = SIZE) -> tuple[Drawing, int]:
    """Paints picture number `index` of the data set with this seed, `size` pixels high; nothing else affects it.

    Returns:
        The picture and its label, an index into `SPECIES`.
    """
    label = label_of(seed, index)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 1])))
    return paint(sample_scene(rng), SPECIES[label].plumage, size), label


def draw_many(seed: int, start: int, count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paints pictures number `start` to `start + count - 1`.

    Returns:
        images (N, size, size, 3) uint8, labels (N,) int64 and parts (N, P, 3) float32.
    """
    drawings, labels = zip(*(draw(seed, index, size) for index in range(start, start + count)), strict=True)
    images, parts = ([getattr(drawing, field) for drawing in drawings] for field in ("image", "parts"))
    return np.stack(images), np.array(labels, dtype=np.int64), np.stack(parts)


def draw_chunks(
    seed: int, start: int, count: int, workers: int | None = None, size: int = SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields what `draw_many` returns, at most `IMAGES_PER_CHUNK` pictures each time, in order, by `workers` processes.

    By default up to four processes paint where there are many pictures and processes fork. Elsewhere a new process
    would run the caller's script again.
    """
    if workers is None:
        forks = sys.platform == "linux" and not multiprocessing.current_process().daemon
        workers = min(os.cpu_count() or 1, 4) if forks and count >= FEWEST_FOR_WORKERS else 1
    starts = range(start, start + count, IMAGES_PER_CHUNK)
    counts = [min(IMAGES_PER_CHUNK, start + count - first) for first in starts]
    if workers == 1:
        yield from map(draw_many, [seed] * len(starts), starts, counts, [size] * len(starts))
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with warnings.catch_warnings(), ProcessPoolExecutor(workers, context, become_worker) as pool:
        # Python 3.12 warns of locks that other threads hold at a fork; workers use only NumPy and Pillow.
        warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
        yield from pool.map(draw_many, [seed] * len(starts), starts, counts, [size] * len(starts))


class Birds(DataSource):
    """Drawn birds, 128 x 128 RGB, 48 species; five glimpses of 32 x 32.

    Splits of any size agree on the images that they share, and different splits share none. At 224 x 224 the same
    birds are painted with more pixels, and glimpses are CelebA-HQ's: 16 x 16, at 50 x 50 locations 4 or 5 pixels apart.

    Args:
        seed: seed of all pictures.
        num_train: images of the training split.
        num_val: images of the validation split.
        num_test: images of the test split.
        num_judge: images that the judge is trained on.
        num_oracle: images that an amortised oracle is trained on.
        size: side of the images in pixels, 128 or 224.
        attribute: one of :data:`ATTRIBUTES`, ``"eye ring"`` for instance; the classes then are not the species but two,
            ``"no eye ring"`` and ``"eye ring"``.

    Raises:
        ConfigurationError: if a number is out of range or there is no such attribute.
    """

    mirror_symmetric = True
    name = "birds"
    num_folds = 1
    class_names = tuple(species.name for species in SPECIES)
    part_names = PART_NAMES

    def __init__(
        self,
        seed: int = 0,
        num_train: int = 4800,
        num_val: int = 960,
        num_test: int = 1920,
        num_judge: int = 19200,
        num_oracle: int = 19200,
        size: int = SIZE,
        attribute: str | None = None,
    ) -> None:
        self.seed = whole_number("seed", seed, 0)
        sizes, most = (num_train, num_val, num_test, num_judge, num_oracle), SPLIT_STARTS["val"]
        self._sizes = {
            split: whole_number(f"num_{split}", number, 1, most)
            for split, number in zip(SPLIT_STARTS, sizes, strict=True)
        }
        side = whole_number("size", size, 1)
        if side not in GEOMETRIES:
            raise ConfigurationError(f"size={size} must be one of {', '.join(map(str, GEOMETRIES))} pixels.")
        self.geometry, self.image_shape = GEOMETRIES[side], (side, side, 3)
        if attribute is not None:
            one_of("attribute", attribute, ATTRIBUTES)
            self.class_names = f"no {attribute}", attribute
        self.attribute = attribute

    @cached_property
    def fingerprint(self) -> str:
        birds = (self.name, DRAWING, [asdict(species) for species in SPECIES], PART_NAMES, self.seed)
        return digest(*birds, *self._variant.items())

    @property
    def options(self) -> dict[str, Any]:
        return {"seed": self.seed, **{f"num_{split}": size for split, size in self._sizes.items()}, **self._variant}

    @property
    def _variant(self) -> dict[str, Any]:
        """Options younger than the data set where they are not the defaults: without them it keeps its fingerprint."""
        return self.unless_default({"size": self.image_shape[0], "attribute": self.attribute})

    def size(self, split: Split) -> int:
        return self._sizes[split]

    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        done = 0
        classes = np.arange(len(SPECIES)) if self.attribute is None else ATTRIBUTES[self.attribute]
        chunks = draw_chunks(self.seed, SPLIT_STARTS[split], len(arrays.labels), size=self.image_shape[0])
        for images, species, parts in chunks:
            here = slice(done, done + len(species))
            arrays.images[here], arrays.labels[here], arrays.parts[here] = images, classes[species], parts
            done = here.stop
            progress(len(species))

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._mirrored("judge", rng)

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._mirrored("oracle", rng)

    def _mirrored(self, split: Split, rng: np.random.Generator) -> LabelledImages:
        """Draws images of a split in random order, half of them mirrored."""
        dataset, side = self.load(split), self.image_shape[0]
        drawn = dataset.take(rng.permutation(len(dataset))[: IMAGES_PER_PASS * SIZE**2 // side**2])
        mirrored = rng.random(len(drawn)) < 0.5
        drawn.images[mirrored] = drawn.images[mirrored, :, ::-1]
        drawn.parts[mirrored, :, 1] = side - drawn.parts[mirrored, :, 1]
        return drawn
