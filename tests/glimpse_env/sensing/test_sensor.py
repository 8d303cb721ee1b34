from pathlib import Path

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.sensor import Sensor, cut_on_grid


def resample_then_crop(image: np.ndarray, corner: np.ndarray, side: int, factor: int) -> np.ndarray:
    """A window ``factor`` times as wide as the glimpse, the plain way: shrink the whole padded image, then cut."""
    pad = factor * side + factor
    padded = np.pad(image.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)))
    row, col = np.asarray(corner) + pad - (factor * side - side) // 2
    shifted = padded[row % factor :, col % factor :]
    height, width = (length // factor for length in shifted.shape[:2])
    small = np.zeros((height, width, image.shape[2]))
    for r in range(factor):
        for c in range(factor):
            small += shifted[r::factor, c::factor][:height, :width]
    top, left = row // factor, col // factor
    return np.rint(small / factor**2)[top : top + side, left : left + side].astype(np.uint8)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def test_one_scale_is_a_crop(images: np.ndarray) -> None:
    corners = np.array([(row, col) for row in range(0, 29, 7) for col in range(0, 29, 4)])
    indices = np.arange(len(corners)) % 3
    glimpses = Sensor(12)(images, indices, corners)
    assert glimpses.dtype == np.uint8
    assert glimpses.flags.c_contiguous
    assert not np.shares_memory(glimpses, images)
    for glimpse, index, (row, col) in zip(glimpses, indices, corners, strict=True):
        assert np.array_equal(glimpse, images[index, row : row + 12, col : col + 12])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scales", [2, 3, 4])
@pytest.mark.parametrize("side", [12, 9])
def test_scales_are_resampled_windows_about_one_centre(
    images: np.ndarray, channels: int, scales: int, side: int
) -> None:
    images = images[..., :channels]
    span = 40 - side
    corners = np.concatenate(
        [
            [(0, 0), (0, span), (span, 0), (span, span), (14, 13)],
            np.random.default_rng(1).integers(0, span + 1, (20, 2)),
        ]
    )
    indices = np.arange(len(corners)) % 3
    glimpses = Sensor(side, scales)(images, indices, corners)
    assert glimpses.shape == (25, side, side, channels * scales)
    for glimpse, index, corner in zip(glimpses, indices, corners, strict=True):
        for s in range(scales):
            expected = resample_then_crop(images[index], corner, side, 2**s)
            assert np.array_equal(glimpse[..., s * channels : (s + 1) * channels], expected)


def test_images_may_be_memory_mapped(images: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    arguments = np.array([2, 0]), np.array([(3, 5), (28, 28)])
    assert np.array_equal(Sensor(12, 2)(mapped, *arguments), Sensor(12, 2)(images, *arguments))


@pytest.mark.parametrize("scales", [0, 7])
def test_impossible_scales_are_refused(scales: int) -> None:
    with pytest.raises(ConfigurationError, match=f"scales={scales}"):
        Sensor(12, scales)


def test_sums_over_the_widest_window_fit_their_type() -> None:
    white = np.full((1, 128, 128, 1), 255, dtype=np.uint8)
    glimpses = Sensor(4, 6)(white, np.array([0]), np.array([[62, 62]]))  # its widest window is the image
    assert np.all(glimpses == 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "glimpse", "stride", "scales"),
    [
        *((40, 12, 4, 1), (40, 12, 4, 2), (40, 12, 4, 3)),
        *((41, 12, 4, 2), (43, 9, 8, 4), (20, 20, 2, 2), (21, 5, 16, 5)),  # edges cut off, odd sides, one location
        *((40, 12, 4, 4), (30, 7, 3, 2), (30, 8, 1, 3)),  # blocks that windows do not share
        *((45, 12, 33 / 8, 1), (45, 12, 33 / 8, 2), (40, 12, 4.0, 2)),  # uneven, and even by another name
    ],
)
def test_what_is_cut_on_the_grid_is_what_the_sensor_cuts(
    size: int, glimpse: int, stride: float, scales: int, channels: int
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, size, size, channels), dtype=np.uint8)
    grid = LocationGrid(size, glimpse, stride)
    locations = rng.integers(len(grid), size=(3, 50))
    cut = cut_on_grid(images, locations, grid, scales)
    assert cut.shape == (3, 50, glimpse, glimpse, channels * scales)
    assert cut.dtype == np.uint8
    for image, chosen, found in zip(images, locations, cut, strict=True):
        expected = Sensor(glimpse, scales)(image[None], np.zeros(50, int), grid.corners[chosen])
        assert np.array_equal(found, expected)
