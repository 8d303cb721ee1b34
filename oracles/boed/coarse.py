"""A coarse search of a bank of images: at each grid location, glimpses are compared by their principal components.

Squared distances are estimated from the components, P the projection onto them, and from the energy outside them,

    d(y, x)^2 ~ |P y - P x|^2 + residual (|y - P y|^2 + |x - P x|^2)    (y and x centred)

which orders a bank well enough to choose the few images whose distances are computed exactly.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glimpse_env.files import cache_folder, kept, load_array, new_arrays, whole_folder

RESIDUAL = 0.35
"""Share of the energies outside the components that adds to the distance: 1 if these parts of two glimpses were
unrelated, 0 if they were equal. On drawn birds compared by pixels, 0.35 and 0.5 missed the fewest of the near images
among 0, 0.2, 0.35, 0.5, 0.65 and 1."""
FITTED_ENTRIES = 2000
"""Entries that the components are fitted to, at most, spread over the bank."""
ENTRIES_PER_PROJECTION = 128
"""Entries projected at a time."""
ENTRIES_PER_SEARCH = 8192
"""Entries searched at a time, so that the arrays stay in the processor's cache."""

Features = Callable[[np.ndarray, int], Tensor]
"""``features(entries (n,), location)`` gives the numbers (n, F) float32 by which entries of the bank are compared."""


class CoarseTable:
    """Principal components of N entries at L locations; those of one location are contiguous.

    Attributes:
        means: (L, F) float32, means of the features.
        components: (L, d, F) float16, orthonormal up to half precision.
        projections: (L, N, d) float16, of the centred features onto the components.
        energies: (L, N) float32: |P x|^2 + residual |x - P x|^2.
    """

    def __init__(
        self,
        means: np.ndarray,
        components: np.ndarray,
        projections: np.ndarray,
        energies: np.ndarray,
        residual: float = RESIDUAL,
    ):
        self.residual = residual
        self.means, self.components = torch.from_numpy(means), torch.from_numpy(components)
        self.projections, self.energies = torch.from_numpy(projections), torch.from_numpy(energies)

    @classmethod
    def made(
        cls,
        features: Features,
        count: int,
        locations: int,
        dimensions: int,
        key: str | None,
        residual: float = RESIDUAL,
    ) -> "CoarseTable":
        """Returns the table of ``count`` entries, memory-mapped from the cache, where it is kept under ``key``.

        Args:
            features: see :data:`Features`.
            count: N.
            locations: L.
            dimensions: d; fewer where the features or the entries are fewer.
            key: name of its folder in the cache; None keeps the table in memory.
            residual: see :data:`RESIDUAL`; tables with another than the default are not cached.
        """
        width = features(np.arange(1), 0).shape[1]
        most = min(dimensions, width, count)
        shapes = {
            "means": ((locations, width), np.float32),
            "components": ((locations, most, width), np.float16),
            "projections": ((locations, count, most), np.float16),
            "energies": ((locations, count), np.float32),
        }
        if key is None:
            arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
            _fill(features, residual, arrays)
            return cls(**arrays, residual=residual)

        def read(folder: Path) -> "CoarseTable":
            # copy-on-write, as torch has no read-only tensors
            arrays: dict[str, Any] = {name: load_array(folder / f"{name}.npy", "c") for name in shapes}
            return cls(**arrays)

        def write(folder: Path) -> None:
            with whole_folder(folder) as temporary:
                files = new_arrays(temporary, shapes)
                _fill(features, residual, files)
                for file in files.values():
                    file.flush()

        return kept(cache_folder() / "coarse" / key, read, write)

    def squared_distances(self, queries: Tensor, location: int) -> Tensor:
        """Returns estimates (B, N) float32 for glimpses with the features ``queries`` (B, F) at a grid location."""
        device = queries.device
        centred = queries - self.means[location].to(device)
        projected = centred @ self.components[location].to(device).float().T  # (B, d)
        energy = _energy(centred, projected, self.residual)[:, None]
        distances = queries.new_empty(len(queries), self.projections.shape[1])
        parts = zip(
            self.projections[location].split(ENTRIES_PER_SEARCH),
            self.energies[location].split(ENTRIES_PER_SEARCH),
            distances.split(ENTRIES_PER_SEARCH, dim=1),
            strict=True,
        )
        for projections, energies, out in parts:
            inner = torch.addmm(energies.to(device), projected, projections.to(device).float().T, alpha=-2.0)
            out.copy_(inner.add_(energy))
        return distances


def _energy(centred: Tensor, projected: Tensor, residual: float) -> Tensor:
    """Returns |P x|^2 + residual |x - P x|^2, (n,), of centred features (n, F) and their projections (n, d)."""
    inside = projected.square().sum(1)
    return inside + residual * (centred.square().sum(1) - inside)


def _fill(features: Features, residual: float, arrays: Mapping[str, np.ndarray]) -> None:
    """Fills the arrays of a :class:`CoarseTable`, by name."""
    from sklearn.decomposition import PCA  # half of the time of importing the package
    from threadpoolctl import threadpool_limits

    means, components, projections, energies = (
        arrays[name] for name in ("means", "components", "projections", "energies")
    )
    locations, count, width = projections.shape
    sample = np.unique(np.linspace(0, count - 1, min(count, FITTED_ENTRIES)).astype(np.int64))
    # sums in another order, and so other components, would depend on the number of threads; where all images have the
    # same window, as in black borders, shares of the variance, which nobody reads, are 0 / 0
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        for place in tqdm(range(locations), desc="coarse search: components", unit="loc"):
            components_of_place = PCA(width, svd_solver="randomized", iterated_power=2, random_state=0).fit(
                features(sample, place).numpy()
            )
            means[place], components[place] = components_of_place.mean_, components_of_place.components_
    # by images first, since an image's glimpses lie together
    for start in tqdm(range(0, count, ENTRIES_PER_PROJECTION), desc="coarse search: projections", unit="chunk"):
        entries = np.arange(start, min(start + ENTRIES_PER_PROJECTION, count))
        for place in range(locations):
            centred = features(entries, place).sub_(torch.from_numpy(means[place]))
            projected = centred @ torch.from_numpy(components[place]).float().T
            projections[place, entries[0] : entries[-1] + 1] = projected.numpy()
            energies[place, entries[0] : entries[-1] + 1] = _energy(centred, projected, residual).numpy()
