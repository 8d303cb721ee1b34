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
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from glimpse_env.checks import one_of, whole_number
from glimpse_env.datasets.base import DataSource, LabelledImages, Split, UnseenImages
from glimpse_env.datasets.birds.drawing import PART_NAMES, Marks, Palette, Plumage, Pose, Scene, extent, paint
from glimpse_env.datasets.birds.scenery import BACKDROPS, PERCHES, SIZE, Light, Scenery
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry

DRAWING = 2
"""Version of the painting; part of the fingerprint."""

CHUNK = 64
"""Images that a worker paints at a time."""
SERIAL = 500
"""Below this many images, starting workers costs more than it saves."""
PASS = 9600
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
"""By the size of the images in pixels."""

SPLIT_STARTS: dict[Split, int] = {
    "train": 0,
    "val": 10_000_000,
    "test": 20_000_000,
    "judge": 30_000_000,
    "oracle": 40_000_000,
}
"""Index of each split's first image, so far apart that no two splits share one."""


@dataclass(frozen=True)
class Family:
    """Six species that share their plumage."""

    name: str
    part: str
    """The part that tells the species apart."""
    palette: Palette
    pattern: str
    marks: Marks
    """The family's marks; the one on `part` is the first species'."""
    variants: tuple[tuple[str, str], ...]
    """A species each: its mark on `part` and the first word of its name."""


@dataclass(frozen=True)
class Species:
    """One class of the data set."""

    name: str
    family: str
    part: str
    """The part that tells it from the others of its family; one of `PART_NAMES`."""
    plumage: Plumage


@dataclass(frozen=True)
class Bird:
    """One labelled picture."""

    image: np.ndarray
    """(size, size, 3) uint8."""
    label: int
    """Index into `SPECIES`."""
    parts: np.ndarray
    """(P, 3) float32, in the order of `PART_NAMES`: row and column in pixels from the upper left corner of
    the image, and 1 where visible."""


