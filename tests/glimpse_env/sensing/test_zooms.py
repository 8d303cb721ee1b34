"""Windows of several widths: where they can be, what they show, and the way back from what is observed."""

import numpy as np
import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import Geometry, LocationGrid, ZoomGrid
from glimpse_env.sensing.observations import CanvasObserver, Histories, HistoryObserver, unpack_history
from glimpse_env.sensing.sensor import Sensor, cut_on_grid

GRIDS = [
    ZoomGrid(60, 12, 4, (1, 2, 4)),
    ZoomGrid(61, 12, 4, (1, 3)),
    ZoomGrid(50, 9, 5, (1, 2, 5)),
    ZoomGrid(48, 8, 40 / 13, (1, 2, 4)),  # uneven
    ZoomGrid(20, 7, 9, (1, 2)),
]


def reduced(image: np.ndarray, row: int, col: int, zoom: int, side: int) -> np.ndarray:
    """The window, pixel by pixel."""
    out = np.empty((side, side, image.shape[2]), dtype=np.uint8)
    for r in range(side):
        for c in range(side):
            block = image[row + r * zoom : row + (r + 1) * zoom, col + c * zoom : col + (c + 1) * zoom]
            assert block.shape[:2] == (zoom, zoom)
            for channel in range(image.shape[2]):
                out[r, c, channel] = round(sum(int(v) for v in block[..., channel].reshape(-1)) / zoom**2)
    return out


def random_images(grid: LocationGrid, count: int = 3, channels: int = 2) -> np.ndarray:
    shape = (count, grid.image_size, grid.image_size, channels)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_levels_are_grids_of_wider_windows_centred_in_the_image(grid: ZoomGrid) -> None:
    assert len(grid) == len(grid.corners) == sum(len(level) for level in grid.levels)
    assert grid.levels[0] == LocationGrid(grid.image_size, grid.glimpse_size, grid.stride)
    for zoom, part, level in zip(grid.zooms, grid.level_slices, grid.levels, strict=True):
        corners = grid.corners[part]
        assert (corners[:, 2] == zoom).all()
        assert np.array_equal(corners[:, :2], level.corners)
        width = zoom * grid.glimpse_size
        assert level.glimpse_size == width
        assert corners[:, :2].min() >= 0
        assert corners[:, :2].max() + width <= grid.image_size
        side = 1  # as many windows as fit
        while round(side * zoom * grid.stride) + width <= grid.image_size:
            side += 1
        assert len(corners) == side**2
        before, behind = corners[:, 0].min(), grid.image_size - width - corners[:, 0].max()
        assert 0 <= behind - before <= 1 or zoom == 1  # in the middle; the narrowest begin in the corner
    assert grid.centre < len(grid.levels[0])


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_windows_are_averages_of_blocks(grid: ZoomGrid) -> None:
    images, rng = random_images(grid), np.random.default_rng(1)
    zooms = rng.choice(grid.zooms, 40)
    places = (rng.random((40, 2)) * (grid.image_size - grid.glimpse_size * zooms[:, None] + 1)).astype(np.int64)
    corners = np.column_stack([places, zooms])  # anywhere, also off the grid
    indices = rng.integers(3, size=40)
    glimpses = Sensor(grid.glimpse_size)(images, indices, corners)
    assert glimpses.dtype == np.uint8
    for glimpse, index, (row, col, zoom) in zip(glimpses, indices, corners, strict=True):
        assert np.array_equal(glimpse, reduced(images[index], row, col, zoom, grid.glimpse_size))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_windows_on_the_grid_are_cut_as_the_sensor_cuts_them(grid: ZoomGrid) -> None:
    images, rng = random_images(grid), np.random.default_rng(2)
    every = np.broadcast_to(np.arange(len(grid)), (3, len(grid)))
    narrow_of_first = np.stack(
        [rng.permutation(len(grid.levels[0]))[:4], rng.integers(len(grid), size=4), every[0, -4:]]
    )
    for locations in (every, narrow_of_first):
        owners = np.repeat(np.arange(3), locations.shape[1])
        expected = Sensor(grid.glimpse_size)(images, owners, grid.corners[locations.reshape(-1)])
        cut = cut_on_grid(images, locations, grid, 1)
        assert np.array_equal(cut.reshape(expected.shape), expected)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_corners_come_back_from_normalised_coordinates(grid: ZoomGrid) -> None:
    assert grid.normalised.shape == (len(grid), 3)
    assert np.abs(grid.normalised).max() <= 1.0
    assert np.array_equal(grid.denormalise(grid.normalised), grid.corners)
    assert np.array_equal(grid.nearest(grid.corners), np.arange(len(grid)))
    narrow = grid.levels[0]
    assert np.array_equal(grid.normalised[: len(narrow), :2], narrow.normalised)  # as without zooms, to the bit
    rng = np.random.default_rng(3)
    actions = rng.uniform(-1, 1, (500, 3)).astype(np.float32)
    corners = grid.denormalise(actions)
    width = grid.glimpse_size * corners[:, 2:]
    assert (corners[:, :2] >= 0).all()
    assert (corners[:, :2] + width <= grid.image_size).all()
    assert np.array_equal(grid.denormalise(grid.normalise(corners)), corners)
    # the nearest zoom by its logarithm, and the window whose centre is nearest to the place that is meant
    octaves = np.log2(grid.zooms) / np.log2(grid.zooms[-1]) * 2 - 1
    assert np.array_equal(corners[:, 2], np.array(grid.zooms)[np.abs(actions[:, 2:] - octaves).argmin(1)])
    meant = (actions[:, :2].astype(np.float64) + 1) * narrow.span / 2 + grid.glimpse_size / 2
    for corner, middle in zip(corners, meant, strict=True):
        starts = np.arange(grid.image_size - grid.glimpse_size * corner[2] + 1)
        distances = np.abs(starts[:, None] + grid.glimpse_size * corner[2] / 2 - middle)
        assert np.allclose(np.take_along_axis(distances, corner[None, :2], 0)[0], distances.min(0))


