"""The grid of locations for batches of tensors."""

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
        """Returns (...,) int64: the index of the grid location nearest to normalised ``locations`` (..., 2)."""
        steps = ((locations + 1.0) * (self.grid.span / 2 / self.grid.stride)).round().long()
        steps = steps.clamp(0, self.grid.side - 1)
        return steps[..., 0] * self.grid.side + steps[..., 1]

    def visited(self, locations: Tensor, seen: Tensor) -> Tensor:
        """Returns (..., L) bool: which grid locations are among the normalised ``locations`` (..., t, 2) that are
        ``seen``, (..., t) bool."""
        index = self.nearest(locations)  # (..., t)
        counts = torch.zeros(*index.shape[:-1], self.num_actions, dtype=torch.int64, device=index.device)
        return counts.scatter_add_(-1, index, seen.long()) > 0

    def visited_before(self, locations: Tensor) -> Tensor:
        """Returns (..., t + 1, L) bool: at i, which grid locations are among the first i of the normalised
        ``locations`` (..., t, 2)."""
        index = self.nearest(locations)[..., None]  # (..., t, 1)
        steps = index.shape[-2]
        looked = torch.zeros(*index.shape[:-2], steps + 1, self.num_actions, dtype=torch.int64, device=index.device)
        looked[..., 1:, :].scatter_(-1, index, 1)
        return looked.cumsum(-2) > 0