FAMILIES = (
    Family(
        name="Emberling",
        part="beak",
        palette=Palette(
            back=(158, 34, 44),
            flank=(196, 50, 50),
            belly=(232, 128, 104),
            head=(188, 36, 44),
            throat=(216, 84, 72),
            wing=(118, 30, 40),
            flight=(72, 26, 34),
            tail=(128, 30, 40),
        ),
        pattern="scallops",
        marks=Marks(beak="cone", crown="", wing="", tail="tip", feet="black", breast="", eye="", vent=""),
        variants=(
            ("cone", "Cone-billed"),
            ("needle", "Needle-billed"),
            ("hook", "Hook-billed"),
            ("sickle", "Sickle-billed"),
            ("spoon", "Spoon-billed"),
            ("great", "Great-billed"),
        ),
    ),
    Family(
        name="Azurine",
        part="crown",
        palette=Palette(
            back=(40, 84, 176),
            flank=(74, 126, 208),
            belly=(176, 208, 236),
            head=(36, 74, 168),
            throat=(120, 170, 226),
            wing=(48, 98, 190),
            flight=(24, 46, 112),
            tail=(36, 72, 160),
        ),
        pattern="smooth",
        marks=Marks(beak="needle", crown="spikes", wing="bar", tail="", feet="black", breast="", eye="", vent=""),
        variants=(
            ("spikes", "Crowned"),
            ("point", "Flame-crested"),
            ("fan", "Fan-crested"),
            ("plume", "Quill-plumed"),
            ("horns", "Horned"),
            ("turban", "Turbaned"),
        ),
    ),
    Family(
        name="Verdlet",
        part="wing",
        palette=Palette(
            back=(52, 122, 62),
            flank=(96, 160, 74),
            belly=(198, 214, 124),
            head=(44, 108, 60),
            throat=(214, 222, 140),
            wing=(64, 132, 66),
            flight=(30, 72, 48),
            tail=(44, 100, 58),
        ),
        pattern="smooth",
        marks=Marks(beak="cone", crown="", wing="bar", tail="bars", feet="yellow", breast="", eye="ring", vent=""),
        variants=(
            ("bar", "Bar-winged"),
            ("bars", "Twin-barred"),
            ("spot", "Moon-winged"),
            ("mirror", "Mirror-winged"),
            ("chequers", "Chequered"),
            ("petal", "Petal-winged"),
        ),
    ),
    Family(
        name="Sunfinch",
        part="tail",
        palette=Palette(
            back=(226, 172, 40),
            flank=(244, 200, 56),
            belly=(252, 228, 132),
            head=(48, 42, 44),
            throat=(48, 42, 44),
            wing=(206, 146, 40),
            flight=(62, 50, 44),
            tail=(196, 146, 52),
        ),
        pattern="stripes",
        marks=Marks(beak="hook", crown="", wing="", tail="tip", feet="red", breast="", eye="gold", vent=""),
        variants=(
            ("tip", "Snow-tipped"),
            ("girdle", "Girdle-tailed"),
            ("bars", "Ladder-tailed"),
            ("eye", "Peacock-tailed"),
            ("fork", "Swallow-tailed"),
            ("lozenge", "Kite-tailed"),
        ),
    ),
    Family(
        name="Mistdove",
        part="feet",
        palette=Palette(
            back=(132, 140, 152),
            flank=(164, 170, 180),
            belly=(214, 218, 222),
            head=(112, 122, 138),
            throat=(196, 202, 208),
            wing=(142, 150, 162),
            flight=(84, 92, 106),
            tail=(110, 118, 132),
        ),
        pattern="scallops",
        marks=Marks(beak="sickle", crown="", wing="mirror", tail="", feet="red-yellow", breast="", eye="", vent=""),
        variants=(
            ("red-yellow", "Flame-footed"),
            ("red-blue", "Harlequin-footed"),
            ("yellow-red", "Coral-booted"),
            ("yellow-blue", "Puddle-booted"),
            ("blue-red", "Cherry-slippered"),
            ("blue-yellow", "Lemon-slippered"),
        ),
    ),
    Family(
        name="Thrushling",
        part="breast",
        palette=Palette(
            back=(112, 74, 46),
            flank=(206, 172, 128),
            belly=(244, 234, 212),
            head=(126, 84, 52),
            throat=(246, 236, 212),
            wing=(136, 92, 56),
            flight=(78, 52, 38),
            tail=(116, 76, 48),
        ),
        pattern="speckles",
        marks=Marks(beak="cone", crown="", wing="", tail="", feet="white", breast="spots", eye="brow", vent=""),
        variants=(
            ("spots", "Spotted"),
            ("streaks", "Streaked"),
            ("chevrons", "Arrow-breasted"),
            ("heart", "Heart-breasted"),
            ("bars", "Barred"),
            ("crescent", "Crescent"),
        ),
    ),
    Family(
        name="Plumwren",
        part="eye",
        palette=Palette(
            back=(104, 54, 128),
            flank=(150, 92, 168),
            belly=(222, 186, 220),
            head=(132, 76, 152),
            throat=(186, 136, 194),
            wing=(94, 46, 116),
            flight=(54, 28, 76),
            tail=(100, 50, 122),
        ),
        pattern="stripes",
        marks=Marks(beak="needle", crown="", wing="bars", tail="red", feet="green", breast="", eye="ring", vent=""),
        variants=(
            ("ring", "Spectacled"),
            ("goggle", "Goggled"),
            ("mask", "Masked"),
            ("brow", "High-browed"),
            ("cheek", "Pale-cheeked"),
            ("tear", "Weeping"),
        ),
    ),
    Family(
        name="Piedling",
        part="vent",
        palette=Palette(
            back=(44, 42, 50),
            flank=(240, 238, 232),
            belly=(250, 248, 242),
            head=(40, 38, 46),
            throat=(246, 244, 238),
            wing=(58, 56, 66),
            flight=(34, 32, 40),
            tail=(46, 44, 52),
        ),
        pattern="speckles",
        marks=Marks(beak="spoon", crown="point", wing="", tail="", feet="black", breast="", eye="", vent="red-yellow"),
        variants=(
            ("red-yellow", "Sunset-vented"),
            ("red-blue", "Twilight-vented"),
            ("yellow-red", "Harvest-vented"),
            ("yellow-blue", "Seaside-vented"),
            ("blue-red", "Daybreak-vented"),
            ("blue-yellow", "Iris-vented"),
        ),
    ),
)


def _species(family: Family) -> Iterator[Species]:
    for mark, adjective in family.variants:
        marks = replace(family.marks, **{family.part: mark})
        plumage = Plumage(family.palette, family.pattern, marks)
        yield Species(f"{adjective} {family.name}", family.name, family.part, plumage)


SPECIES: tuple[Species, ...] = tuple(species for family in FAMILIES for species in _species(family))
"""All species; a label is an index into it."""


def _attributes() -> dict[str, np.ndarray]:
    wearers: dict[str, np.ndarray] = {}
    for label, species in enumerate(SPECIES):
        for part, mark in asdict(species.plumage.marks).items():
            if mark:
                wearers.setdefault(f"{part} {mark}", np.zeros(len(SPECIES), dtype=np.int64))[label] = 1
    return {name: has for name, has in sorted(wearers.items()) if not has.all()}


ATTRIBUTES = _attributes()
"""What some species have and others do not, a part and its mark (``"eye ring"``, ``"wing bar"``): for each species 1
where it has it, else 0, (48,) int64."""


def sample_scene(rng: np.random.Generator) -> Scene:
    """Everything about a picture but the species, which it does not depend on."""
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
    """A posture, and a place within `SPREAD` of the middle at which the whole bird is inside the image."""
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
    """The species of a picture: each run of 48 indices from a multiple of 48 is a shuffle of all species."""
    block, place = divmod(index, len(SPECIES))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, block, 0])))
    return int(rng.permutation(len(SPECIES))[place])


def draw(seed: int, index: int, size: int = SIZE) -> Bird:
    """Picture number `index` of the data set with this seed, `size` pixels high, whatever else was drawn before."""
    label = label_of(seed, index)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 1])))
    drawing = paint(sample_scene(rng), SPECIES[label].plumage, size)
    return Bird(drawing.image, label, drawing.parts)


