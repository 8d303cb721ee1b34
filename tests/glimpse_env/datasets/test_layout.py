"""Folders as people have them: splits under other names, links, pipes, what systems leave behind, and no rights."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glimpse_env.datasets.folder import ImageFolder
from glimpse_env.errors import DatasetFormatError
from tests.support.tiny_data import write_tiny_folder

pytestmark = pytest.mark.usefixtures("fresh_cache")

PIXEL = {"size": 1, "glimpse_size": 1, "stride": 1, "num_glimpses": 1}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_tiny_folder(tmp_path / "photos")


def fill(folder: Path, count: int = 10, start: int = 0, classes: tuple[str, ...] = ("ant", "bee")) -> None:
    """Images of one pixel whose grey value is their number, in a folder for each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(start, start + count):
            Image.new("L", (1, 1), number).save(folder / name / f"{number}.png")


def greys(source: ImageFolder, split: Any) -> set[int]:
    return set(source.load(split).images[:, 0, 0, 0].tolist())


def count(source: ImageFolder) -> int:
    return sum(source.size(split) for split in ("train", "val", "test"))


# Splits


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("train", "validation", "test"),
        ("train", "dev", "test"),
        ("Train", "Val", "Test"),
        ("Training", "VALIDATION", "Testing"),
    ],
)
def test_splits_go_by_several_names_in_any_case(own: Path, names: tuple[str, str, str]) -> None:
    for start, name in zip((0, 100, 200), names, strict=True):
        fill(own / name, start=start)
    source = ImageFolder(own, **PIXEL)
    assert source.class_names == ("ant", "bee")
    for split, start in (("train", 0), ("val", 100), ("test", 200)):
        assert greys(source, split) == set(range(start, start + 10))


@pytest.mark.parametrize("other", ["val", "validation", "valid", "dev", "Testing", "Test"])
def test_one_more_split_is_enough(own: Path, other: str) -> None:
    fill(own / "Train")
    fill(own / other, start=100)
    source = ImageFolder(own, **PIXEL)
    given, taken = ("test", "val") if other.startswith("Test") else ("val", "test")
    assert greys(source, given) == set(range(100, 110))
    assert greys(source, taken) < set(range(10))


def test_the_name_of_a_split_is_no_part_of_the_fingerprint(own: Path) -> None:
    fill(own / "train")
    fill(own / "val", start=100)
    before = ImageFolder(own, **PIXEL).fingerprint
    (own / "val").rename(own / "Validation")
    assert ImageFolder(own, **PIXEL).fingerprint == before


@pytest.mark.parametrize(
    ("names", "named", "wanted"),
    [
        (("train", "holdout"), "holdout", "call it val or test"),
        (("Training", "eval"), "eval", "call it val or test"),
        (("train", "val", "holdout"), "holdout", "call it test"),
        (("train", "val", "test", "extra"), "extra", "move it away"),
        (("train", "val", "val_small"), "val_small", "call it test"),
        (("learn", "test"), "learn", "call it train or val"),
        (("seg_train", "seg_test"), "seg_train", "call it train"),
        (("training_set", "test"), "training_set", "call it train"),
        (("trainset", "testset"), "trainset", "call it train"),
    ],
)
def test_what_looks_like_a_split_but_is_not_called_so_is_named(
    own: Path, names: tuple[str, ...], named: str, wanted: str
) -> None:
    for start, name in enumerate(names):
        fill(own / name, start=20 * start)
    with pytest.raises(DatasetFormatError) as caught:
        ImageFolder(own, **PIXEL)
    assert str(caught.value).startswith(str(own / named))
    assert wanted in str(caught.value)


def test_a_sibling_with_most_of_the_classes_is_named(own: Path) -> None:
    fill(own / "train", classes=("ant", "bee", "cow"))
    fill(own / "holdout", classes=("ant", "bee"))
    with pytest.raises(DatasetFormatError, match="holdout has the subfolders of"):
        ImageFolder(own, **PIXEL)


