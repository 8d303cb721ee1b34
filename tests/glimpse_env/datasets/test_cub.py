"""CUB-200-2011: crops and parts by hand, splits, augmentation, and every way the files can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from glimpse_env.datasets.base import PUBLIC_SPLITS
from glimpse_env.datasets.cub import CUB200, CUBFull, crop_box
from glimpse_env.datasets.images import letterbox, parts_in_crop
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.judge.judge import judge_command
from tests.support.tiny_data import BOX, PARTS, PHOTOGRAPH, write_tiny_cub

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_tiny_cub(tmp_path)


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def repaint(folder: Path, paint: Callable[[int], Image.Image]) -> None:
    """Replaces each photograph, without loss, by what ``paint`` makes for its line in images.txt, counted from 0."""
    for number, line in enumerate((folder / "images.txt").read_text().splitlines()):
        paint(number).save(folder / "images" / line.split()[1], format="PNG")


def test_crop_inside_the_image() -> None:
    # A box of 60 x 20 around (60, 50): a square of 90.
    assert crop_box((30, 40, 90, 60), (200, 100)) == (15, 5, 105, 95)


def test_crop_is_clipped_at_every_side() -> None:
    # A box of 40 x 80 around (30, 50): a square of 120, from (-30, -10) to (90, 110).
    assert crop_box((10, 10, 50, 90), (70, 100)) == (0, 0, 70, 100)
    assert crop_box((10, 10, 50, 90), (100, 105)) == (0, 0, 90, 105)


@pytest.mark.parametrize("box", [(70, 10, 90, 30), (-20, 10, 0, 30), (10, 60, 30, 70)])
def test_a_box_outside_the_image_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="70 x 60 pixels"):
        crop_box(box, (70, 60))


def test_parts_are_scaled_with_the_crop_and_hidden_outside() -> None:
    box = (15.0, 5.0, 105.0, 95.0)  # 90 x 90 pixels to 128 x 128
    parts = np.array([[50, 60, 1], [5, 15, 1], [50, 60, 0], [50, 105, 1], [4.9, 60, 1], [95, 60, 1], [50, 14, 1]])
    scale = 128 / 90
    expected = np.zeros((7, 3))
    expected[0] = [45 * scale, 45 * scale, 1]
    expected[1] = [0, 0, 1]
    np.testing.assert_allclose(parts_in_crop(parts, box, 128), expected, rtol=1e-6)


def test_parts_are_scaled_by_each_side_of_a_clipped_crop() -> None:
    parts = parts_in_crop(np.array([[50.0, 35.0, 1.0]]), (0.0, 0.0, 70.0, 100.0), 128)
    np.testing.assert_allclose(parts, [[64, 64, 1]])


def test_image_ids_are_those_of_images_txt(cub: Path) -> None:
    # ids 11, 13, ...; of the 6 images of a class 4 are for training, the fifth for val, the last for test
    source = CUB200(root=str(cub), species=[2, 3])
    np.testing.assert_array_equal(source.image_ids("train"), [23, 25, 27, 29, 35, 37, 39, 41])
    np.testing.assert_array_equal(source.image_ids("val"), [31, 43])
    np.testing.assert_array_equal(source.image_ids("test"), [33, 45])


def test_images_show_the_box_where_it_should_be(cub: Path) -> None:
    # The box (20, 15, 40, 30) gives the crop from (10, 0) to (70, 60): 60 x 60 to 128 x 128.
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]

    def paint(number: int) -> Image.Image:
        image = Image.new("RGB", PHOTOGRAPH, (128, 128, 128))
        x, y, width, height = BOX
        ImageDraw.Draw(image).rectangle((x, y, x + width - 1, y + height - 1), fill=colours[number // 6])
        return image

    repaint(cub, paint)
    data = CUB200(cub).load("train")
    assert data.images.shape == (12, 128, 128, 3)
    scale = 128 / 60
    inside = np.zeros((128, 128), bool)
    inside[int(15 * scale) + 4 : int(45 * scale) - 3, int(10 * scale) + 4 : int(50 * scale) - 3] = True
    outside = np.ones((128, 128), bool)
    outside[int(15 * scale) - 4 : int(45 * scale) + 5, int(10 * scale) - 4 : int(50 * scale) + 5] = False
    for image, label in zip(data.images, data.labels, strict=True):
        assert np.abs(image[inside].astype(int) - colours[label]).max() < 30
        assert np.abs(image[outside].astype(int) - 128).max() < 30
    part = np.arange(4)
    expected = np.stack([(20 + 4 * part) * scale, (30 + 5 * part - 10) * scale, np.ones(4)], axis=1)
    for parts in data.parts:
        np.testing.assert_allclose(parts[:4], expected, rtol=1e-6)
        np.testing.assert_array_equal(parts[4], 0)


def test_the_official_test_part_is_test_and_every_tenth_other_image_of_a_class_is_val(tmp_path: Path) -> None:
    source = CUB200(write_tiny_cub(tmp_path, species=2, images=36))  # 30 and 6 of each class
    assert [source.size(split) for split in ("train", "val", "test")] == [54, 6, 12]
    for split, count in (("train", 27), ("val", 3), ("test", 6)):
        np.testing.assert_array_equal(np.bincount(source.load(split).labels), [count, count])


@pytest.mark.parametrize(("images", "sizes"), [(2, [1, 0, 1]), (5, [4, 0, 1]), (6, [4, 1, 1])])
def test_classes_of_five_training_images_or_more_have_one_in_val(tmp_path: Path, images: int, sizes: list[int]) -> None:
    source = CUB200(write_tiny_cub(tmp_path, species=1, images=images))
    assert [source.size(split) for split in ("train", "val", "test")] == sizes


def test_folds_divide_each_class_of_train_alone(cub: Path) -> None:
    source = CUB200(cub)
    train = source.load("train")
    for label in range(3):
        np.testing.assert_array_equal(np.bincount(train.folds[train.labels == label]), [2, 1, 1])
    assert (source.load("val").folds == -1).all()
    assert (source.load("test").folds == -1).all()
    assert set(CUB200(cub, folds=2).load("train").folds) == {0, 1}


def test_names(cub: Path) -> None:
    edit(cub / "classes.txt", lambda lines: lines.__setitem__(0, "1 001.Black_footed_Albatross"))
    source = CUB200(cub)
    assert source.class_names == ("Black footed Albatross", "Tiny Bird 2", "Tiny Bird 3")
    assert source.part_names == PARTS


def test_any_species_by_their_original_ids(tmp_path: Path) -> None:
    folder = write_tiny_cub(tmp_path, species=5)
    everything, chosen = CUB200(folder), CUB200(folder, species=[5, 2])
    assert chosen.class_names == ("Tiny Bird 2", "Tiny Bird 5")
    whole, part = everything.load("train"), chosen.load("train")
    for label, original in enumerate((1, 4)):
        np.testing.assert_array_equal(part.images[part.labels == label], whole.images[whole.labels == original])
        np.testing.assert_array_equal(part.folds[part.labels == label], whole.folds[whole.labels == original])
    assert chosen.fingerprint != everything.fingerprint


def test_ids_need_not_be_contiguous_or_in_order(cub: Path) -> None:
    before = CUB200(cub).load("train")
    for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "parts/part_locs"):
        edit(cub / f"{name}.txt", lambda lines: lines.sort(reverse=True))
    after = CUB200(cub).load("train")
    np.testing.assert_array_equal(before.images, after.images)
    np.testing.assert_array_equal(before.parts, after.parts)


@pytest.mark.parametrize("place", ["CUB_200_2011", "CUB_200_2011_some", "."])
def test_the_folder_is_found(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_cub(tmp_path / "written")
    root = tmp_path / "root"
    root.mkdir()
    (root / "CUB_200_2011.tgz").touch()
    if place == ".":
        root = folder
    else:
        folder.rename(root / place)
    assert CUB200(root).size("train") == 12
    monkeypatch.setenv("GLIMPSE_DATA", str(root))
    assert CUB200().size("train") == 12


def test_a_missing_data_set_names_the_places_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"download_data\.py cub.*GLIMPSE_DATA") as caught:
        CUB200(tmp_path)
    assert str(tmp_path / "CUB_200_2011") in str(caught.value)


def test_nothing_is_read_of_images_before_they_are_loaded(cub: Path) -> None:
    for path in (cub / "images").rglob("*.jpg"):
        path.write_bytes(b"no image")
    source = CUB200(cub)
    assert len(source.fingerprint) == 16
    assert source.size("test") == 3


def test_the_fingerprint_is_of_the_content_not_the_place(cub: Path, tmp_path: Path) -> None:
    before = CUB200(cub).fingerprint
    assert CUB200(write_tiny_cub(tmp_path / "copy")).fingerprint == before
    assert CUB200(cub, folds=2).fingerprint != before
    changes: list[tuple[str, str]] = [
        ("train_test_split.txt", "13 0"),
        ("bounding_boxes.txt", "13 21.0 15.0 40.0 30.0"),
        ("image_class_labels.txt", "13 2"),
    ]
    seen = {before}
    for name, line in changes:
        edit(cub / name, lambda lines, line=line: lines.__setitem__(1, line))  # type: ignore[misc]
        seen.add(CUB200(cub).fingerprint)
    edit(cub / "parts" / "part_locs.txt", lambda lines: lines.__setitem__(0, "11 1 31.0 20.0 1"))
    seen.add(CUB200(cub).fingerprint)
    image = next((cub / "images").rglob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"\0")
    seen.add(CUB200(cub).fingerprint)
    assert len(seen) == 6


def test_options_make_the_source_again(cub: Path) -> None:
    source = CUB200(cub, species=[3, 1], folds=2)
    again = CUB200(**json.loads(json.dumps(source.options)))
    assert again.fingerprint == source.fingerprint


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "LA"])
def test_other_colour_modes_are_converted(cub: Path, mode: str) -> None:
    path = next((cub / "images" / "001.Tiny_Bird_1").glob("*_0000.jpg"))
    plain = Image.new("RGB", PHOTOGRAPH, (102, 102, 102))
    with path.open("wb") as file:
        plain.convert(mode).save(file, format="TIFF" if mode == "CMYK" else "PNG")
    image = CUB200(cub, species=[1]).load("train").images[0]
    np.testing.assert_allclose(image, 102, atol=3)


# Augmentation


def test_no_network_is_fed_what_it_will_judge(cub: Path) -> None:
    """Photographs are red, green or blue by the fold they will be in."""
    folds = iter(CUB200(cub).load("train").folds)
    fold_of_line = [next(folds) if number % 6 < 4 else -1 for number in range(18)]
    pure = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 200)]
    repaint(cub, lambda number: Image.new("RGB", PHOTOGRAPH, pure[fold_of_line[number]]))
    source = CUB200(cub)
    train = source.load("train")
    for fold in range(3):
        fed = source.judge_images(fold, np.random.default_rng(fold))
        shown = fed.images.mean(axis=(1, 2)).argmax(axis=1)
        np.testing.assert_array_equal(
            np.bincount(shown, minlength=3), np.bincount(train.folds) * (np.arange(3) != fold)
        )
        np.testing.assert_array_equal(np.bincount(fed.labels), np.bincount(train.labels[train.folds != fold]))


def test_parts_move_with_their_image_and_change_sides_in_a_mirror(tmp_path: Path) -> None:
    """A red disc is at the left eye and a green one at the right eye, which is further right in every photograph."""
    folder = write_tiny_cub(tmp_path, species=1, images=60)
    eyes = {PARTS.index("left eye"): (34, 26, (255, 0, 0)), PARTS.index("right eye"): (48, 32, (0, 255, 0))}

    def paint(_: int) -> Image.Image:
        image = Image.new("RGB", PHOTOGRAPH, (0, 0, 0))
        for x, y, colour in eyes.values():
            ImageDraw.Draw(image).ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        return image

    def move(lines: list[str]) -> None:
        for number, line in enumerate(lines):
            image, part, *_ = line.split()
            if int(part) - 1 in eyes:
                x, y, _ = eyes[int(part) - 1]
                lines[number] = f"{image} {part} {x + 0.5} {y + 0.5} 1"  # the middle of pixel (x, y)

    repaint(folder, paint)
    edit(folder / "parts" / "part_locs.txt", move)
    fed = CUB200(folder).judge_images(0, np.random.default_rng(0))
    left, right = (fed.parts[:, part] for part in eyes)
    assert (left[:, 2] == 1).all()
    assert (left[:, 1] < right[:, 1]).all(), "a mirrored bird's left eye is the one that was its right"
    mirrored = []
    steps = np.arange(128) + 0.5
    for image, eye in zip(fed.images, left, strict=True):
        row, col = eye[:2].astype(int)
        channel = int(image[row, col].argmax())
        ink = image[..., channel].astype(float)
        ink[ink < 40] = 0
        centre = (ink.sum(axis=1) @ steps / ink.sum(), ink.sum(axis=0) @ steps / ink.sum())
        np.testing.assert_allclose(eye[:2], centre, atol=1.0)
        mirrored.append(channel == 1)
    assert 0.2 < np.mean(mirrored) < 0.8
    assert np.ptp(left[:, 0]) > 12, "images are not moved"


def test_judge_images_follow_the_generator(cub: Path) -> None:
    source = CUB200(cub)
    first, same, other = (source.judge_images(1, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, same.images)
    np.testing.assert_array_equal(first.parts, same.parts)
    assert (first.images != other.images).any()
    assert first.images.dtype == np.uint8
    assert first.parts.dtype == np.float32
    visible = first.parts[..., 2] > 0
    assert ((first.parts[visible] >= 0) & (first.parts[visible] <= 128)).all()
    assert (first.parts[~visible] == 0).all()


# What can be wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"species": 1}, "species=1 must be a list"),
        ({"species": "12"}, "species='12' must be a list"),
        ({"species": [1.0]}, r"species=1\.0"),
        ({"species": [[1]]}, r"species=\[1\]"),
        ({"folds": None}, "folds=None"),
        ({"root": 5}, "root=5"),
        ({"species": [1, 9]}, "has no 9"),
        ({"species": []}, "distinct ids"),
        ({"species": [1, 1]}, "distinct ids"),
        ({"folds": 1}, "folds=1"),
    ],
)
def test_arguments_out_of_range(cub: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CUB200(**{"root": cub, **options})


@pytest.mark.parametrize(
    ("name", "line", "content", "message"),
    [
        ("images.txt", 2, "thirteen 001.Tiny_Bird_1/x.jpg", "cannot be read"),
        ("images.txt", 2, "13", "cannot be read"),
        ("images.txt", 2, "11 001.Tiny_Bird_1/x.jpg", "id 11 was there before, in line 1"),
        ("classes.txt", 3, "three 003.Tiny_Bird_3", "cannot be read"),
        ("image_class_labels.txt", 4, "17 9", "classes.txt has no class 9"),
        ("image_class_labels.txt", 4, "999 1", "images.txt has no image 999"),
        ("train_test_split.txt", 5, "19 2", "2 is neither 0 nor 1"),
        ("bounding_boxes.txt", 6, "21 1.0 2.0 3.0", "cannot be read"),
        ("bounding_boxes.txt", 6, "21 1.0 nan 3.0 4.0", "nan is not a finite number"),
        ("bounding_boxes.txt", 6, "21 1.0 2.0 0.0 4.0", "is empty"),
        ("parts/parts.txt", 1, "beak", "cannot be read"),
        ("parts/part_locs.txt", 7, "13 9 1.0 1.0 1", "parts.txt has no part 9"),
        ("parts/part_locs.txt", 7, "12 1 1.0 1.0 1", "images.txt has no image 12"),
        ("parts/part_locs.txt", 7, "13 2 1.0 inf 1", "inf is not a finite number"),
        ("parts/part_locs.txt", 7, "13 2 1.0", "cannot be read"),
    ],
)
def test_a_bad_line_is_named_with_its_file(cub: Path, name: str, line: int, content: str, message: str) -> None:
    edit(cub / name, lambda lines: lines.__setitem__(line - 1, content))
    with pytest.raises(DatasetFormatError, match=message) as caught:
        CUB200(cub)
    assert f"{cub / name}:{line}: " in str(caught.value)
    assert "download_data.py cub" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/part_locs.txt"]
)
def test_an_image_that_a_file_leaves_out_is_named(cub: Path, name: str) -> None:
    edit(cub / name, lambda lines: lines.remove(next(line for line in lines if line.startswith("19 "))))
    with pytest.raises(DatasetFormatError, match=r"image 19 of images\.txt") as caught:
        CUB200(cub)
    assert str(cub / name) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["classes.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/parts.txt",
     "parts/part_locs.txt"],
)  # fmt: skip
def test_a_missing_text_file_is_named(cub: Path, name: str) -> None:
    (cub / name).unlink()
    with pytest.raises(DatasetNotFoundError, match=r"download_data\.py cub") as caught:
        CUB200(cub)
    assert str(cub / name) in str(caught.value)


def test_a_text_file_that_is_none(cub: Path) -> None:
    (cub / "images.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetFormatError, match="not a text file"):
        CUB200(cub)


def test_a_class_without_training_images_is_named(cub: Path) -> None:
    edit(cub / "classes.txt", lambda lines: lines.append("7 007.Dodo"))
    with pytest.raises(DatasetFormatError, match=r"007\.Dodo has no training image") as caught:
        CUB200(cub)
    assert f"{cub / 'classes.txt'}:4: " in str(caught.value)
    assert CUB200(cub, species=[1, 2, 3]).size("train") == 12


def test_blank_lines_are_skipped(cub: Path) -> None:
    edit(cub / "images.txt", lambda lines: lines.append(""))
    assert CUB200(cub).size("train") == 12


def test_a_missing_image_is_named_with_its_line(cub: Path) -> None:
    path = cub / "images" / "001.Tiny_Bird_1" / "Tiny_Bird_1_0002.jpg"
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match="is missing") as caught:
        CUB200(cub).load("train")
    assert str(path) in str(caught.value)
    assert f"{cub / 'images.txt'}:3" in str(caught.value)
    assert "download_data.py cub" in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.3, 0.6, 0.99])
def test_a_damaged_image_is_named_with_its_line(cub: Path, keep: float) -> None:
    path = cub / "images" / "001.Tiny_Bird_1" / "Tiny_Bird_1_0002.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DatasetFormatError, match="not a readable image") as caught:
        CUB200(cub).load("train")
    assert str(path) in str(caught.value)
    assert f"{cub / 'images.txt'}:3" in str(caught.value)
    assert "download_data.py cub" in str(caught.value)


def test_a_box_outside_its_photograph_is_named_with_its_line(cub: Path) -> None:
    edit(cub / "bounding_boxes.txt", lambda lines: lines.__setitem__(1, "13 80.0 10.0 20.0 20.0"))
    with pytest.raises(DatasetFormatError, match=r"80 x 60 pixels of 001\.Tiny_Bird_1") as caught:
        CUB200(cub).load("train")
    assert f"{cub / 'bounding_boxes.txt'}:2: " in str(caught.value)


def test_the_real_birds(real_data: Path) -> None:
    try:
        source = CUB200(real_data, species=[1, 2, 3])
    except DatasetNotFoundError as error:
        pytest.skip(str(error))
    assert source.class_names == ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
    assert len(source.part_names) == 15
    assert [source.size(split) for split in ("train", "val", "test")] == [81, 9, 88]
    val = source.load("val")
    visible = val.parts[..., 2] > 0
    assert 0.5 < visible.mean() < 1
    centres = np.array([parts[seen, :2].mean(axis=0) for parts, seen in zip(val.parts, visible, strict=True)])
    assert (np.abs(centres - 64) < 40).all(), "the birds are not in the middle of their crops"


def test_photographs_stay_as_they_are_stored(cub: Path) -> None:
    """Whatever EXIF says: boxes and parts are in stored pixels."""
    path = next((cub / "images" / "001.Tiny_Bird_1").glob("*_0000.jpg"))
    with Image.open(path) as image:
        image.load()
    exif, shown = Image.Exif(), []
    for orientation in (1, 3):
        exif[0x0112] = orientation
        image.save(path, format="PNG", exif=exif, compress_level=orientation)  # of another size: made anew
        shown.append(CUB200(cub).load("train").images[0])
    assert np.array_equal(*shown)


# Whole photographs


@pytest.mark.parametrize(
    ("size", "place"),
    [
        ((80, 60), (28, 196, 0, 224)),  # 224 x 168
        ((60, 80), (0, 224, 28, 196)),
        ((500, 333), (37, 186, 0, 224)),  # 149.2 rounds to 149 rows
        ((224, 224), (0, 224, 0, 224)),
        ((1000, 1), (111, 112, 0, 224)),
        ((1, 1), (0, 224, 0, 224)),
    ],
)
def test_a_whole_photograph_is_in_the_middle_of_black(size: tuple[int, int], place: tuple[int, int, int, int]) -> None:
    square, _ = letterbox(Image.new("RGB", size, (255, 254, 253)), 224)
    top, bottom, left, right = place
    expected = np.zeros((224, 224, 3), np.uint8)
    expected[top:bottom, left:right] = (255, 254, 253)
    assert np.array_equal(square, expected)


def test_whole_photographs_are_reduced_in_their_places() -> None:
    """448 x 224 to 224 x 112: on a slope every pixel is the mean of its 2 x 2 block."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(224), np.arange(448))[..., None] // 4 + rng.integers(2, size=3)
    square, _ = letterbox(Image.fromarray(smooth.astype(np.uint8)), 224)
    means = smooth.reshape(112, 2, 224, 2, 3).mean(axis=(1, 3))
    assert not square[:56].any()
    assert not square[168:].any()
    assert np.abs(square[57:167, 1:-1] - means[1:-1, 1:-1]).max() <= 1


