"""The 48 species of drawn birds: 8 families, in each of which the species differ in one mark."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from glimpse_env.datasets.birds.drawing import Marks, Palette, Plumage


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
    """For each species its mark on `part` and the first word of its name."""


@dataclass(frozen=True)
class Species:
    """One class of the data set."""

    name: str
    family: str
    part: str
    """The part that tells it from the others of its family; one of `PART_NAMES`."""
    plumage: Plumage


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
"""Marks that some species have and others lack, by part and mark (``"eye ring"``, ``"wing bar"``): (48,) int64, 1 for
each species that has the mark, else 0."""
