"""Text files of data sets, damaged in every way: the same data set as before, or one error that names the file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse_env.datasets.celeba import CelebAHQ
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.digits import ClutteredMNIST
from glimpse_env.datasets.gaze import CUBGaze, gaze_identity
from glimpse_env.errors import ConfigurationError, DatasetError, DatasetFormatError, DatasetNotFoundError
from tests.support.tiny_data import write_tiny_celeba, write_tiny_cub, write_tiny_gaze, write_tiny_mnist
from tests.support.toy import SMALL_CELEBA

CUB_TEXTS = (
    *("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt"),
    *("parts/parts.txt", "parts/part_locs.txt"),
)
CELEBA_TEXT = "CelebAMask-HQ/CelebAMask-HQ-attribute-anno.txt"
GAZE_TEXT = "cub_gha_tiny/Fixation_run2.txt"
TEXTS = (*(f"CUB_200_2011/{name}" for name in CUB_TEXTS), CELEBA_TEXT, GAZE_TEXT)
NAMED = {
    "CUB_200_2011/images.txt": ["images.txt"],  # others name images that it lacks
    "CUB_200_2011/classes.txt": ["classes.txt"],
    "CUB_200_2011/image_class_labels.txt": ["classes.txt", "labels.txt"],
    "CUB_200_2011/train_test_split.txt": ["classes.txt", "split.txt"],  # a class without a training image
    "CUB_200_2011/parts/parts.txt": ["parts.txt", "part_locs.txt"],
    CELEBA_TEXT: [CELEBA_TEXT, "attribute='Smiling' must be one of"],
}
"""What a refusal may name, where it is not the text itself."""
BOM = "\ufeff"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the tiny data sets."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_cub(root, species=2)
    write_tiny_gaze(root)
    write_tiny_celeba(root)
    write_tiny_mnist(root)
    return root


def source_of(world: Path, text: str) -> Any:
    """Reads the data set that a text belongs to, its images too."""
    if text == CELEBA_TEXT:
        celeba = CelebAHQ(world, **SMALL_CELEBA)
        return celeba, celeba.fingerprint
    cub = CUB200(world)
    if text == GAZE_TEXT:
        gaze = CUBGaze(cub)
        return gaze, [len(gaze.at("train", index)) for index in range(cub.size("train"))], len(gaze_identity(cub))
    images = [cub.square_of(split, index) for split in ("train", "val", "test") for index in range(cub.size(split))]
    assert all(pixels.shape == (128, 128, 3) and np.isfinite(parts).all() for pixels, parts in images)
    return cub, cub.fingerprint, cub.image_ids("train").tolist()


def read(world: Path, text: str, content: bytes) -> Any:
    """What is read where ``text`` holds ``content``; None where that is refused by name."""
    path = world / text
    before = path.read_bytes()
    path.write_bytes(content)
    refusal = ""
    try:
        return source_of(world, text)[1:]
    except (DatasetError, ConfigurationError) as error:
        refusal = str(error)
    finally:
        path.write_bytes(before)
    assert any(name in refusal for name in NAMED.get(text, [text])), refusal
    return None


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: BOM + text,
        lambda text: text + "\n",
        lambda text: text + "\n \t\n\n",
        lambda text: text.removesuffix("\n"),
        lambda text: text.replace("\n", "\r\n") + "\r\n",
        lambda text: BOM + text.replace("\n", "\r\n") + "\r\n\r\n",
    ],
    ids=["mark", "blank line", "blank lines", "no last line end", "carriage returns", "all"],
)
def test_what_editors_do_to_texts_changes_nothing(
    world: Path, fresh_cache: Path, text: str, change: Callable[[str], str]
) -> None:
    content = (world / text).read_text()
    assert read(world, text, change(content).encode()) == read(world, text, content.encode()) is not None


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe1\x00", b"\0" * 40, b"\x80 1\n", b"9" * 5000], ids=repr)
def test_what_is_no_such_text_is_refused_by_name(
    world: Path, fresh_cache: Path, text: str, content: bytes, request: pytest.FixtureRequest
) -> None:
    assert read(world, text, content) is None or (text == GAZE_TEXT and content == b"")


NUMBERS = ("-1", "0", "1", "2", "999", "1e9", "1e308", "-1e308", "1e-300", "nan", "inf", "0.5", "1_0", "٣", "9" * 30)
WORDS = (
    "",
    "x",
    "é",
    "<script>",
    "1.jpg",
    "../../up.jpg",
    "/dev/zero",
    "9" * 5000,
    "a\0b",
    "x" * 5000,
    "\u2028",
    "\x1b[",
)
CELLS = st.sampled_from(NUMBERS + WORDS)


@st.composite
def edits(draw: st.DrawFn) -> Any:
    """A text's place and how its lines change."""
    text = draw(st.sampled_from(TEXTS))
    steps = draw(
        st.lists(st.tuples(st.sampled_from("cdrsm"), st.integers(0, 199), st.integers(0, 6), CELLS), max_size=3)
    )
    return text, steps


def edited(content: str, steps: list[tuple[str, int, int, str]], separator: str | None) -> bytes:
    lines = content.splitlines()
    for kind, row, column, cell in steps:
        if not lines:
            break
        row %= len(lines)
        cells = lines[row].split(separator)
        if kind == "c" and cells:
            cells[column % len(cells)] = cell
            lines[row] = (separator or " ").join(cells)
        elif kind == "d":
            del lines[row]
        elif kind == "r":
            lines.insert(row, lines[row])
        elif kind == "s":
            lines[row], lines[0] = lines[0], lines[row]
        elif kind == "m":
            lines[row] += f"{separator or ' '}{cell}"
    return "\n".join(lines).encode("utf-8", "surrogateescape")


@given(edit=edits())
def test_edited_texts_are_read_or_refused_by_name(world: Path, fresh_cache: Path, edit: Any) -> None:
    text, steps = edit
    read(world, text, edited((world / text).read_text(), steps, "," if text == GAZE_TEXT else None))


@given(text=st.sampled_from(TEXTS), share=st.floats(0, 1), noise=st.binary(max_size=8))
def test_texts_cut_anywhere_are_read_or_refused_by_name(
    world: Path, fresh_cache: Path, text: str, share: float, noise: bytes
) -> None:
    content = (world / text).read_bytes()
    read(world, text, content[: int(share * len(content))] + noise)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("text", [*TEXTS, "mnist/train-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_texts_that_are_no_files_are_refused(
    world: Path, fresh_cache: Path, text: str, kind: str, tmp_path: Path
) -> None:
    path, aside = world / text, tmp_path / "aside"
    path.rename(aside)
    try:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        with pytest.raises((DatasetFormatError, DatasetNotFoundError)):
            ClutteredMNIST(world) if text.startswith("mnist") else source_of(world, text)
    finally:
        path.rmdir() if kind == "folder" else path.unlink(missing_ok=True)
        aside.rename(path)


@pytest.mark.parametrize(
    "file", ["../secret.jpg", "001.Tiny_Bird_1/../../secret.jpg", "/etc/secret.jpg", "..\\secret.jpg"]
)
def test_images_outside_of_the_folder_are_refused(world: Path, fresh_cache: Path, file: str) -> None:
    lines = (world / "CUB_200_2011/images.txt").read_text().splitlines()
    lines[0] = f"11 {file}"
    assert read(world, "CUB_200_2011/images.txt", "\n".join(lines).encode()) is None
