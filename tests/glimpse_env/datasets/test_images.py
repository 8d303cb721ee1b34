"""Image files of every size, mode and state of decay: a picture of the right shape or one named error."""

import contextlib
import inspect
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glimpse_env.datasets import DATASETS
from glimpse_env.datasets.copies import with_mirror_images
from glimpse_env.datasets.cub import CUB200, CUBFull
from glimpse_env.datasets.folder import ImageFolder
from glimpse_env.datasets.images import read_photograph, stored_size
from glimpse_env.errors import ConfigurationError, DatasetError, DatasetFormatError, GlimpseError
from glimpse_env.registration import make_env, make_vector_env
from tests.support.tiny_data import write_tiny_celeba, write_tiny_cub, write_tiny_folder, write_tiny_mnist
from tests.support.toy import SMALL_CELEBA, toy_dataset

FORMATS = {
    "1": ("PNG", "GIF", "BMP", "TIFF"),
    "L": ("JPEG", "PNG", "GIF", "WEBP", "TIFF"),
    "LA": ("PNG", "WEBP"),
    "P": ("PNG", "GIF", "TIFF"),
    "RGB": ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TGA"),
    "RGBA": ("PNG", "WEBP", "TIFF", "TGA"),
    "I;16": ("PNG", "TIFF"),
    "I": ("TIFF",),
    "F": ("TIFF",),
    "CMYK": ("JPEG", "TIFF"),
    "YCbCr": ("JPEG",),  # Pillow 12 writes TIFFs of it that it cannot read
}
"""Kinds of files by Pillow's mode."""


@st.composite
def image_files(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """A sound image file, and its width and height."""
    mode = draw(st.sampled_from(sorted(FORMATS)))
    kind = draw(st.sampled_from(FORMATS[mode]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if mode in ("I;16", "I", "F"):
        values = rng.integers(0, 65536, (height, width))
        values[0, 0] |= 1 << 15  # none too dark
        image = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    options: dict[str, Any] = {}
    if mode == "P" and kind == "PNG" and draw(st.booleans()):
        options["transparency"] = draw(st.sampled_from([0, bytes(range(256))]))
    if kind in ("JPEG", "PNG", "WEBP") and draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue(), (width, height)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("world") / "photos", classes=2)


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cub(tmp_path_factory.mktemp("world"), species=1, images=2)


@pytest.fixture
def every_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own for each :func:`loaded`."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("glimpse_env.datasets.base.cache_folder", lambda: Path(tempfile.mkdtemp(dir=folder)))
        yield


def loaded(photos: Path, content: bytes, suffix: str = ".png") -> np.ndarray | None:
    """The training images of a folder in which one file holds ``content``; None where that file is refused by name."""
    victim = photos / "class-1" / f"odd{suffix}"
    victim.write_bytes(content)
    images, refusal = [], ""
    try:
        source = ImageFolder(photos, size=11, glimpse_size=5, stride=3, num_glimpses=2)
        images = [source.load(split).images for split in ("train", "val", "test")]
    except DatasetFormatError as error:
        refusal = str(error)
    finally:
        victim.unlink()
    if refusal:
        assert str(victim) in refusal
        assert "remove or replace" in refusal
        return None
    return np.concatenate(images)


@given(file=image_files())
def test_sound_files_of_every_kind_and_size_become_images(photos: Path, every_cache: None, file: Any) -> None:
    images = loaded(photos, file[0])
    assert images is not None
    assert (images.shape, images.dtype) == ((13, 11, 11, 3), np.uint8)


@given(file=image_files(), share=st.floats(0, 1), suffix=st.sampled_from([".jpg", ".png", ".tiff"]))
def test_files_cut_anywhere_become_images_or_are_named(
    photos: Path, every_cache: None, file: Any, share: float, suffix: str
) -> None:
    images = loaded(photos, file[0][: int(share * len(file[0]))], suffix)
    assert images is None or images.shape == (13, 11, 11, 3)
    if share < 0.2:
        assert images is None or len(file[0]) < 400


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_files_cut_at_every_byte_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)).save(buffer, kind)
    content, path, sizes = buffer.getvalue(), tmp_path / "cut", []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with contextlib.suppress(ValueError):
            sizes.append(read_photograph(path, upright=True).size)
    assert set(sizes) <= {(13, 9)}
    assert len(sizes) < len(content) / 3  # whole but for what comes behind the pixels
    path.write_bytes(content)
    assert read_photograph(path, upright=True).size == (13, 9)