@pytest.mark.parametrize("beside", [(), ("unlabelled",)])
def test_a_training_split_alone_is_told_how_to_be_given(own: Path, beside: tuple[str, ...]) -> None:
    fill(own / "train")
    fill(own, classes=beside)
    with pytest.raises(DatasetFormatError, match=rf"called val or test; call one so, or give {own / 'train'} as root"):
        ImageFolder(own, **PIXEL)
    assert ImageFolder(own / "train", **PIXEL).class_names == ("ant", "bee")


@pytest.mark.parametrize("pair", [("val", "valid"), ("Test", "testing"), ("train", "Training")])
def test_two_folders_for_one_split_are_named(own: Path, pair: tuple[str, str]) -> None:
    for name in {"train", *pair}:
        fill(own / name)
    with pytest.raises(DatasetFormatError, match="are both the split") as caught:
        ImageFolder(own, **PIXEL)
    assert all(str(own / name) in str(caught.value) for name in pair)


@pytest.mark.parametrize("names", [("train", "plane"), ("test", "exam"), ("dev", "board"), ("trainer", "devil")])
def test_classes_may_have_such_names(own: Path, names: tuple[str, ...]) -> None:
    fill(own, classes=names)
    fill(own / names[1], classes=("red", "small"))
    assert ImageFolder(own, **PIXEL).class_names == tuple(sorted(names))


# What is no image


@pytest.mark.parametrize(
    "litter",
    ["@eaDir", ".ipynb_checkpoints", "__MACOSX", ".hidden", "lost+found", "$RECYCLE.BIN", "@__thumb", "#snapshot"],
)
def test_what_systems_leave_behind_is_no_image_and_no_class(own: Path, litter: str) -> None:
    fill(own / "train")
    fill(own / "val", start=100)
    before = ImageFolder(own, **PIXEL)
    for place in (own, own / "train", own / "train" / "ant", own / "val" / "bee"):
        fill(place / litter, start=200)
        for name in ("Thumbs.db", "desktop.ini", "._0.png", ".DS_Store"):
            (place / name).write_bytes(b"\0")
    after = ImageFolder(own, **PIXEL)
    assert (after.fingerprint, count(after)) == (before.fingerprint, count(before))


# Links


def test_a_linked_folder_is_followed(own: Path, tmp_path: Path) -> None:
    fill(own)
    fill(tmp_path / "elsewhere", start=100, classes=("more", "cow"))
    (own / "ant" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (own / "cow").symlink_to(tmp_path / "elsewhere" / "cow")
    source = ImageFolder(own, **PIXEL)
    assert source.class_names == ("ant", "bee", "cow")
    assert sum((source.labels_of(split) == 0).sum() for split in ("train", "val", "test")) == 20
    assert count(source) == 40
    (own / "ant" / "linked").unlink()
    (tmp_path / "elsewhere" / "more").rename(own / "ant" / "linked")
    assert ImageFolder(own, **PIXEL).fingerprint == source.fingerprint, "a link is as good as the folder"


def test_splits_and_the_root_may_be_links(own: Path, tmp_path: Path) -> None:
    fill(tmp_path / "data" / "a")
    fill(tmp_path / "data" / "b", start=100)
    (own / "train").symlink_to(tmp_path / "data" / "a")
    (own / "test").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "link").symlink_to(own)
    source = ImageFolder(tmp_path / "link", **PIXEL)
    assert greys(source, "test") == set(range(100, 110))


@pytest.mark.parametrize(("link", "target"), [("test", "train"), ("test/ant", "train/ant"), ("val/bee/x", "test/bee")])
def test_a_folder_in_two_splits_is_named(own: Path, link: str, target: str) -> None:
    for start, name in enumerate({"train", *link.split("/")[:1], *target.split("/")[:1]}):
        fill(own / name, start=20 * start)
    if (own / link).exists():
        shutil.rmtree(own / link)
    (own / link).symlink_to(own / target)
    with pytest.raises(DatasetFormatError, match="are the same folder in two splits; remove one") as caught:
        ImageFolder(own, **PIXEL)
    assert str(own / link) in str(caught.value)


