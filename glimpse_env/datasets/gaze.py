"""CUB-GHA: gaze of people who told the species of CUB-200-2011 apart (Rong et al., BMVC 2021, arXiv 2111.01628).

Five text files, one a run. A line of them is one look at a photograph: the image's id as in images.txt, width and
height of the photograph, then x, y and duration of each fixation in order, in pixels and milliseconds, all separated by
commas. An image may have no line in a run, or several.

Lines are in the order in which the photographs were shown, as high as the screen and in its middle. In runs 2 to 5 more
than half of them begin with the fixation that the line before ends with: the same milliseconds, at the same place of
the screen. It was aimed at the photograph before, so it is left out of the look that it begins.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glimpse_env.datasets.base import DataSource, Split, data_root
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.texts import read_text
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import digest

RUNS = (1, 2, 3, 4, 5)
"""Runs of the study, each a file ``Fixation_run<number>.txt``."""
FOLDERS = ("cub_gha*", "CUB-GHA*/data_5runs")
"""Where the files may be below a folder of data sets; the second is the released repository."""
SAME_PLACE = 0.02
"""Distance below which fixations are at the same place, by row and by column, in heights of the screen."""
REMEDY = "get CUB-GHA from https://github.com/yaorong0921/CUB-GHA"
"""How to get the gaze, for messages."""


@dataclass(frozen=True, eq=False)
class Look:
    """The fixations of one look at a picture, in order."""

    run: int
    """Run of the study, one of :data:`RUNS`."""
    size: tuple[float, float]
    """Height and width of the picture in pixels."""
    points: np.ndarray
    """(F, 2) float64: row and column in pixels of the picture, pixel i covering i to i + 1."""
    durations: np.ndarray
    """(F,) float64 ms."""


def find_gaze(source: DataSource) -> Path:
    """Returns the folder of the gaze on a data set's photographs: beside CUB-200-2011 or in the folder of data sets.

    Raises:
        ConfigurationError: if the data set is no CUB-200-2011.
        DatasetNotFoundError: if there is no such folder.
    """
    if not isinstance(source, CUB200):
        raise ConfigurationError(f"human gaze is of CUB-200-2011, not of data set {source.name!r}; take GlimpseCUB-v0.")
    roots = dict.fromkeys((data_root(source.root), source.folder.parent))
    for root in roots:
        for folder in (root, *(found for pattern in FOLDERS for found in sorted(root.glob(pattern)))):
            if os.path.isfile(_file(folder, RUNS[0])):
                return folder
    places = " or ".join(str(root / pattern) for root in roots for pattern in FOLDERS)
    raise DatasetNotFoundError(
        f"human gaze on CUB-200-2011 was not found: no {_file(Path(), RUNS[0])} in {places}; {REMEDY} and put it there."
    )


def read_gaze(folder: str | Path) -> dict[int, list[Look]]:
    """Returns the looks at each photograph by CUB image id, those of the first run first.

    A fixation that lasts from the photograph before is left out, and a look that has no other.

    Raises:
        DatasetNotFoundError: if the file of a run is missing.
        DatasetFormatError: naming file and line, if a line cannot be read.
    """
    looks: dict[int, list[Look]] = {}
    for run in RUNS:
        path = _file(Path(folder), run)
        before: Look | None = None
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                identity, look = _parsed(line, run)
            except ValueError as error:
                raise DatasetFormatError(f"{path}:{number}: {line!r} cannot be read: {error}; {REMEDY}.") from error
            own = slice(int(before is not None and _lasts(before, look)), None)
            if len(look.points[own]):
                looks.setdefault(identity, []).append(Look(run, look.size, look.points[own], look.durations[own]))
            before = look
    return looks


class CUBGaze:
    """Human gaze on the images of CUB-200-2011, cropped or whole.

    Args:
        source: the data set.

    Raises:
        ConfigurationError: if it is another one.
        DatasetNotFoundError: if the files of the gaze are missing.
        DatasetFormatError: naming file and line, if a line cannot be read.
    """

    def __init__(self, source: DataSource):
        folder = find_gaze(source)
        assert isinstance(source, CUB200)
        self.source = source
        self._looks = read_gaze(folder)

    def at(self, split: Split, index: int) -> list[Look]:
        """Returns the looks at an image in its own pixels, with the fixations that fall into it.

        Looks of which none does are left out, so that the list is empty where nobody looked at the image.
        """
        side = float(self.source.image_shape[0])
        looks = []
        for look in self._looks.get(int(self.source.image_ids(split)[index]), []):
            points = self.source.to_image(split, index, look.points, look.size)
            inside = ((points >= 0) & (points < side)).all(axis=1)
            if inside.any():
                looks.append(Look(look.run, (side, side), points[inside], look.durations[inside]))
        return looks


def gaze_identity(source: DataSource) -> str:
    """Returns a fingerprint of the files of the gaze on a data set's photographs; raises what :class:`CUBGaze` does."""
    folder = find_gaze(source)
    return digest(*(_text(_file(folder, run)).encode() for run in RUNS))


def _file(folder: Path, run: int) -> Path:
    return folder / f"Fixation_run{run}.txt"


def _text(path: Path) -> str:
    return read_text(path, REMEDY)


def _lasts(before: Look, look: Look) -> bool:
    """Returns whether the last fixation of the look before is the first one of a look."""
    places = [
        (point - np.array(one.size) / 2) / one.size[0]
        for one, point in ((before, before.points[-1]), (look, look.points[0]))
    ]
    return bool(before.durations[-1] == look.durations[0] and np.abs(places[0] - places[1]).max() < SAME_PLACE)


def _parsed(line: str, run: int) -> tuple[int, Look]:
    """Returns image id and look of a line; raises a ValueError that says what is wrong with it."""
    identity, *values = line.split(",")
    numbers = np.array([float(value) for value in values])
    if len(numbers) < 5 or (len(numbers) - 2) % 3:
        raise ValueError(f"{len(numbers)} numbers after the id are not width, height and three a fixation")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    (width, height), fixations = numbers[:2], numbers[2:].reshape(-1, 3)
    if width <= 0 or height <= 0:
        raise ValueError(f"a photograph of {width:g} x {height:g} pixels is empty")
    if (fixations[:, 2] < 0).any():
        raise ValueError("a duration is negative")
    return int(identity), Look(run, (float(height), float(width)), fixations[:, 1::-1].copy(), fixations[:, 2])
