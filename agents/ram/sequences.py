"""Glimpse sequences, from any source, that supervise a part of the training images."""

from dataclasses import dataclass

import numpy as np

from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid


@dataclass(frozen=True)
class Sequences:
    """A glimpse sequence on each of N training images.

    Raises:
        ConfigurationError: if there is no sequence, an image has two, or the shapes do not fit.
    """

    indices: np.ndarray
    """(N,) int64: images of the training split, each once."""
    locations: np.ndarray
    """(N, T) int64: grid locations in the order they are looked at."""

    def __post_init__(self) -> None:
        count = len(self.indices)
        if count == 0 or self.locations.ndim != 2 or len(self.locations) != count:
            raise ConfigurationError(
                f"sequences need indices (N,) and locations (N, T), N >= 1, not {self.indices.shape} and "
                f"{self.locations.shape}."
            )
        if self.locations.min(initial=0) < 0:
            raise ConfigurationError("sequences that stop cannot supervise RAM; take those of a policy that does not.")
        if len(np.unique(self.indices)) < count:
            raise ConfigurationError(f"{count} sequences are of {len(np.unique(self.indices))} images; give each one.")

    def __len__(self) -> int:
        return len(self.indices)

    def with_mirror_images(self, grid: LocationGrid, images: int) -> "Sequences":
        """Returns 2 N sequences, these and their mirror images, as :func:`with_mirror_images` has them of ``images``
        images."""
        mirror = grid.mirrored
        return Sequences(
            np.concatenate([self.indices, self.indices + images]),
            np.concatenate([self.locations, mirror[self.locations]]),
        )

    def first(self, num_glimpses: int) -> "Sequences":
        """Returns the sequences cut to their first ``num_glimpses`` locations.

        Raises:
            ConfigurationError: if they have fewer.
        """
        if num_glimpses > self.locations.shape[1]:
            raise ConfigurationError(
                f"sequences of {num_glimpses} glimpses were asked for; they have {self.locations.shape[1]}."
            )
        return Sequences(self.indices, self.locations[:, :num_glimpses])
