"""A coarse search of a bank of images: at each grid location, its glimpses in their first principal components.

Squared distances are estimated from the components, P the projection onto them, and from what they leave over,

    d(y, x)^2 ~ |P y - P x|^2 + residual (|y - P y|^2 + |x - P x|^2)    (y and x centred)

which orders a bank well enough to say which few images deserve exact distances.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from glimpse_env.files import cache_folder, whole_folder

RESIDUAL = 0.35
"""Share of the left-over energies that adds to the distance: 1 if left-overs of two glimpses were unrelated, 0 if they
were the same. On drawn birds compared by pixels, 0.35 and 0.5 missed the fewest of the near images among 0, 0.2, 0.35,
0.5, 0.65 and 1."""
SAMPLE = 2000
"""Entries that the components are found from, spread over the bank."""
CHUNK = 128
"""Entries projected at a time."""
SEARCH_CHUNK = 8192
"""Entries searched at a time, so that what is computed stays in the processor's cache."""

Features = Callable[[np.ndarray, int], Tensor]
"""Gives the numbers (n, F) float32 by which entries (n,) of the bank are compared at a grid location."""


class CoarseTable:
    """Principal components of N entries at L locations, each location's lying together.

    Attributes:
        means: (L, F) float32, of the features.
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
        """The table of ``count`` entries, memory-mapped from the cache, where it is kept under ``key``.

        Args:
            features: of the bank.
            count: N.
            locations: L.
            dimensions: d; fewer where the features or the entries are fewer.
            key: of its folder; None keeps the table in memory.
            residual: share of the left-over energies that adds to the distance; only the default has a place in the
                cache.
        """
        width = features(np.arange(1), 0).shape[1]
        kept = min(dimensions, width, count)
        shapes = {
            "means": ((locations, width), np.float32),
            "components": ((locations, kept, width), np.float16),
            "projections": ((locations, count, kept), np.float16),
            "energies": ((locations, count), np.float32),
        }
        if key is None:
            arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
            _fill(features, residual, **arrays)
            return cls(**arrays, residual=residual)
        folder = cache_folder() / "coarse" / key
        if not folder.is_dir():
            with whole_folder(folder) as temporary:
                files = {
                    name: np.lib.format.open_memmap(temporary / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
                    for name, (shape, dtype) in shapes.items()
                }
                _fill(features, residual, **files)
                for file in files.values():
                    file.flush()
        # copy-on-write, as torch has no read-only tensors
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in shapes})

    def squared_distances(self, queries: Tensor, location: int) -> Tensor:
        """Estimates (B, N) float32 for glimpses with the features ``queries`` (B, F) at a grid location."""
        centred = queries - self.means[location]
        projected = centred @ self.components[location].float().T  # (B, d)
        energy = _energy(centred, projected, self.residual)[:, None]
        found = torch.empty(len(queries), self.projections.shape[1])
        parts = zip(
            self.projections[location].split(SEARCH_CHUNK),
            self.energies[location].split(SEARCH_CHUNK),
            found.split(SEARCH_CHUNK, dim=1),
            strict=True,
        )
        for projections, energies, out in parts:
            out.copy_(torch.addmm(energies, projected, projections.float().T, alpha=-2.0).add_(energy))
        return found


def _energy(centred: Tensor, projected: Tensor, residual: float) -> Tensor:
    """|P x|^2 + residual |x - P x|^2 of (n, F) and (n, d): (n,)."""
    inside = projected.square().sum(1)
    return inside + residual * (centred.square().sum(1) - inside)


def _fill(
    features: Features,
    residual: float,
    means: np.ndarray,
    components: np.ndarray,
    projections: np.ndarray,
    energies: np.ndarray,
) -> None:
    """Fills the arrays of a table."""
    from sklearn.decomposition import PCA  # half of the time of importing the package

    locations, count, kept = projections.shape
    sample = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))
    for place in tqdm(range(locations), desc="coarse search: components", unit="loc"):
        found = PCA(kept, svd_solver="randomized", iterated_power=2, random_state=0).fit(
            features(sample, place).numpy()
        )
        means[place], components[place] = found.mean_, found.components_
    # by images first, since an image's glimpses lie together
    for start in tqdm(range(0, count, CHUNK), desc="coarse search: projections", unit="chunk"):
        entries = np.arange(start, min(start + CHUNK, count))
        for place in range(locations):
            centred = features(entries, place).sub_(torch.from_numpy(means[place]))
            projected = centred @ torch.from_numpy(components[place]).float().T
            projections[place, entries[0] : entries[-1] + 1] = projected.numpy()
            energies[place, entries[0] : entries[-1] + 1] = _energy(centred, projected, residual).numpy()