@given(file=image_files(), seed=st.integers(0, 2**32), flips=st.integers(1, 30))
def test_files_with_wrong_bytes_become_images_or_are_named(
    photos: Path, every_cache: None, file: Any, seed: int, flips: int
) -> None:
    content, rng = bytearray(file[0]), np.random.default_rng(seed)
    for place in rng.integers(len(content), size=flips):
        content[place] = rng.integers(256)
    images = loaded(photos, bytes(content))
    assert images is None or images.shape == (13, 11, 11, 3)


@given(content=st.one_of(st.binary(max_size=300), st.text().map(str.encode)))
def test_files_that_are_no_images_are_named(photos: Path, every_cache: None, content: bytes) -> None:
    assert loaded(photos, content, ".jpg") is None


ODD_DDS = b"DDS " + bytes([124, *[0] * 7, *[1, 0, 0, 0] * 2]) + bytes(200)
"""A DDS file on which Pillow raises NotImplementedError."""


@pytest.mark.parametrize("content", [b"", b"GIF89a\0\0\0\0\0\0\0;", b"P6 0 0 255\n", b"\xff\xd8\xff\xd9", ODD_DDS])
def test_images_without_pixels_are_named(photos: Path, every_cache: None, content: bytes) -> None:
    assert loaded(photos, content) is None


def test_a_failed_split_is_made_anew_once_the_image_is_replaced(photos: Path, fresh_cache: Path) -> None:
    assert loaded(photos, b"no image") is None
    assert loaded(photos, (photos / "class-2" / "0.png").read_bytes()) is not None


def test_pictures_too_large_to_be_meant_are_named(
    photos: Path, every_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any pixel is decoded: the files break off behind their heads. Pillow itself only warns of 80 x 61."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4800)
    for size, named in (((100, 100), True), ((80, 61), True), ((80, 60), False)):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        assert (loaded(photos, buffer.getvalue()) is None) == named
        (photos.parent / "head.png").write_bytes(buffer.getvalue()[:41])
        with pytest.raises(ValueError, match="DecompressionBombError" if named else "truncated"):
            read_photograph(photos.parent / "head.png", upright=True)
        if named:
            with pytest.raises(ValueError, match="DecompressionBombError"):
                stored_size(photos.parent / "head.png")


@given(file=image_files(), share=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_cub_reads_the_same_files_or_names_them_with_their_line(
    cub: Path, every_cache: None, file: Any, share: float
) -> None:
    content, (width, height) = file
    victim = cub / "images" / "001.Tiny_Bird_1" / "Tiny_Bird_1_0000.jpg"
    victim.write_bytes(content[: int(share * len(content))])
    boxes = cub / "bounding_boxes.txt"
    boxes.write_text(f"11 0.0 0.0 {width} {height}\n13 20.0 15.0 40.0 30.0\n")
    for kind in (CUB200, CUBFull):
        refusal, shape = "", (0, 0, 0)
        try:
            shape = kind(cub).load("train").images.shape[1:]
        except DatasetFormatError as error:
            refusal = str(error)
        if refusal:
            assert share < 1
            assert f"{victim}, named in {cub / 'images.txt'}:1" in refusal
        else:
            assert shape == kind.image_shape


WIDE = {
    "int32": np.array([[-(2**31), 2**31 - 1]], dtype=np.int32),
    "small int32": np.array([[-3, 7]], dtype=np.int32),
    "float32": np.array([[-0.5, 1.5]], dtype=np.float32),
    "bright float32": np.array([[3e4, 7e4]], dtype=np.float32),
    "extreme float32": np.array([[-3.4e38, 3.4e38]], dtype=np.float32),
}
"""The lowest and the highest pixel of pictures."""


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("upright", [True, False])
def test_pixels_of_32_bits_are_scaled_by_their_range(tmp_path: Path, name: str, upright: bool) -> None:
    low, high = WIDE[name].astype(np.float64)[0]
    values = np.linspace(low / 2, high / 2, 11) * 2
    path = tmp_path / "wide.tiff"
    Image.fromarray(values[None].astype(WIDE[name].dtype)).save(path)
    pixels = np.asarray(read_photograph(path, upright=upright)).astype(int)
    assert (pixels == pixels[..., :1]).all()
    np.testing.assert_allclose(pixels[0, :, 0], np.linspace(0, 255, 11), atol=0.6 if abs(high) > 10 else 26)


def test_unsigned_pixels_of_32_bits_are_not_taken_for_signed_ones(tmp_path: Path) -> None:
    path = tmp_path / "unsigned.tiff"
    values = np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32)
    Image.fromarray(values.view(np.int32)).save(path)
    tag = b"\x53\x01\x03\0\x01\0\0\0"  # the sample format, one short integer, which Pillow writes as signed
    content = path.read_bytes()
    assert content.count(tag + b"\x02") == 1
    path.write_bytes(content.replace(tag + b"\x02", tag + b"\x01"))
    assert np.asarray(read_photograph(path, upright=True))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("value", "wanted"), [(0.0, 128), (7.0, 128), (np.nan, None), (np.inf, None)])