@pytest.mark.parametrize("size", [PHOTOGRAPH, (60, 80), (61, 45), (500, 333)])
def test_parts_of_whole_photographs_land_on_their_pixels(cub: Path, size: tuple[int, int]) -> None:
    """A white dot at each visible part is brightest where the part is said to be."""
    spots = [(30 + 5 * part, 20 + 4 * part) for part in range(4)]  # x, y in every photograph

    def paint(number: int) -> Image.Image:
        image = Image.new("RGB", size)
        x, y = spots[number % 4]
        ImageDraw.Draw(image).rectangle((x - 1, y - 1, x, y), fill=(255, 255, 255))  # its middle is the corner (x, y)
        return image

    repaint(cub, paint)
    data = CUBFull(cub).load("test")
    assert data.images.shape == (3, 224, 224, 3)
    steps = np.arange(224) + 0.5
    for image, parts, number in zip(data.images, data.parts, (5, 11, 17), strict=True):
        ink = image[..., 0].astype(float)
        centre = [ink.sum(axis=1) @ steps / ink.sum(), ink.sum(axis=0) @ steps / ink.sum()]
        np.testing.assert_allclose(parts[number % 4, :2], centre, atol=0.3)
        scale = 224 / max(size)
        np.testing.assert_allclose(np.diff(parts[:4, :2], axis=0), np.tile([4, 5], (3, 1)) * scale, rtol=0.01)
    assert not data.parts[:, 4].any()


