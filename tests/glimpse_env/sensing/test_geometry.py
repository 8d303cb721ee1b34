import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.sensor import Sensor

UNEVEN = LocationGrid(224, 16, 208 / 49)
"""CelebA-HQ's."""
GRIDS = [LocationGrid(128, 32, 8), LocationGrid(60, 12, 4), LocationGrid(40, 12, 5), UNEVEN]


@pytest.mark.parametrize(("size", "glimpse", "stride"), [(128, 32, 8), (60, 12, 4), (40, 12, 5), (12, 12, 4)])
def test_corners_are_listed_row_by_row(size: int, glimpse: int, stride: int) -> None:
    grid = LocationGrid(size, glimpse, stride)
    expected = [
        (row, col) for row in range(0, size - glimpse + 1, stride) for col in range(0, size - glimpse + 1, stride)
    ]
    assert grid.corners.tolist() == [list(corner) for corner in expected]
    assert len(grid) == len(expected) == grid.side**2


def test_both_protocols_have_169_locations() -> None:
    assert len(LocationGrid(128, 32, 8)) == len(LocationGrid(60, 12, 4)) == 169
    assert LocationGrid(128, 32, 8).corners.max() == 96
    assert LocationGrid(60, 12, 4).corners.max() == 48


@pytest.mark.parametrize("grid", GRIDS)
def test_normalised_coordinates_run_from_minus_one_to_one(grid: LocationGrid) -> None:
    assert grid.normalise(np.array([0, grid.span])).tolist() == [-1.0, 1.0]
    assert grid.normalised.dtype == np.float32
    assert np.allclose(np.diff(grid.normalise(np.arange(grid.span + 1))), 2 / grid.span, atol=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_denormalise_inverts_normalise_at_every_pixel(grid: LocationGrid) -> None:
    pixels = np.stack(np.meshgrid(*[np.arange(grid.span + 1)] * 2), axis=-1)
    assert np.array_equal(grid.denormalise(grid.normalise(pixels)), pixels)


def test_denormalise_takes_the_nearest_pixel() -> None:
    grid = LocationGrid(60, 12, 4)
    coordinates = np.linspace(-1, 1, 1001)
    distances = np.abs((coordinates[:, None] + 1) * 24 - np.arange(49))  # (1001, pixels)
    chosen = grid.denormalise(coordinates)
    assert np.allclose(distances[np.arange(1001), chosen], distances.min(axis=1))


def test_a_stride_that_is_no_whole_number_spaces_locations_by_the_pixels_on_either_side_of_it() -> None:
    assert UNEVEN.side == 50
    assert len(UNEVEN) == 2500
    assert UNEVEN.corners.dtype == np.int64
    assert UNEVEN.corners[0].tolist() == [0, 0]
    assert UNEVEN.corners[-1].tolist() == [208, 208]
    assert set(np.diff(UNEVEN.steps).tolist()) == {4, 5}
    assert not UNEVEN.even


@pytest.mark.parametrize("grid", [*GRIDS, LocationGrid(33, 12, 7 / 3), LocationGrid(30, 5, 1.25)])
def test_nearest_inverts_corners(grid: LocationGrid) -> None:
    assert np.array_equal(grid.nearest(grid.corners), np.arange(len(grid)))


def test_a_grid_is_its_own_mirror_image_or_not() -> None:
    assert UNEVEN.mirror_symmetric
    assert LocationGrid(128, 32, 8).mirror_symmetric
    assert not LocationGrid(61, 12, 4).mirror_symmetric
    assert not LocationGrid(27, 12, 2.5).mirror_symmetric  # 0, 2, 5, 8, 10, 12, 15


@pytest.mark.parametrize("grid", [UNEVEN, LocationGrid(33, 12, 7 / 3), LocationGrid(30, 5, 1.25)])
def test_nearest_is_the_closest_location_on_uneven_grids(grid: LocationGrid) -> None:
    pixels = np.arange(grid.span + 1)
    rows, cols = np.divmod(grid.nearest(np.stack([pixels, grid.span - pixels], axis=-1)), grid.side)
    distances = np.abs(pixels[:, None] - grid.steps)  # (pixels, side)
    assert np.array_equal(distances[pixels, rows], distances.min(axis=1))
    assert np.array_equal(distances[grid.span - pixels, cols], distances[::-1].min(axis=1))


@pytest.mark.parametrize("grid", GRIDS[:-1])
def test_nearest_is_the_closest_location_of_every_pixel(grid: LocationGrid) -> None:
    pixels = np.stack(np.meshgrid(*[np.arange(grid.span + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    squared = ((pixels[:, None] - grid.corners) ** 2).sum(axis=-1)  # (pixels, L)
    assert np.array_equal(squared[np.arange(len(pixels)), grid.nearest(pixels)], squared.min(axis=1))
    assert np.array_equal(grid.nearest(grid.corners), np.arange(len(grid)))


@pytest.mark.parametrize("grid", GRIDS)
def test_centre_is_the_location_nearest_to_the_middle(grid: LocationGrid) -> None:
    distances = np.abs(grid.corners + grid.glimpse_size / 2 - grid.image_size / 2).sum(axis=1)
    assert distances[grid.centre] == distances.min()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((60, 61, 4), "glimpse_size=61"), ((60, 0, 4), "glimpse_size=0"), ((60, 12, 0), "stride=0")],
)
def test_impossible_grids_are_refused(arguments: tuple[int, int, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        LocationGrid(*arguments)


def test_a_geometry_has_a_grid_and_a_sensor_of_its_own() -> None:
    geometry = Geometry(image_size=60, glimpse_size=12, stride=4, num_glimpses=6, scales=2)
    assert (geometry.grid, geometry.sensor) == (LocationGrid(60, 12, 4), Sensor(12, 2))
    assert geometry.grid is geometry.grid
    assert Geometry(60, 12, 4, 6).scales == 1
    assert pickle.loads(pickle.dumps(geometry)) == geometry != replace(geometry, scales=3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"glimpse_size": 61}, "glimpse_size=61"),
        ({"stride": 0.5}, "stride=0.5"),
        ({"num_glimpses": 0}, "num_glimpses=0"),
        ({"num_glimpses": 2.5}, "num_glimpses=2.5"),
        ({"scales": 0}, "scales=0"),
        ({"scales": 7}, "scales=7"),
    ],
)
def test_what_makes_no_geometry_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        replace(Geometry(60, 12, 4, 6), **changes)
