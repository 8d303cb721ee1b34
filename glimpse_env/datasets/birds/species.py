"""The 48 species of drawn birds: 8 families, in each of which the species differ in one mark."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from glimpse_env.datasets.birds import read_table
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


FAMILIES = tuple(
    Family(
        name=family["name"],
        part=family["part"],
        palette=Palette(**{part: tuple(colour) for part, colour in family["palette"].items()}),
        pattern=family["pattern"],
        marks=Marks(**family["marks"]),
        variants=tuple((mark, adjective) for mark, adjective in family["variants"]),
    )
    for family in read_table("families")
)


SPECIES = tuple(
    Species(
        name=f"{adjective} {family.name}",
        family=family.name,
        part=family.part,
        plumage=Plumage(family.palette, family.pattern, replace(family.marks, **{family.part: mark})),
    )
    for family in FAMILIES
    for mark, adjective in family.variants
)
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