def test_whole_photographs_share_all_but_the_cropping(cub: Path) -> None:
    cropped, whole = CUB200(cub, species=[1, 3], folds=2), CUBFull(cub, species=[1, 3], folds=2)
    assert whole.fingerprint != cropped.fingerprint
    assert (whole.class_names, whole.part_names) == (cropped.class_names, cropped.part_names)
    for split in PUBLIC_SPLITS:
        ours, theirs = whole.load(split), cropped.load(split)
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.folds, theirs.folds)
        assert np.array_equal(ours.parts[..., 2], theirs.parts[..., 2])
    fed = whole.judge_images(0, np.random.default_rng(0))
    assert fed.images.shape == (4, 224, 224, 3)
    assert fed.parts[..., 2].any()
    with pytest.raises(ConfigurationError, match="has no 9"):
        CUBFull(cub, species=[9])
    with pytest.raises(DatasetNotFoundError, match=r"download_data\.py cub"):
        CUBFull(cub.parent / "nowhere")


def test_the_box_of_a_whole_photograph_may_lie_anywhere(cub: Path) -> None:
    edit(cub / "bounding_boxes.txt", lambda lines: lines.__setitem__(1, "13 80.0 10.0 20.0 20.0"))
    assert len(CUBFull(cub).load("train")) == 12


def test_the_command_for_a_missing_judge_names_species_only_where_some_are_left_out(cub: Path) -> None:
    assert judge_command(CUBFull(cub).with_scales(2)) == (
        f"python scripts/train_judge.py --env GlimpseCUBFull-v0 --root {cub} --scales 2"
    )
    assert '{"species": [1, 3]}' in judge_command(CUB200(cub, species=[3, 1]))
