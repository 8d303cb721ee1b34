"""Frozen features of a data set's glimpses: an encoder, and the reduction of what it gives."""

from functools import cached_property
from typing import Any

import numpy as np
import torch

from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.base import FrozenEncoder, encode_glimpses
from glimpse_env.encoding.reduction import Reduction, reduction_of
from glimpse_env.encoding.registry import load_encoder
from glimpse_env.errors import ArtifactError

WIDTH = 256
"""Numbers that a glimpse's features are reduced to."""
_made: dict[tuple[Any, ...], "GlimpseFeatures"] = {}
"""What :func:`glimpse_features` made in this process."""


class GlimpseFeatures:
    """Turns glimpses of one data set into frozen features.

    Args:
        encoder: encodes each scale of a glimpse.
        channels: C, of the images.
        scales: concentric windows of a glimpse.
        reduction: of the features of all scales together; None to keep them all.
    """

    def __init__(self, encoder: FrozenEncoder, channels: int, scales: int, reduction: Reduction | None = None):
        self.encoder, self.channels, self.scales, self.reduction = encoder, channels, scales, reduction

    @property
    def width(self) -> int:
        """W, numbers that a glimpse is turned into."""
        return self.scales * self.encoder.width if self.reduction is None else self.reduction.width

    @cached_property
    def identity(self) -> str:
        """Text that names the encoder, and fingerprints its weights and the reduction: equal texts, equal features."""
        kept = "all" if self.reduction is None else f"{self.width}-{self.reduction.digest}"
        return f"{self.encoder.title}-{self.encoder.digest}-{self.scales}x-{kept}"

    def to(self, device: torch.device | str) -> "GlimpseFeatures":
        """Moves the encoder to a device, where it stays for all who share it; returns these features."""
        self.encoder.to(device)
        return self

    def encode(self, glimpses: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Encodes glimpses (..., g, g, C * scales) uint8: (..., W) float32, on the glimpses' device."""
        if isinstance(glimpses, np.ndarray):
            glimpses = torch.from_numpy(glimpses if glimpses.flags.writeable else glimpses.copy())
        features = encode_glimpses(self.encoder, glimpses.to(self.encoder.device), self.channels)
        return (features if self.reduction is None else self.reduction(features)).to(glimpses.device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the encoder by its name, and the reduction as it is."""
        encoder = (self.encoder.name, self.encoder.digest, str(self.encoder.device))
        return _again, (*encoder, self.channels, self.scales, _arrays(self.reduction))


class StoredFeatures(GlimpseFeatures):
    """Frozen features that a file names; the encoder is loaded when the first glimpse is encoded, not before.

    Args:
        name: the encoder's, see :func:`glimpse_env.encoding.registry.load_encoder`.
        identity: of the features, as :attr:`GlimpseFeatures.identity` was when the file was written.
        width: W.
        channels, scales, reduction: as for :class:`GlimpseFeatures`.
    """

    def __init__(
        self, name: str, identity: str, width: int, channels: int, scales: int, reduction: Reduction | None = None
    ):
        self._stored = (name, identity, width, channels, scales)
        self._device: torch.device | str | None = None
        self.name, self.channels, self.scales, self.reduction = name, channels, scales, reduction
        self.__dict__["identity"] = identity

    @property
    def width(self) -> int:
        return self._stored[2]

    @cached_property
    def encoder(self) -> FrozenEncoder:  # type: ignore[override]  # loaded late
        """The encoder.

        Raises:
            ArtifactError: if it, or the reduction, is another than those that the file was written with.
            DependencyNotInstalled: if a package that it needs is not installed.
        """
        encoder = load_encoder(self.name)
        found = GlimpseFeatures(encoder, self.channels, self.scales, self.reduction).identity
        if found != self.identity:
            raise ArtifactError(
                f"encoder={self.name!r} gives the features {found} here, where {self.identity} are needed; install the "
                "weights that this was trained with, or train it again."
            )
        return encoder if self._device is None else encoder.to(self._device)

    def to(self, device: torch.device | str) -> "StoredFeatures":
        """Moves the encoder as :class:`GlimpseFeatures` does, once it is loaded."""
        self._device = device
        if "encoder" in self.__dict__:
            self.encoder.to(device)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments; the reduction as arrays, as :class:`GlimpseFeatures` does."""
        device = None if self._device is None else str(self._device)
        return _stored_again, (self._stored, _arrays(self.reduction), device)


def _arrays(reduction: Reduction | None) -> tuple[np.ndarray, np.ndarray] | None:
    return None if reduction is None else (reduction.mean.numpy(), reduction.components.numpy())


def _reduction(arrays: tuple[np.ndarray, np.ndarray] | None) -> Reduction | None:
    return None if arrays is None else Reduction(*map(torch.from_numpy, arrays))


def _stored_again(
    stored: tuple[str, str, int, int, int], arrays: tuple[np.ndarray, np.ndarray] | None, device: str | None
) -> StoredFeatures:
    features = StoredFeatures(*stored, _reduction(arrays))
    return features if device is None else features.to(device)


def _again(
    name: str, expected: str, device: str, channels: int, scales: int, reduction: tuple[np.ndarray, np.ndarray] | None
) -> GlimpseFeatures:
    encoder = load_encoder(name)
    if encoder.digest != expected:
        raise ArtifactError(
            f"encoder={name!r} has the digest {encoder.digest} here, and {expected} where features were pickled; give "
            "both the same weights."
        )
    return GlimpseFeatures(encoder.to(device), channels, scales, _reduction(reduction))


def glimpse_features(
    source: DataSource, encoder: str, width: int | None = WIDTH, device: torch.device | str | None = None
) -> GlimpseFeatures:
    """Returns the frozen features of a data set's glimpses, made once a process.

    Args:
        source: the data set, with the scales of its glimpses.
        encoder: name of a frozen encoder, see :func:`glimpse_env.encoding.registry.load_encoder`.
        width: numbers to which the features are reduced, at most; 0 or None to keep them all. A reduction is fitted
            where the cache has none.
        device: that the encoder is moved to; None leaves it where it is.

    Raises:
        ConfigurationError: if there is no such encoder, or ``width`` is negative.
        DependencyNotInstalled: if a package that the encoder needs is not installed.
        ArtifactError: if a file of weights, or of the reduction, is damaged.
    """
    width = whole_number("width", width or 0, 0)
    loaded = load_encoder(encoder)
    if device is not None:
        loaded.to(device)
    key = (source.fingerprint, source.geometry, encoder, width)
    if key not in _made:
        channels, scales = source.image_shape[2], source.geometry.scales
        features = GlimpseFeatures(loaded, channels, scales)
        if 0 < width < features.width:
            reduction = reduction_of(source, features.encode, loaded.digest, width)
            features = GlimpseFeatures(loaded, channels, scales, reduction)
        _made[key] = features
    return _made[key]
