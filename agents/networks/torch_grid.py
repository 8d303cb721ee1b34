"""The grid of locations for batches of tensors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from glimpse_env.sensing.geometry import LocationGrid


@dataclass(frozen=True)
class TorchGrid:
    """Finds grid locations by the normalised coordinates that observations hold, see :class:`LocationGrid`."""

    grid: LocationGrid
    stop: bool = False
    """Whether the L locations are followed by an action that stops, which is never one that was looked at; then
    L + 1 takes the place of L below."""

    @property
    def num_actions(self) -> int:
        """L, with ``stop`` L + 1."""
        return len(self.grid) + self.stop

    def nearest(self, locations: Tensor) -> Tensor:
        """Returns (...,) int64: the index of the grid location nearest to normalised ``locations`` (..., 2), with zooms
        (..., 3)."""
        if len(self.grid.levels) > 1:
            return self._nearest_of_levels(locations)
        steps = ((locations + 1.0) * (self.grid.span / 2 / self.grid.stride)).round().long()
        steps = steps.clamp(0, self.grid.side - 1)
        return steps[..., 0] * self.grid.side + steps[..., 1]

    def _nearest_of_levels(self, locations: Tensor) -> Tensor:
        """Returns (...,) int64, the nearest location of the nearest zoom, for locations (..., 3)."""
        grid, octaves = self.grid, math.log2(self.grid.zooms[-1])
        wanted = (locations[..., 2] + 1.0) / 2 * octaves
        logs = torch.tensor([math.log2(zoom) for zoom in grid.zooms], device=locations.device)
        level_of = (wanted[..., None] - logs).abs().argmin(-1)
        index = torch.zeros_like(level_of)
        for k, (part, level) in enumerate(zip(grid.level_slices, grid.levels, strict=True)):
            first = level.offset + grid.glimpse_size * (level.zoom - 1) / 2  # of the narrowest windows' corners
            steps = (((locations[..., :2] + 1.0) * (grid.span / 2) - first) / level.stride).round().long()
            steps = steps.clamp(0, level.side - 1)
            index = torch.where(level_of == k, part.start + steps[..., 0] * level.side + steps[..., 1], index)
        return index

    def visited(self, locations: Tensor, seen: Tensor) -> Tensor:
        """Returns (..., L) bool: which grid locations are among the normalised ``locations`` (..., t, coordinates)
        that are ``seen``, (..., t) bool."""
        index = self.nearest(locations)  # (..., t)
        counts = torch.zeros(*index.shape[:-1], self.num_actions, dtype=torch.int64, device=index.device)
        return counts.scatter_add_(-1, index, seen.long()) > 0

    def visited_before(self, locations: Tensor) -> Tensor:
        """Returns (..., t + 1, L) bool: at i, which grid locations are among the first i of the normalised
        ``locations`` (..., t, coordinates)."""
        index = self.nearest(locations)[..., None]  # (..., t, 1)
        steps = index.shape[-2]
        looked = torch.zeros(*index.shape[:-2], steps + 1, self.num_actions, dtype=torch.int64, device=index.device)
        looked[..., 1:, :].scatter_(-1, index, 1)
        return looked.cumsum(-2) > 0
