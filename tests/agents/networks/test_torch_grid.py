import numpy as np
import pytest
import torch
from torch import Tensor

from agents.networks.torch_grid import TorchGrid
from glimpse_env.sensing.geometry import LocationGrid
from tests.support.toy_agents import GRID, STEPS

GRIDS = [GRID, LocationGrid(45, 12, 4), LocationGrid(12, 12, 4), LocationGrid(96, 32, 8), LocationGrid(50, 7, 3)]
GRIDS += [LocationGrid(224, 16, 208 / 49), LocationGrid(27, 12, 2.5)]
"""Also some whose last location is not at the image's border, one of a single location, and two that are uneven."""


def random_locations(grid: LocationGrid, *shape: int) -> tuple[np.ndarray, Tensor]:
    """Indices (*shape), of which some come twice in a row, and their normalised coordinates (*shape, 2)."""
    indices = np.random.default_rng(0).integers(min(len(grid), 9), size=shape) * (len(grid) // 9 or 1)
    return indices, torch.from_numpy(grid.normalised)[torch.from_numpy(indices)]


@pytest.mark.parametrize("grid", GRIDS)
def test_nearest_inverts_normalised(grid: LocationGrid) -> None:
    locations = torch.from_numpy(grid.normalised)
    assert torch.equal(TorchGrid(grid).nearest(locations), torch.arange(len(grid)))
    assert torch.equal(TorchGrid(grid).nearest(locations[None, :, None]), torch.arange(len(grid))[None, :, None])


@pytest.mark.parametrize("grid", GRIDS)
def test_nearest_is_the_grids(grid: LocationGrid) -> None:
    """For any coordinates in the image, which continuous actions may have."""
    corners = np.random.default_rng(0).integers(grid.span + 1, size=(200, 2))
    between = (corners % grid.stride * 2 != grid.stride).all(1)  # what lies half-way may go either way
    corners = corners[between]
    found = TorchGrid(grid).nearest(torch.from_numpy(grid.normalise(corners)))
    np.testing.assert_array_equal(found, grid.nearest(corners))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_location_is_recognised(grid: LocationGrid) -> None:
    """Also where the last location does not touch the image's border."""
    locations = torch.from_numpy(grid.normalised)[:, None]  # (L, 1, 2)
    visited = TorchGrid(grid).visited(locations, torch.ones(len(grid), 1, dtype=torch.bool))
    assert torch.equal(visited, torch.eye(len(grid), dtype=torch.bool))
    assert not TorchGrid(grid).visited(locations, torch.zeros(len(grid), 1, dtype=torch.bool)).any()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shape", [(STEPS,), (5, STEPS), (2, 3, STEPS)])
def test_visited_by_brute_force(grid: LocationGrid, shape: tuple[int, ...]) -> None:
    indices, locations = random_locations(grid, *shape)
    seen = np.random.default_rng(1).random(shape) < 0.5
    expected = np.zeros((*shape[:-1], len(grid)), dtype=bool)
    for place in np.ndindex(*shape):
        if seen[place]:
            expected[place[:-1]][indices[place]] = True
    np.testing.assert_array_equal(TorchGrid(grid).visited(locations, torch.from_numpy(seen)), expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shape", [(STEPS,), (5, STEPS), (2, 3, STEPS), (3, 0)])
def test_visited_before_by_brute_force(grid: LocationGrid, shape: tuple[int, ...]) -> None:
    indices, locations = random_locations(grid, *shape)
    expected = np.zeros((*shape[:-1], shape[-1] + 1, len(grid)), dtype=bool)
    for place in np.ndindex(*shape):
        expected[place[:-1]][place[-1] + 1 :, indices[place]] = True
    np.testing.assert_array_equal(TorchGrid(grid).visited_before(locations), expected)