def test_the_nearest_location_is_of_the_same_zoom() -> None:
    grid = GRIDS[0]
    rng = np.random.default_rng(4)
    for zoom, part, level in zip(grid.zooms, grid.level_slices, grid.levels, strict=True):
        corners = rng.integers(0, level.span + 1, (60, 2))
        found = grid.nearest(np.insert(corners, 2, zoom, axis=1)) - part.start
        distances = np.abs(corners[:, None] - level.corners).sum(2)  # (60, L)
        assert np.array_equal(distances[np.arange(60), found], distances.min(1))


def test_mirrored_locations_show_the_mirror_image() -> None:
    grid = GRIDS[0]
    assert grid.mirror_symmetric
    assert not ZoomGrid(61, 12, 4, (1, 2)).mirror_symmetric
    images = random_images(grid, 1)
    every = np.arange(len(grid))[None]
    ours = cut_on_grid(np.ascontiguousarray(images[:, :, ::-1]), every, grid, 1)[0]
    theirs = cut_on_grid(images, every, grid, 1)[0]
    assert np.array_equal(ours[grid.mirrored], theirs[:, :, ::-1])


def test_histories_come_back_from_observations() -> None:
    geometry = Geometry(60, 12, 4, 4, zooms=(1, 2, 4))
    rng = np.random.default_rng(6)
    counts = np.array([0, 2, 4])
    corners = geometry.grid.corners[rng.integers(len(geometry.grid), size=(3, 4))]
    taken = np.arange(4) < counts[:, None]
    histories = Histories(
        rng.integers(0, 256, (3, 4, 12, 12, 3), dtype=np.uint8) * taken[..., None, None, None],
        corners * taken[..., None],
        counts,
    )
    observer = HistoryObserver(geometry, 3)
    observations = observer(histories)
    assert observations["locations"].shape == (3, 12)
    back = unpack_history(observations, geometry.grid)
    assert np.array_equal(back.corners, histories.corners)
    assert np.array_equal(back.glimpses, histories.glimpses)
    assert np.array_equal(back.counts, counts)


def test_the_canvas_shows_what_was_seen_most_closely() -> None:
    geometry = Geometry(24, 4, 4, 4, zooms=(1, 2, 4))
    images = random_images(geometry.grid, 1, 3)
    corners = np.array([[4, 0, 2], [5, 2, 1], [2, 1, 4], [6, 2, 2]])
    glimpses = geometry.sensor(images, np.zeros(4, dtype=np.int64), corners)
    expected = np.zeros((24, 24, 4), dtype=np.uint8)
    for zoom, order in ((4, [2]), (2, [0, 3]), (1, [1])):  # the closest on top, else the newest
        for t in order:
            row, col, _ = corners[t]
            window = expected[row : row + 4 * zoom, col : col + 4 * zoom]
            window[..., :3] = glimpses[t].repeat(zoom, 0).repeat(zoom, 1)
            window[..., 3] = 255 // zoom
    observer = CanvasObserver(geometry, 3)
    histories = Histories(glimpses[None], corners[None], np.array([4]))
    assert np.array_equal(observer(histories)[0], expected)


@pytest.mark.parametrize("zooms", [(2, 4), (1, 1, 2), (1, 4, 2), (), (1, 2.0), "12", 2, (1, 0)])
def test_zooms_that_do_not_ascend_from_one_are_refused(zooms: object) -> None:
    with pytest.raises(ConfigurationError, match="zooms="):
        Geometry(60, 12, 4, 5, zooms=zooms)


def test_zooms_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"zooms=\(1, 6\).*60"):
        Geometry(60, 12, 4, 5, zooms=(1, 6))
    with pytest.raises(ConfigurationError, match=r"scales=2 does not combine with zooms=\[1, 2\]"):
        Geometry(60, 12, 4, 5, scales=2, zooms=(1, 2))
    assert Geometry(60, 12, 4, 5, zooms=[1]) == Geometry(60, 12, 4, 5)
