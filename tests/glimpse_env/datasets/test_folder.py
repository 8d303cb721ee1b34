"""Folders of images: what becomes a pixel, who belongs to which split, and every way a folder can be wrong."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tyro
from PIL import Image

from glimpse_env.datasets.folder import ImageFolder
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError, JudgeNotFoundError
from glimpse_env.judge.judge import find_judge
from glimpse_env.registration import source_of
from scripts import train_judge
from tests.support.tiny_data import write_tiny_folder
from tests.support.toy import SMALL_FOLDER, write_toy_judge

pytestmark = pytest.mark.usefixtures("fresh_cache")

SPLITS = ("train", "val", "test")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_tiny_folder(tmp_path / "photos")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An empty folder; the cache is beside it."""
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def numbered(folder: Path, count: int, start: int = 0) -> None:
    """Images of one pixel each whose grey value is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        Image.new("L", (1, 1), number).save(folder / f"{number}.png")


def shown(source: ImageFolder, split: Any, label: int) -> set[int]:
    """The numbers of the images of a class in a split of :func:`numbered` images."""
    data = source.load(split)
    return set(data.images[data.labels == label][:, 0, 0, 0].tolist())


def pixel(**arguments: Any) -> dict[str, Any]:
    """Arguments for images of one pixel."""
    return {"size": 1, "glimpse_size": 1, "stride": 1, "num_glimpses": 1, **arguments}


# What becomes a pixel


def test_the_middle_square_is_resized_with_antialiasing(photos: Path) -> None:
    """Columns 10 to 69 of 80, 60 x 60 to 20 x 20: each pixel a weighted mean about the middle of its 3 x 3 block."""
    ramp = np.tile(np.arange(80, dtype=np.uint8) * 3, (60, 1))
    for path in photos.rglob("*.png"):
        Image.fromarray(ramp).save(path)
    images = ImageFolder(photos, size=20, glimpse_size=5, stride=5).load("train").images
    assert images.shape == (12, 20, 20, 3)
    inner = 3 * (10 + 3 * np.arange(20) + 1)  # a mean about the middle of three columns of a ramp is that column
    assert np.array_equal(images[0, 5, 1:-1], np.stack([inner[1:-1]] * 3, axis=1))


def test_a_square_of_the_right_size_is_kept_as_it_is(photos: Path) -> None:
    rng = np.random.default_rng(1)
    for path in photos.rglob("*.png"):
        pixels = rng.integers(0, 256, (61, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    source = ImageFolder(photos, size=61, glimpse_size=12, stride=4)
    expected = {np.asarray(Image.open(path))[:, 1:62].tobytes() for path in photos.rglob("*.png")}
    shown = {image.tobytes() for split in SPLITS for image in source.load(split).images}
    assert shown == expected


@pytest.mark.parametrize(
    ("mode", "written", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("I;16", 77 * 257, (77, 77, 77)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("CMYK", (0, 0, 0, 155), (100, 100, 100)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), (128, 128, 128)),
        ("RGBA", (0, 0, 0, 51), (102, 102, 102)),
        ("LA", (255, 51), (153, 153, 153)),
    ],
)
def test_other_modes_become_rgb(photos: Path, mode: str, written: Any, expected: tuple[int, int, int]) -> None:
    for path in photos.rglob("*.png"):
        Image.new(mode, (9, 7), written).save(path, format="TIFF" if mode == "CMYK" else "PNG")
    images = ImageFolder(photos, size=8, glimpse_size=4, stride=2).load("train").images
    assert (images == np.array(expected)).all()


def test_palettes_with_transparency(photos: Path) -> None:
    for path in photos.rglob("*.png"):
        image = Image.new("P", (6, 6), 1)
        image.putpalette([200, 0, 0, 0, 200, 0])
        image.putpixel((0, 0), 0)
        image.save(path, transparency=0)
    images = ImageFolder(photos, size=6, glimpse_size=3, stride=1).load("train").images
    assert (images[:, 0, 0] == 128).all()
    assert (images[:, 3, 3] == (0, 200, 0)).all()


def test_photographs_are_turned_as_their_exif_says(photos: Path) -> None:
    upright = np.zeros((40, 40, 3), np.uint8)
    upright[:20, :20] = 255  # a corner that tells all eight orientations apart, with a bar on one side
    upright[:10, 20:] = (255, 0, 0)
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright), 8: np.rot90(upright, 3), 2: upright[:, ::-1]}
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for path in photos.rglob("*.png"):
            Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
        images = ImageFolder(photos, size=40, glimpse_size=4, stride=4).load("val").images
        assert (images == upright).all(), orientation


# Who belongs to which split


def test_without_folders_of_their_own_val_and_test_are_taken_of_each_class(own: Path) -> None:
    numbered(own / "bee", 100)
    numbered(own / "ant", 5, 100)
    source = ImageFolder(own, **pixel())
    assert source.class_names == ("ant", "bee")
    assert [source.size(split) for split in SPLITS] == [70 + 3, 10 + 1, 20 + 1]
    for label, numbers in ((0, range(100, 105)), (1, range(100))):
        parts = [shown(source, split, label) for split in SPLITS]
        assert sorted(number for part in parts for number in part) == list(numbers)
    by_name = sorted(range(100), key=lambda number: f"{number}.png")
    assert shown(source, "test", 1) != set(by_name[:20]), "files are often in the order of dates or authors"


def test_a_new_image_moves_few_others(own: Path) -> None:
    for name in ("ant", "bee"):
        numbered(own / name, 50)
    before = [shown(ImageFolder(own, **pixel()), split, 0) for split in SPLITS]
    numbered(own / "ant", 1, 50)
    after = [shown(ImageFolder(own, **pixel()), split, 0) for split in SPLITS]
    assert sum(len(new - old) for old, new in zip(before, after, strict=True)) <= 3


@pytest.mark.parametrize(
    ("given", "sizes"),
    [(("val", "test"), (20, 4, 6)), (("test",), (18, 2, 6)), (("val",), (16, 4, 4))],
)
def test_folders_of_splits_are_those_splits(own: Path, given: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    for name in ("ant", "bee"):
        numbered(own / "train" / name, 10)
        if "val" in given:
            numbered(own / "val" / name, 2, 100)
        if "test" in given:
            numbered(own / "test" / name, 3, 200)
    source = ImageFolder(own, **pixel())
    assert source.class_names == ("ant", "bee")
    assert tuple(source.size(split) for split in SPLITS) == sizes
    for split, numbers in (("val", {100, 101}), ("test", {200, 201, 202})):
        if split in given:
            assert shown(source, split, 1) == numbers
    everything = [shown(source, split, 0) for split in SPLITS]
    assert len(set.union(*everything)) == sum(map(len, everything)) == sum(sizes) // 2


def test_a_class_may_be_called_train(own: Path) -> None:
    for name in ("train", "plane"):
        numbered(own / name, 6)
    assert ImageFolder(own, **pixel()).class_names == ("plane", "train")


def test_what_is_no_image_is_skipped(photos: Path) -> None:
    before = ImageFolder(photos)
    (photos / "notes.txt").write_text("no class")
    (photos / ".cache").mkdir()
    inside = photos / "class-1"
    (inside / "labels.csv").write_text("no image")
    (inside / ".DS_Store").write_bytes(b"\0")
    (inside / "._0.png").write_bytes(b"\0")
    (inside / ".ipynb_checkpoints").mkdir()
    (inside / ".ipynb_checkpoints" / "copy.png").write_bytes(b"\0")
    after = ImageFolder(photos)
    assert after.fingerprint == before.fingerprint
    assert [after.size(split) for split in SPLITS] == [12, 3, 3]


def test_folders_in_a_class_and_suffixes_in_capitals_count(own: Path) -> None:
    for name in ("ant", "bee"):
        numbered(own / name / "red" / "small", 3)
        numbered(own / name, 3, 100)
    (own / "ant" / "100.png").rename(own / "ant" / "100.PNG")
    source = ImageFolder(own, **pixel())
    assert set.union(*(shown(source, split, 0) for split in SPLITS)) == {0, 1, 2, 100, 101, 102}


def test_folds_divide_each_class_and_no_network_is_fed_what_it_judges(own: Path) -> None:
    for name in ("ant", "bee"):
        numbered(own / name, 30)
    source = ImageFolder(own, **pixel(folds=3))
    train = source.load("train")
    for label in range(2):
        assert np.ptp(np.bincount(train.folds[train.labels == label], minlength=3)) <= 1
    assert (source.load("test").folds == -1).all()
    for fold in range(3):
        fed = source.judge_images(fold, np.random.default_rng(0))
        assert len(fed.labels) == (train.folds != fold).sum()


def test_judge_images_are_changed_a_little_and_mirrored_only_when_asked(photos: Path) -> None:
    half = np.zeros((60, 60, 3), np.uint8)
    half[:, :30] = 200  # bright on the left
    for path in photos.rglob("*.png"):
        Image.fromarray(half).save(path)
    for mirror, sides in ((False, {True}), (True, {True, False})):
        source = ImageFolder(photos, size=60, glimpse_size=12, stride=4, mirror=mirror)
        assert source.mirror_symmetric == mirror
        fed = [source.judge_images(fold, np.random.default_rng(fold)).images for fold in range(3)]
        images = np.concatenate(fed).astype(float)
        assert {bool(image[:, :15].mean() > image[:, 45:].mean()) for image in images} == sides
        assert len({image.tobytes() for image in images}) == len(images)
        assert np.array_equal(fed[1], source.judge_images(1, np.random.default_rng(1)).images)


# Identity


def test_the_fingerprint_is_of_names_sizes_and_arguments_not_of_the_place(photos: Path, tmp_path: Path) -> None:
    before = ImageFolder(photos).fingerprint
    assert ImageFolder(write_tiny_folder(tmp_path / "copy")).fingerprint == before
    seen = {before}
    for change in (*SMALL_FOLDER.items(), ("folds", 2), ("mirror", True)):
        seen.add(ImageFolder(photos, **dict([change])).fingerprint)
    image = photos / "class-1" / "0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    seen.add(ImageFolder(photos).fingerprint)
    image.rename(image.with_name("other.png"))
    seen.add(ImageFolder(photos).fingerprint)
    image.parent.rename(photos / "class-9")
    seen.add(ImageFolder(photos).fingerprint)
    assert len(seen) == 1 + len(SMALL_FOLDER) + 5


def test_options_make_the_source_again(photos: Path) -> None:
    source = ImageFolder(photos, folds=2, **SMALL_FOLDER)
    again = ImageFolder(**json.loads(json.dumps(source.options)))
    assert again.fingerprint == source.fingerprint
    assert source.chosen_options == {"root": str(photos), "folds": 2, **SMALL_FOLDER}
    assert ImageFolder(photos).chosen_options == {"root": str(photos)}


@pytest.mark.parametrize("options", [{}, SMALL_FOLDER])
def test_the_command_that_makes_a_missing_judge_is_told_and_names_this_data(
    photos: Path, options: dict[str, int]
) -> None:
    quoted = photos.rename(photos.with_name("holiday photo's"))
    source = ImageFolder(quoted, **options)
    with pytest.raises(JudgeNotFoundError) as caught:
        find_judge(source)
    command = str(caught.value).split("`")[1]
    assert ("--dataset-options" in command) == bool(options)
    words = shlex.split(command)
    assert words[:4] == ["python", "scripts/train_judge.py", "--env", "GlimpseFolder-v0"]
    args = tyro.cli(train_judge.Args, args=words[2:])
    assert source_of(args.env, args.root, args.dataset_options).fingerprint == source.fingerprint


def test_arguments_of_the_data_set_go_straight_to_make(photos: Path) -> None:
    write_toy_judge(ImageFolder(photos, size=96, glimpse_size=24, stride=6))
    arguments = {"root": str(photos), "size": 96, "glimpse_size": 24, "stride": 6, "num_glimpses": 5}
    env = gym.make("GlimpseFolder-v0", **arguments, split="val")
    assert env.action_space == gym.spaces.Discrete(169)
    assert env.unwrapped.dataset.images.shape == (3, 96, 96, 3)  # type: ignore[attr-defined]
    vector = gym.make_vec("GlimpseFolder-v0", num_envs=2, **arguments, split="val")
    assert vector.single_observation_space == env.observation_space
    in_options = {name: value for name, value in arguments.items() if name != "root"}
    same = gym.make("GlimpseFolder-v0", root=str(photos), dataset_options=in_options)
    assert same.unwrapped.dataset.fingerprint == env.unwrapped.dataset.fingerprint  # type: ignore[attr-defined]


# What can be wrong


@pytest.mark.parametrize("arguments", [{}, {"root": None}, {"root": ""}])
def test_without_a_root_the_remedy_is_told(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"root='photos'.*--root photos"):
        gym.make("GlimpseFolder-v0", **arguments)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="nowhere is no folder"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetNotFoundError, match="file is no folder"):
        ImageFolder(tmp_path / "file")


@pytest.mark.parametrize("classes", [0, 1])
def test_two_classes_are_needed(own: Path, classes: int) -> None:
    numbered(own, 10)  # images of no class
    for label in range(classes):
        numbered(own / f"class-{label}", 10)
    with pytest.raises(DatasetFormatError, match=rf"{classes} subfolders where 2 .*subfolder of its own") as caught:
        ImageFolder(own)
    assert str(own) in str(caught.value)


def test_an_empty_class_is_named(photos: Path) -> None:
    (photos / "empty").mkdir()
    (photos / "empty" / "notes.txt").touch()
    with pytest.raises(DatasetFormatError, match=r"empty holds no image .*\.jpg"):
        ImageFolder(photos)


@pytest.mark.parametrize(("count", "folds"), [(1, 2), (3, 2), (4, 3), (12, 10)])
def test_a_class_of_too_few_images_is_named(photos: Path, count: int, folds: int) -> None:
    numbered(photos / "a rare one", count)
    with pytest.raises(DatasetFormatError, match=rf"rare one has {count} images.*folds={folds}"):
        ImageFolder(photos, folds=folds)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_training_lacks_is_named(own: Path, split: str) -> None:
    for name in ("ant", "bee"):
        numbered(own / "train" / name, 10)
        numbered(own / split / name, 1)
    numbered(own / split / "cow", 1)
    with pytest.raises(DatasetFormatError, match="cow is a class that the training images do not have"):
        ImageFolder(own)


def test_an_empty_split_is_named(own: Path) -> None:
    for name in ("ant", "bee"):
        numbered(own / "train" / name, 10)
        (own / "test" / name).mkdir(parents=True)
    with pytest.raises(DatasetFormatError, match="test holds no image"):
        ImageFolder(own)


def test_an_image_that_goes_away_is_named(photos: Path) -> None:
    source = ImageFolder(photos)
    (photos / "class-2" / "3.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"class-2/3\.png is gone"):
        source.fingerprint  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 10_000}, "size=10000"),
        ({"size": 96.0}, r"size=96\.0"),
        ({"glimpse_size": 129}, r"glimpse_size=129 .* 1\.\.128"),
        ({"glimpse_size": 0}, "glimpse_size=0"),
        ({"stride": 0}, "stride=0"),
        ({"stride": True}, "stride=True"),
        ({"num_glimpses": 0}, "num_glimpses=0"),
        ({"num_glimpses": 170}, r"num_glimpses=170 .* 1\.\.169"),
        ({"size": 32}, r"num_glimpses=5 .* 1\.\.1, the locations that size=32, glimpse_size=32 and stride=8 leave"),
        ({"folds": 1}, "folds=1"),
        ({"folds": "3"}, "folds='3'"),
        ({"mirror": "yes"}, "mirror='yes'"),
        ({"mirror": True, "stride": 7}, "stride=7 must divide 96"),
        ({"root": 3}, "root=3"),
        ({"colour": 1}, "colour"),
        ({"dataset_options": 3}, "dataset_options=3"),
        ({"dataset_options": {"colour": 1}}, "colour"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_arguments_out_of_range_are_named(
    photos: Path, make: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make("GlimpseFolder-v0", **{"root": str(photos), **arguments})