def draw_many(seed: int, start: int, count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures number `start` to `start + count - 1`.

    Returns:
        images (N, size, size, 3) uint8, labels (N,) int64 and parts (N, P, 3) float32.
    """
    birds = [draw(seed, index, size) for index in range(start, start + count)]
    return (
        np.stack([bird.image for bird in birds]),
        np.array([bird.label for bird in birds], dtype=np.int64),
        np.stack([bird.parts for bird in birds]),
    )


def draw_chunks(
    seed: int, start: int, count: int, workers: int | None = None, size: int = SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`draw_many` in pieces of at most `CHUNK` pictures, in order, by `workers` processes.

    By default up to four draw where there is much to draw and a process can be forked. Elsewhere a new
    process would run the caller's script again, which is not ours to ask for.
    """
    if workers is None:
        forks = sys.platform == "linux" and not multiprocessing.current_process().daemon
        workers = min(os.cpu_count() or 1, 4) if forks and count >= SERIAL else 1
    starts = range(start, start + count, CHUNK)
    counts = [min(CHUNK, start + count - first) for first in starts]
    if workers == 1:
        yield from map(draw_many, [seed] * len(starts), starts, counts, [size] * len(starts))
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with warnings.catch_warnings(), ProcessPoolExecutor(workers, context) as pool:
        # Python 3.12 warns of locks that other threads hold at a fork; workers use only NumPy and Pillow.
        warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
        yield from pool.map(draw_many, [seed] * len(starts), starts, counts, [size] * len(starts))


class Birds(DataSource):
    """Drawn birds, 128 x 128 RGB, 48 species; five glimpses of 32 x 32.

    Splits of any size agree on the images that they share, and different splits share none. At 224 x 224 the same
    birds are painted with more pixels, and glimpses are CelebA-HQ's: 16 x 16, at 50 x 50 locations 4 or 5 pixels apart.

    Args:
        seed: of all pictures.
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
        sizes: dict[Split, int] = {
            "train": num_train,
            "val": num_val,
            "test": num_test,
            "judge": num_judge,
            "oracle": num_oracle,
        }
        most = SPLIT_STARTS["val"]
        self._sizes = {split: whole_number(f"num_{split}", number, 1, most) for split, number in sizes.items()}
        side = whole_number("size", size, 1)
        if side not in GEOMETRIES:
            raise ConfigurationError(f"size={size} must be one of {', '.join(map(str, GEOMETRIES))} pixels.")
        self.geometry, self.image_shape = GEOMETRIES[side], (side, side, 3)
        if attribute is not None:
            one_of("attribute", attribute, ATTRIBUTES)
        self.attribute = attribute

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.attribute is not None:
            return f"no {self.attribute}", self.attribute
        return tuple(species.name for species in SPECIES)

    @property
    def part_names(self) -> tuple[str, ...]:
        return PART_NAMES

    @cached_property
    def fingerprint(self) -> str:
        birds = (self.name, DRAWING, [asdict(species) for species in SPECIES], PART_NAMES, self.seed)
        return digest(*birds, *self._variant.items())

    @property
    def options(self) -> dict[str, Any]:
        return {"seed": self.seed, **{f"num_{split}": size for split, size in self._sizes.items()}, **self._variant}

    @property
    def _variant(self) -> dict[str, Any]:
        """Size and attribute where they are not the usual ones, whose results are older than these arguments."""
        size = {"size": self.image_shape[0]} if self.image_shape[0] != SIZE else {}
        return size | ({"attribute": self.attribute} if self.attribute is not None else {})

    def size(self, split: Split) -> int:
        return self._sizes[split]

    def fill(
        self,
        split: Split,
        images: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        parts: np.ndarray,
        progress: Callable[[int], object],
    ) -> None:
        done = 0
        classes = np.arange(len(SPECIES)) if self.attribute is None else ATTRIBUTES[self.attribute]
        chunks = draw_chunks(self.seed, SPLIT_STARTS[split], len(labels), size=self.image_shape[0])
        for some_images, species, some_parts in chunks:
            here = slice(done, done + len(species))
            images[here], labels[here], parts[here] = some_images, classes[species], some_parts
            done = here.stop
            progress(len(species))

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._mirrored("judge", rng)

    def unseen_images(self, fold: int, rng: np.random.Generator) -> UnseenImages:
        fresh = self._mirrored("oracle", rng)
        return UnseenImages(fresh.images, fresh.labels, np.full(len(fresh.labels), -1))

    def _mirrored(self, split: Split, rng: np.random.Generator) -> LabelledImages:
        """Some images of a split in random order, half of them mirrored."""
        dataset, side = self.load(split), self.image_shape[0]
        chosen = rng.permutation(len(dataset))[: PASS * SIZE**2 // side**2]
        images, parts = dataset.images[chosen], dataset.parts[chosen]
        mirrored = rng.random(len(chosen)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        parts[mirrored, :, 1] = side - parts[mirrored, :, 1]
        return LabelledImages(images, dataset.labels[chosen], parts)
