import numpy as np
import pytest

from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.pyramid import cut_on_grid
from glimpse_env.sensing.sensor import Sensor


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
