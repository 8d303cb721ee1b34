"""Equal fingerprints mean equal images: changes in place, what is remembered, and what is not believed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse_env.datasets import contents
from glimpse_env.datasets.celeba import CelebAHQ
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.folder import ImageFolder
from glimpse_env.errors import DatasetFormatError
from glimpse_env.files import digest
from tests.support.tiny_data import write_tiny_celeba, write_tiny_cub, write_tiny_folder
from tests.support.toy import SMALL_CELEBA

MAKERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "folder": (write_tiny_folder, ImageFolder),
    "cub": (write_tiny_cub, CUB200),
    "celeba-hq": (write_tiny_celeba, lambda root: CelebAHQ(root, **SMALL_CELEBA)),
}


@pytest.fixture
def memory(fresh_cache: Path) -> Callable[[], list[Path]]:
    return lambda: list((fresh_cache / "contents").glob("*.npz"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose contents are hashed."""
    paths: list[Path] = []
    hash_file = contents._hash

    def spied(path: Path, stamp: bytes) -> bytes:
        paths.append(path)
        return hash_file(path, stamp)

    monkeypatch.setattr(contents, "_hash", spied)
    return paths


@pytest.fixture
def photos(tmp_path: Path, fresh_cache: Path) -> Path:
    """Photographs in a format without compression: all files have the same size."""
    folder = write_tiny_folder(tmp_path / "photos")
    for path in list(folder.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return folder


def invert(path: Path) -> None:
    """Changes all pixels of a BMP in place."""
    with open(path, "r+b") as file:
        file.seek(54)
        pixels = file.read()
        file.seek(54)
        file.write(bytes(255 - value for value in pixels))


def test_images_changed_in_place_change_fingerprint_and_pixels(photos: Path) -> None:
    before = ImageFolder(photos)
    old = before.load("train").images.astype(int)
    for path in photos.rglob("*.bmp"):
        invert(path)
    after = ImageFolder(photos)
    assert after.fingerprint != before.fingerprint
    np.testing.assert_allclose(after.load("train").images, 255 - old, atol=2)  # resized


@pytest.mark.parametrize("name", MAKERS)
def test_one_byte_is_enough(name: str, tmp_path: Path, fresh_cache: Path) -> None:
    write, make = MAKERS[name]
    root = write(tmp_path / "data")
    before = make(root).fingerprint
    assert make(write(tmp_path / "copy")).fingerprint == before
    victim = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))[-1]
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert make(root).fingerprint != before
    victim.write_bytes(content)
    assert make(root).fingerprint == before


def test_a_change_is_seen_though_size_and_times_are_put_back(photos: Path) -> None:
    before = ImageFolder(photos).fingerprint
    victim = photos / "class-1" / "0.bmp"
    stat = victim.stat()
    invert(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert ImageFolder(photos).fingerprint != before


def test_a_change_right_after_hashing_is_seen(photos: Path) -> None:
    """Times of change are coarse: nothing is remembered whose next change could have the same time."""
    victim, seen = photos / "class-1" / "0.bmp", set()
    for _ in range(20):
        invert(victim)
        seen.add(ImageFolder(photos).fingerprint)
    assert len(seen) == 2
    last = ImageFolder(photos).fingerprint
    invert(victim)
    assert ImageFolder(photos).fingerprint != last


def test_whole_seconds_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "time_ns", lambda: 5_500_000_000)

    def changed(nanoseconds: int) -> Any:
        return os.stat_result((0,) * 10, {"st_ctime_ns": nanoseconds})

    for newest in (5_000_000_000, 5_490_000_001, 1_000_000_000, 900_000_000_000):
        contents._wait_for_another_tick([changed(1), changed(newest)])
    assert slept == pytest.approx([1.5, 0.010000001, 0, 2])