@pytest.mark.parametrize("place", ["loop", "ant/loop", "ant/deep/loop"])
@pytest.mark.parametrize("target", [".", "ant", "..", "ant/deep"])
def test_loops_add_nothing(own: Path, place: str, target: str) -> None:
    fill(own)
    (own / "ant" / "deep").mkdir()
    Image.new("L", (1, 1), 77).save(own / "ant" / "deep" / "77.png")
    link = own / place
    link.symlink_to(own / target)
    if place == "loop" and target.startswith("ant"):
        with pytest.raises(DatasetFormatError, match="are the same folder in two classes"):
            ImageFolder(own, **PIXEL)
        return
    source = ImageFolder(own, **PIXEL)
    assert source.class_names == ("ant", "bee")
    assert count(source) == 21


def test_a_folder_reached_twice_counts_once(own: Path, tmp_path: Path) -> None:
    fill(own)
    fill(tmp_path / "elsewhere", start=100, classes=("some", "some/deeper"))
    (own / "ant" / "one").symlink_to(tmp_path / "elsewhere" / "some" / "deeper")
    (own / "ant" / "two").symlink_to(tmp_path / "elsewhere" / "some")
    (own / "ant" / "three").symlink_to(own / "ant" / "two")
    assert count(ImageFolder(own, **PIXEL)) == 40


def test_a_class_linked_into_another_is_named(own: Path) -> None:
    fill(own)
    (own / "ant" / "more").symlink_to(own / "bee")
    with pytest.raises(DatasetFormatError, match=r"ant/more and .*bee are the same folder in two classes"):
        ImageFolder(own, **PIXEL)


@pytest.mark.parametrize("place", ["gone", "ant/gone", "ant/gone.png"])
def test_a_link_that_leads_nowhere_is_named(own: Path, place: str) -> None:
    fill(own)
    for target in (own / "nowhere", own / place):
        (own / place).symlink_to(target)
        with pytest.raises(DatasetFormatError, match="leads nowhere") as caught:
            ImageFolder(own, **PIXEL)
        assert str(own / place) in str(caught.value)
        (own / place).unlink()


# What cannot be read


@pytest.mark.parametrize("place", [".", "ant", "ant/deep"])
def test_an_unreadable_folder_is_named(own: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(own)
    (own / "ant" / "deep").mkdir()
    scandir = os.scandir

    def refused(path: Any) -> Any:  # whoever runs the tests may be allowed to read everything
        if Path(path) == own / place:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DatasetFormatError, match="Permission denied") as caught:
        ImageFolder(own, **PIXEL)
    assert str(own / place) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_rights_is_named(own: Path) -> None:
    fill(own)
    (own / "ant").chmod(0)
    try:
        with pytest.raises(DatasetFormatError, match="ant cannot be read"):
            ImageFolder(own, **PIXEL)
    finally:
        (own / "ant").chmod(0o700)


@pytest.fixture
def odd_file(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file from which reading would never end, or cannot begin."""
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            yield path
        return
    else:
        path = Path("/dev/zero")
    yield path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("odd_file", ["pipe", "device", "socket"], indirect=True)
@pytest.mark.parametrize("place", ["class-1/x.png", "class-1/0.png", "class-1/deep/x.JPG"])
def test_pipes_and_devices_are_refused(photos: Path, odd_file: Path, place: str) -> None:
    source = ImageFolder(photos)
    (photos / "class-1" / "deep").mkdir()
    (photos / place).unlink(missing_ok=True)
    (photos / place).symlink_to(odd_file)
    with pytest.raises(DatasetFormatError, match="no regular file") as caught:
        ImageFolder(photos)
    assert str(photos / place) in str(caught.value)
    if place == "class-1/0.png":  # it was a photograph when the folder was looked at
        with pytest.raises(DatasetFormatError, match="no regular file"):
            source.load("train")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_that_are_called_like_no_image_are_skipped(photos: Path) -> None:
    os.mkfifo(photos / "class-1" / "control")
    assert count(ImageFolder(photos)) == 18


@pytest.mark.parametrize("name", ["two\nlines", "a\x1b[31mred", "half\udcff"])
def test_names_of_classes_that_are_no_text_are_named(photos: Path, name: str) -> None:
    try:
        (photos / "class-1").rename(photos / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    with pytest.raises(DatasetFormatError, match="rename the folder"):
        ImageFolder(photos)
