"""Reads sequences from outside: the near-optimal glimpse sequences on CUB that the paper's authors published.

One text file an image: T lines ``row, col``, the top-left pixel of each glimpse in the 128 x 128 crop, then the path of
the image, ``data/birds/train/images/8.png``, whose number is the image's id in images.txt less one.
"""

import logging
import re
from pathlib import Path

import numpy as np

from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.cub import CUB200
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, refuse_special
from glimpse_env.judge.assessment import entropy_of
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.sensing.geometry import LocationGrid
from oracles.demonstrations import Demonstrations, manifest_of

logger = logging.getLogger(__name__)

NAME = "published"
_PAIR = r"\s*(\d{1,6})\s*,\s*(\d{1,6})"
_PAIRS = re.compile(_PAIR)
_SEQUENCE = re.compile(rf"((?:{_PAIR})+)\s*([^\s,]*?(\d{{1,9}})\.(?:png|jpe?g))\s*")
"""Glimpses, then the image's path, with or without a line break between them."""


def is_published(path: str | Path) -> bool:
    """Returns whether ``path`` is something that :func:`read_published` reads: a folder or a text file."""
    return Path(path).is_dir() or (Path(path).is_file() and Path(path).suffix == ".txt")


def read_published(path: str | Path, source: DataSource, judge: Judge) -> Demonstrations:
    """Returns published sequences as demonstrations, as if a policy had recorded them on training images.

    Sequences of images that the training split does not have (another species, or kept for validation) are left
    out, with a warning that says how many. The entropies are those of ``judge``, each image judged by the network
    of its fold; there are no EPE maps.

    Args:
        path: a text file of sequences, or a folder of such files.
        source: CUB-200-2011, cropped.
        judge: of that data set.

    Returns:
        The demonstrations, in the order of their images' ids.

    Raises:
        ConfigurationError: if the data set is another one.
        ArtifactError: naming the file, if there is no sequence, if one is damaged, has another number of glimpses,
            leaves the grid or is there twice, or if none is of a training image.
    """
    source = cropped_cub(source)
    sequences = read_sequences(path, judge.grid, source.geometry.num_glimpses)
    ids = source.image_ids("train")
    known = [identity for identity in sorted(sequences) if identity in set(ids.tolist())]
    if not known:
        raise ArtifactError(
            f"none of the {len(sequences)} sequences in {path} is of a training image of the {len(source.species)} "
            "species at hand; add species to the data set."
        )
    if len(known) < len(sequences):
        logger.warning(
            "%d of the %d sequences in %s are left out: their images are not in %s/train.",
            len(sequences) - len(known),
            len(sequences),
            path,
            source.name,
        )
    train = source.load("train")
    indices = np.searchsorted(ids, known)
    locations = np.array([sequences[identity] for identity in known])
    probabilities = judge_sequences(train, judge, indices, judge.grid.corners[locations])
    entropies = entropy_of(probabilities)  # (N, T)
    manifest = manifest_of("random", source, judge, len(known)) | {
        "policy": NAME,
        "sequences": digest(indices, locations),
    }
    return Demonstrations(indices, locations, entropies.astype(np.float32), None, manifest)


def cropped_cub(source: DataSource) -> CUB200:
    """Returns ``source``, which has to be the data set that the published sequences are of.

    Raises:
        ConfigurationError: if it is another one.
    """
    if not isinstance(source, CUB200) or source.name != CUB200.name:  # CUBFull shows other pixels
        raise ConfigurationError(
            f"published sequences are of cropped CUB-200-2011 images, not of data set {source.name!r}; "
            "take GlimpseCUB-v0, with GLIMPSE_DATA set to the folder that has CUB-200-2011."
        )
    return source


def read_sequences(path: str | Path, grid: LocationGrid, num_glimpses: int) -> dict[int, list[int]]:
    """Returns the grid locations of each sequence in a text file, or in a folder's ``.txt`` files, by CUB image id.

    Raises:
        ArtifactError: as :func:`read_published`.
    """
    path = Path(path)
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    grid = grid.levels[0]  # with zooms the narrowest windows, which come first
    sequences: dict[int, list[int]] = {}
    came_from: dict[int, Path] = {}
    for file in files:
        for identity, corners in _parsed(file):
            if len(corners) != num_glimpses:
                raise ArtifactError(
                    f"{file}: the sequence of image {identity} has {len(corners)} glimpses, not {num_glimpses}; "
                    "mend or remove the file."
                )
            locations = grid.nearest(corners)
            off = (grid.corners[locations] != corners).any(axis=1)
            if off.any():
                row, col = corners[off][0]
                raise ArtifactError(
                    f"{file}: glimpse ({row}, {col}) is not on the grid of rows and columns 0, {grid.stride}, .., "
                    f"{grid.steps[-1]}; mend or remove the file."
                )
            if identity in sequences:
                raise ArtifactError(
                    f"{file}: image {identity} has a sequence in {came_from[identity]} already; keep one of them."
                )
            sequences[identity], came_from[identity] = locations.tolist(), file
    if not sequences:
        raise ArtifactError(f"{path} holds no sequence: no .txt file in it; name the folder that has 0.txt, 1.txt, ...")
    return sequences


def _parsed(file: Path) -> list[tuple[int, np.ndarray]]:
    """Returns image ids and corners (T, 2) int64 in pixels of the sequences in a file."""
    try:
        refuse_special(file)
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"{file} cannot be read ({error}); mend or remove it.") from error
    sequences, end = [], 0
    for match in _SEQUENCE.finditer(text):
        if match.start() != end:
            break
        corners = np.array(_PAIRS.findall(match[1]), dtype=np.int64)
        sequences.append((int(match[5]) + 1, corners))
        end = match.end()
    if end < len(text) or not sequences:
        line = text.count("\n", 0, end) + 1
        raise ArtifactError(
            f"{file}:{line}: no sequence from here: {text[end : end + 40]!r} is not lines of `row, col` and then the "
            "image's path; mend or remove the file."
        )
    return sequences