def test_files_are_read_once(photos: Path, opened: list[Path]) -> None:
    source = ImageFolder(photos)
    assert opened == [], "before the fingerprint is asked for, nothing is"
    first = source.fingerprint
    assert len(opened) == 18
    assert ImageFolder(photos, folds=2).fingerprint != first
    assert ImageFolder(photos).fingerprint == first
    assert len(opened) == 18


def test_only_what_changed_is_read_again(photos: Path, opened: list[Path]) -> None:
    ImageFolder(photos).fingerprint  # noqa: B018
    opened.clear()
    invert(photos / "class-1" / "0.bmp")
    (photos / "class-2" / "new.bmp").write_bytes((photos / "class-2" / "0.bmp").read_bytes())
    ImageFolder(photos).fingerprint  # noqa: B018
    assert sorted(path.name for path in opened) == ["0.bmp", "new.bmp"]


def test_another_file_under_the_name_is_read(photos: Path, opened: list[Path]) -> None:
    """Size and time of modification are those of the file before."""
    ImageFolder(photos).fingerprint  # noqa: B018
    opened.clear()
    victim, other = photos / "class-1" / "0.bmp", photos / "class-1" / "1.bmp"
    stat = victim.stat()
    other.replace(victim)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ImageFolder(photos).fingerprint  # noqa: B018
    assert opened == [victim]


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_memory_is_made_anew(photos: Path, memory: Any, opened: list[Path], damage: bytes | None) -> None:
    before = ImageFolder(photos).fingerprint
    (path,) = memory()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert ImageFolder(photos).fingerprint == before
    assert len(opened) == 36
    assert ImageFolder(photos).fingerprint == before
    assert len(opened) == 36


@pytest.mark.parametrize("lacking", ["names", "stamps", "digests"])
def test_a_memory_of_another_make_is_not_believed(photos: Path, memory: Any, lacking: str) -> None:
    before = ImageFolder(photos).fingerprint
    (path,) = memory()
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {lacking: arrays[lacking][:-1]}))
    assert ImageFolder(photos).fingerprint == before
    np.savez(path, **{name: array for name, array in arrays.items() if name != lacking})
    assert ImageFolder(photos).fingerprint == before


def test_without_a_cache_files_are_still_read_once_a_process(
    photos: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "file"))  # no folder can be made below a file
    assert ImageFolder(photos).fingerprint == ImageFolder(photos).fingerprint
    assert len(opened) == 18
    invert(photos / "class-1" / "0.bmp")
    ImageFolder(photos).fingerprint  # noqa: B018
    assert len(opened) == 19


def test_a_file_that_changes_while_it_is_read_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = photos / "class-1" / "0.bmp"
    fstat = os.fstat

    def late(handle: int) -> os.stat_result:
        victim.write_bytes(b"another")
        return fstat(handle)

    monkeypatch.setattr(os, "fstat", late)
    monkeypatch.setattr(contents, "_wait_for_another_tick", lambda stats: None)
    with pytest.raises(DatasetFormatError, match=r"class-1/0\.bmp changed while it was read"):
        contents.read_contents(photos, [victim])


def test_an_image_that_changes_before_its_split_is_made_is_no_part_of_it(photos: Path) -> None:
    source = ImageFolder(photos)
    assert source.fingerprint
    for path in photos.rglob("*.bmp"):
        invert(path)
    with pytest.raises(DatasetFormatError, match="changed after the data set was made"):
        source.load("train")
    ImageFolder(photos).load("train")


def test_published_contents_keep_the_fingerprint_of_names_and_sizes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImageFolder(photos)
    own = source.fingerprint
    monkeypatch.setattr(contents, "PUBLISHED", {digest(source.contents.digests)})
    published = ImageFolder(photos).fingerprint
    assert published != own
    invert(photos / "class-1" / "0.bmp")
    assert ImageFolder(photos).fingerprint not in (published, own)
    invert(photos / "class-1" / "0.bmp")
    assert ImageFolder(photos).fingerprint == published
