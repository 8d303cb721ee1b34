"""A frozen encoder: a pretrained network that turns each window of an image, alone, into numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from glimpse_env.checks import whole_number
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest

SIDE = 64
"""Side in pixels to which windows are enlarged for an encoder that asks for no other."""
WINDOWS_ON_CPU = 32
"""Windows encoded at a time on the CPU, where larger batches leave its caches."""
WINDOWS_ON_DEVICE = 2048
"""Windows encoded at a time on any other device."""


class FrozenEncoder:
    """A network that is never trained here, with the preparation of its inputs.

    Windows are taken as RGB in 0..1 (grey ones three times), enlarged or reduced bilinearly to ``side`` and normalised.

    Args:
        name: by which :func:`glimpse_env.encoding.registry.load_encoder` finds it again.
        network: maps (N, 3, side, side) float32 to (N, width); each window alone, as evaluation mode has it.
        side: pixels.
        mean: by channel, subtracted from RGB in 0..1.
        std: by channel, divides what is left.
        content: bytes that identify the network, which is then taken as it is; by default its modules, as they print,
            and weights do, and it is put into evaluation mode. Give a network another class when its ``forward``
            changes: nothing else tells that.

    Attributes:
        digest: fingerprint of weights and preparation.
        width: number of features of a window.

    Raises:
        ConfigurationError: if the network does not map such windows to rows of numbers, or not each alone.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        side: int = SIDE,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        content: bytes | None = None,
    ):
        self.name = name
        self.side = whole_number("side", side, 1)
        self._mean, self._std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
        if content is None:
            network = network.eval().requires_grad_(False)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
        self.network = network
        self.device = torch.device("cpu")
        self.digest = digest(
            f"{type(network).__qualname__}\n{network!r}" if content is None else content,
            *([item for pair in _weights(network) for item in pair] if content is None else []),
            [self.side, list(mean), list(std)],
        )
        try:
            one = self(torch.zeros((1, self.side, self.side, 3), dtype=torch.uint8))
        except (RuntimeError, TypeError, AttributeError, ValueError, AssertionError) as error:
            raise ConfigurationError(
                f"encoder={name!r} cannot encode windows (1, 3, {self.side}, {self.side}): {str(error).splitlines()[0]}"
            ) from error
        self.width = one.shape[1]
        self._check_alone()

    def _check_alone(self) -> None:
        """Raises ConfigurationError if what a window is turned into depends on others, or on chance."""
        windows = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, self.side, self.side, 3), np.uint8))
        together = self(windows)
        alone = torch.cat([self(window[None]) for window in windows])
        if not torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * max(1e-6, float(together.abs().max()))):
            raise ConfigurationError(
                f"encoder={self.name!r} gives a window other numbers beside others, as batch normalisation and "
                "dropout in training mode do; export or make it in evaluation mode."
            )

    @property
    def title(self) -> str:
        """The name, without the folder of a file."""
        return self.name.replace("\\", "/").rpartition("/")[2]

    def to(self, device: torch.device | str) -> "FrozenEncoder":
        """Moves the network to a device, where it stays for all who share this encoder; returns the encoder."""
        self.device = torch.device(device)
        self.network.to(self.device)
        self._mean, self._std = self._mean.to(self.device), self._std.to(self.device)
        return self

    @torch.inference_mode()
    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Encodes windows.

        Args:
            windows: (N, g, g, C) uint8, C = 3 or 1, on any device.

        Returns:
            (N, width) float32 on the same device.

        Raises:
            ConfigurationError: if C is another number.
        """
        if windows.shape[3] not in (1, 3):
            raise ConfigurationError(
                f"encoder={self.name!r} takes grey and RGB windows, not {windows.shape[3]} channels."
            )
        at_a_time = WINDOWS_ON_CPU if self.device.type == "cpu" else WINDOWS_ON_DEVICE
        parts = [self._encode(part) for part in windows.split(at_a_time)]
        if not len(windows):
            return torch.empty((0, self.width), device=windows.device)
        return torch.cat(parts).to(windows.device)

    def _encode(self, windows: torch.Tensor) -> torch.Tensor:
        x = windows.to(self.device).permute(0, 3, 1, 2).float() / 255  # (N, C, g, g)
        if x.shape[2:] != (self.side, self.side):
            x = functional.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)
        x = (x - self._mean) / self._std  # (N, 3, side, side), also where C = 1
        encoded = self.network(x.contiguous(memory_format=torch.channels_last))
        if not isinstance(encoded, torch.Tensor) or encoded.ndim != 2 or len(encoded) != len(windows):
            shape = tuple(encoded.shape) if isinstance(encoded, torch.Tensor) else type(encoded).__name__
            raise ConfigurationError(
                f"encoder={self.name!r} gives {shape} for {len(windows)} windows, not as many rows of numbers."
            )
        return encoded.float()


def _weights(network: nn.Module) -> list[tuple[str, np.ndarray]]:
    """Returns the network's parameters and buffers by name, sorted."""
    return [(name, tensor.cpu().numpy()) for name, tensor in sorted(network.state_dict().items())]


def encode_glimpses(encoder: FrozenEncoder, glimpses: torch.Tensor, channels: int) -> torch.Tensor:
    """Encodes glimpses scale by scale.

    Args:
        encoder: the encoder.
        glimpses: (..., g, g, C * scales) uint8, narrowest scale first.
        channels: C, of the image.

    Returns:
        (..., scales * width) float32.
    """
    *leading, g, _, stacked = glimpses.shape
    scales = stacked // channels
    windows = glimpses.reshape(-1, g, g, scales, channels).permute(0, 3, 1, 2, 4)  # (N, scales, g, g, C)
    return encoder(windows.reshape(-1, g, g, channels)).reshape(*leading, scales * encoder.width)
