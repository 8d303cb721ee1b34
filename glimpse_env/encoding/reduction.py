"""Principal components of an encoder's features, fitted on glimpses of a data set's training images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import cache_folder, digest, kept, whole_file
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.threads import at_most_threads

SAMPLE = 20_000
"""Glimpses that components are fitted on, at most."""
LEAST_STD = 1e-3
"""Least standard deviation that a feature is divided by, as a share of the mean over all features."""
GLIMPSES_AT_A_TIME = 512
"""Glimpses of the sample that are cut and encoded at a time."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """Maps F features to W numbers: (x - mean) @ components.

    Raises:
        ArtifactError: where shapes disagree.
    """

    mean: torch.Tensor
    """(F,) float32."""
    components: torch.Tensor
    """(F, W) float32: principal directions of the standardised features, each divided by the features' deviations; all
    times one factor, so that the standard deviations of the outputs have the mean 1."""

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.components.ndim != 2 or len(self.mean) != len(self.components):
            raise ArtifactError(
                f"a reduction has a mean {tuple(self.mean.shape)} and components {tuple(self.components.shape)}; "
                "(F,) and (F, W) are needed."
            )

    @property
    def width(self) -> int:
        """W, numbers that are left."""
        return self.components.shape[1]

    @property
    def digest(self) -> str:
        """Fingerprint of both arrays."""
        return digest(self.mean.cpu().numpy(), self.components.cpu().numpy())

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Reduces features (..., F) float32 to (..., W), on the device of the features."""
        return (features - self.mean.to(features.device)) @ self.components.to(features.device)

    def save(self, path: Path) -> None:
        """Writes both arrays as safetensors."""
        with whole_file(path) as temporary:
            save_file({"mean": self.mean.contiguous(), "components": self.components.contiguous()}, temporary)

    @classmethod
    def load(cls, path: Path) -> "Reduction":
        """Reads what :meth:`save` wrote.

        Raises:
            ArtifactError: if the file is damaged.
        """
        try:
            arrays = load_file(path)
            return cls(arrays["mean"], arrays["components"])
        except (SafetensorError, KeyError) as error:
            raise ArtifactError(f"{path} holds no reduction ({error}); delete it, and it is fitted again.") from error


def fit_reduction(features: np.ndarray, width: int) -> Reduction:
    """Returns the ``width`` principal components of standardised ``features`` (N, F).

    The result does not depend on the number of threads: sums are made by one, in double precision.

    Raises:
        ConfigurationError: if all rows are the same, or a number is not finite.
    """
    x = features.astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    if not (np.isfinite(std).all() and std.any()):
        raise ConfigurationError(
            "the encoder's features are all the same, or not finite: nothing is to be reduced; take another encoder."
        )
    std = np.maximum(std, LEAST_STD * std.mean())
    x = (x - mean) / std
    with threadpool_limits(1):
        variances, directions = np.linalg.eigh(x.T @ x / len(x))
    variances, directions = variances[::-1][:width], directions[:, ::-1][:, :width]  # largest first
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    directions = directions * np.sign(largest)  # eigenvectors are unique up to their sign
    components = directions / std[:, None] / np.sqrt(variances.clip(0)).mean()
    return Reduction(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(components.astype(np.float32)))


def reduction_of(
    source: DataSource,
    encode: Callable[[torch.Tensor], torch.Tensor],
    encoder: str,
    width: int,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Reduction:
    """Returns the reduction for a data set from the cache, fitted and put there where it is missing.

    Args:
        source: the data set; glimpses of its training split, at random grid locations, as many of each zoom, are the
            sample.
        encode: maps glimpses (n, g, g, C * scales) uint8 to features (n, F) float32.
        encoder: digest of what ``encode`` does.
        width: W.
        sample: number of glimpses.
        seed: of the choice of glimpses.
    """
    geometry = source.geometry
    key = digest(source.fingerprint, window_key(geometry), encoder, width, sample, seed)
    path = cache_folder() / "reductions" / f"{source.name}-{key}.safetensors"

    def write(path: Path) -> None:
        train = source.load("train")
        rows, locations = _sampled(len(train), geometry.grid, sample, np.random.default_rng([seed, 11]))
        features = []
        with (
            at_most_threads(1),
            tqdm(total=len(rows), desc=f"{source.name}: sample for {width} components", unit="glimpse") as bar,
        ):
            for start in range(0, len(rows), GLIMPSES_AT_A_TIME):
                some = slice(start, start + GLIMPSES_AT_A_TIME)
                glimpses = geometry.sensor(train.images, rows[some], geometry.grid.corners[locations[some]])
                features.append(encode(torch.from_numpy(glimpses)).numpy())
                bar.update(len(glimpses))
        fit_reduction(np.concatenate(features), width).save(path)

    return kept(path, Reduction.load, write)


def _sampled(images: int, grid: LocationGrid, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (n,) and locations (n,) int64 of different glimpses, as many of each zoom."""
    rows, locations = [], []
    for part, level in zip(grid.level_slices, grid.levels, strict=True):
        count = images * len(level)
        picked = rng.choice(count, size=min(sample // len(grid.levels), count), replace=False)
        row, place = np.divmod(np.sort(picked), len(level))
        rows.append(row)
        locations.append(part.start + place)
    return np.concatenate(rows), np.concatenate(locations)


def window_key(geometry: Geometry) -> list[float]:
    """Returns what determines the glimpses at grid locations of an image, as JSON values."""
    zooms = geometry.zooms if len(geometry.zooms) > 1 else ()
    return [geometry.glimpse_size, geometry.stride, geometry.scales, *zooms]