def test_flat_pictures_are_grey_and_what_is_no_number_is_refused(
    tmp_path: Path, value: float, wanted: int | None
) -> None:
    path = tmp_path / "flat.tiff"
    Image.fromarray(np.full((3, 4), value, dtype=np.float32)).save(path)
    if wanted is None:
        with pytest.raises(ValueError, match="a pixel is not a finite number"):
            read_photograph(path, upright=True)
    else:
        assert (np.asarray(read_photograph(path, upright=True)) == wanted).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize(("bits", "read"), [(8, False), (12, False), (13, True), (16, True)])
def test_pictures_of_16_bits_that_would_be_nearly_black_are_refused(
    tmp_path: Path, kind: str, bits: int, read: bool
) -> None:
    path, top = tmp_path / "picture", 2**bits - 1
    Image.fromarray(np.array([[0, top // 2, top]], dtype=np.uint16)).save(path, kind)
    if read:
        assert np.asarray(read_photograph(path, upright=True)).max() == top // 257
    else:
        with pytest.raises(ValueError, match=f"are {top} at most, so that it would be nearly black"):
            read_photograph(path, upright=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pictures_whose_lowest_number_is_white_are_inverted_or_refused(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "negative.tiff"
    Image.fromarray(np.array([[0, 255]], dtype=dtype)).save(path)
    content, tag = path.read_bytes(), b"\x06\x01\x03\0\x01\0\0\0"  # the photometric interpretation, a short integer
    assert content.count(tag + b"\x01") == 1
    path.write_bytes(content.replace(tag + b"\x01", tag + b"\x00"))
    if dtype == np.uint8:
        assert np.asarray(read_photograph(path, upright=True))[0, :, 0].tolist() == [255, 0]
    else:
        with pytest.raises(ValueError, match="lowest number is white"):
            read_photograph(path, upright=True)


def test_formats_that_run_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    Image.new("RGB", (9, 9)).save(path, "EPS")
    with pytest.raises(ValueError, match="cannot identify"):
        read_photograph(path, upright=True)


def test_grey_pictures_stay_grey_and_16_bits_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "ramp.png"
    Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)).save(path)
    pixels = np.asarray(read_photograph(path, upright=True)).astype(int)
    assert (pixels == pixels[..., :1]).all()
    flat = pixels[..., 0].ravel()
    assert (np.diff(flat) >= 0).all()
    assert (flat.min(), flat.max()) == (0, 255)


# Arguments of the data sets and the ids

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.one_of(st.integers(-1, 4), st.text(max_size=2)), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.just(np.arange(3)),
    st.just(np.int64(5)),
    st.just("x" * 5000),
    st.just("~nobody/photos"),
    st.just("\0"),
)
ARGUMENTS = {
    "cub": ("root", "species", "folds"),
    "cub-full": ("root", "species", "folds"),
    "celeba-hq": ("root", "attribute", "folds", "num_images"),
    "birds": ("seed", "num_train", "num_val", "num_test", "num_judge", "num_oracle", "size", "attribute"),
    "mnist": ("root", "seed", "num_glimpses", "placements"),
    "digits": ("seed", "num_glimpses"),
    "signpost": ("seed", "num_train", "num_val", "num_test", "num_judge"),
    "folder": ("root", "size", "glimpse_size", "stride", "num_glimpses", "folds", "mirror"),
}
UNTOLD = {"size", "attribute"}, {"num_glimpses", "placements"}
"""Arguments of the drawn birds, and of digits, that are listed among the options where they are chosen only."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """For each data set the root of a tiny one."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_cub(root, species=2)
    write_tiny_mnist(root)
    photos = write_tiny_folder(root / "photos")
    write_tiny_celeba(root)
    own = {"cub": root, "cub-full": root, "celeba-hq": root, "mnist": root, "folder": photos}
    given: dict[str, dict[str, Any]] = {name: {"root": str(own[name])} if name in own else {} for name in DATASETS}
    given["celeba-hq"] |= SMALL_CELEBA
    return given


def test_the_lists_of_arguments_are_whole(world: dict[str, dict[str, Any]]) -> None:
    for name, kind in DATASETS.items():
        assert tuple(inspect.signature(kind).parameters) == ARGUMENTS[name]
        untold = UNTOLD[0] if name == "birds" else UNTOLD[1] if name in ("mnist", "digits") else set()
        assert set(kind(**world[name]).options) == set(ARGUMENTS[name]) - untold


@given(data=st.data())
@pytest.mark.parametrize("name", DATASETS)
def test_any_argument_of_a_data_set_is_taken_or_named(
    world: dict[str, dict[str, Any]], name: str, data: st.DataObject
) -> None:
    argument, value = data.draw(st.sampled_from(ARGUMENTS[name])), data.draw(JUNK)
    refusal = ""
    try:
        source = DATASETS[name](**{**world[name], argument: value})
    except ConfigurationError as error:
        refusal = str(error)
    except DatasetError:
        return  # another root, or more folds than there are images
    if refusal:
        assert argument in refusal
    else:
        assert len(source.fingerprint) == 16
        assert source.image_shape[0] == source.image_shape[1]


@given(data=st.data())
@pytest.mark.parametrize("make", [make_env, make_vector_env])
def test_any_argument_of_an_id_is_taken_or_named(
    world: dict[str, dict[str, Any]], fresh_cache: Path, make: Any, data: st.DataObject
) -> None:
    names = ("dataset", "split", "root", "dataset_options", "judge", "scales", "num_envs", "size", "max_episode_steps")
    others = ("observation", "action", "reward", "render_mode", "geometry", "wings")
    given = data.draw(st.dictionaries(st.sampled_from(names + others), JUNK, min_size=1, max_size=2))
    fixed = {"dataset": "folder", "root": world["folder"]["root"]}
    count = {"num_envs": 2} if "vector" in make.__name__ else {}
    with pytest.raises(GlimpseError):  # at the latest for want of a judge
        make(**{**fixed, **count, **given})


def test_mirror_images_come_behind_the_images_with_their_parts(fresh_cache: Path) -> None:
    parts = np.array([[[3.0, 5.0, 1.0], [7.0, 30.0, 1.0]], [[0.0, 0.0, 0.0], [9.0, 10.0, 1.0]]], dtype=np.float32)
    dataset = toy_dataset(2, num_classes=2, part_names=("left eye", "right eye"), parts=parts)
    both = with_mirror_images(dataset)
    np.testing.assert_array_equal(both.images, np.concatenate([dataset.images, dataset.images[:, :, ::-1]]))
    assert both.labels.tolist() == [0, 1, 0, 1]
    assert both.parts[2].tolist() == [[7.0, 10.0, 1.0], [3.0, 35.0, 1.0]]  # a mirrored left eye is a right one
    assert both.parts[3].tolist() == [[9.0, 30.0, 1.0], [0.0, 0.0, 0.0]]
    assert both.fingerprint != dataset.fingerprint  # tables of the one are none of the other
