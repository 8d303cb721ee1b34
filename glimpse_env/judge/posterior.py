"""The attentional variational posterior g(theta | y_1:t, l_1:t): a classifier of any set of glimpses.

It is factorised: a glimpse and its location are embedded, the embeddings are summed, and an MLP reads the classes
off the sum. So the posterior cannot depend on the order of the glimpses, and one dense pass of the encoder over an
image (its convolutions are *valid*) gives the embeddings of all grid locations at once, exactly as if each glimpse
had been cut out and encoded alone; with zooms a pass over the image reduced to each. Where locations are spaced
unevenly there is no dense pass, and each is.

In place of convolutions of its own a network may read the features of a frozen encoder, see
:mod:`glimpse_env.encoding`.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from glimpse_env.checks import whole_number
from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.encoding.registry import CONVOLUTIONAL, is_frozen
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import is_whole

Plan = tuple[tuple[int, int, float], ...]
"""Valid convolutions, first to last: kernel, stride, and width as a share of the features."""

_PLANS: dict[tuple[int, int], Plan] = {
    (32, 8): ((4, 2, 1 / 6), (3, 2, 1 / 3), (3, 2, 2 / 3), (3, 1, 1.0)),
    (16, 4): ((4, 2, 1 / 4), (3, 2, 1 / 2), (3, 1, 1.0)),
    (12, 4): ((3, 1, 1 / 6), (4, 2, 1 / 3), (2, 2, 2 / 3), (2, 1, 1.0)),
}
"""By glimpse size and stride: plans chosen by hand, the shipped judges' among them."""
_MAX_UNSTRIDED = 4
"""Most convolutions of stride 1 at the end of a plan."""


def encoder_plan(glimpse_size: int, stride: float) -> Plan:
    """Plans convolutions with the glimpse as their receptive field and the grid's stride as their total stride.

    That is what makes a dense pass and a pass a glimpse agree:

        1 + sum_i (kernel_i - 1) j_i = glimpse_size  with  j_i = prod_{k < i} stride_k,  prod_i stride_i = stride

    Each prime factor of the stride has a convolution, whose kernel overlaps by a pixel where the glimpse is large
    enough; the rest of the glimpse size becomes convolutions of stride 1 behind them, and larger kernels. Where the
    stride is larger than the glimpse, the last convolution has the rest of the stride. Of a stride that is no whole
    number the whole part counts, and there is no dense pass.

    Raises:
        ConfigurationError: unless the glimpse size is a whole number of at least 1 and the stride at least 1.
    """
    g, left = whole_number("glimpse_size", glimpse_size, 1), whole_number("stride", math.floor(stride), 1)
    if (g, left) in _PLANS:
        return _PLANS[g, left]
    strides: list[int] = []
    while left > 1 and math.prod(strides) * (prime := _smallest_factor(left)) <= g:
        strides.append(prime)
        left //= prime
    jumps = [math.prod(strides[:i]) for i in range(len(strides))]
    total = math.prod(strides)
    overlapping = g - (1 + sum(s * j for s, j in zip(strides, jumps, strict=True))) >= total
    kernels = [s + overlapping for s in strides]
    larger, rest = divmod(g - 1 - sum((k - 1) * j for k, j in zip(kernels, jumps, strict=True)), total)
    for i in reversed(range(len(strides))):
        more, rest = divmod(rest, jumps[i])
        kernels[i] += more
    behind = min(_MAX_UNSTRIDED, -(-larger // 2))  # 3 x 3 as long as that is enough
    kernels += [1 + larger // behind + (i < larger % behind) for i in range(behind)]
    if not kernels:
        kernels = [1]
    strides += [1] * (len(kernels) - len(strides))
    strides[-1] *= left
    shares = [max(1 / 8, 0.5 ** (len(kernels) - 1 - i)) for i in range(len(kernels))]
    return tuple(zip(kernels, strides, shares, strict=True))


def _smallest_factor(number: int) -> int:
    """Returns the smallest prime factor of a number above 1."""
    return next((p for p in range(2, math.isqrt(number) + 1) if number % p == 0), number)


@dataclass(frozen=True)
class PosteriorConfig:
    """The shape of a posterior network."""

    glimpse_size: int
    stride: float
    """Stride of the grid in pixels; where it is no whole number, the convolutions have its whole part."""
    channels: int
    """Channels of a glimpse: image channels x scales."""
    num_classes: int
    num_parts: int = 0
    """Parts whose places are an auxiliary target in training; 0 for none."""
    features: int = 192
    """Width of the glimpse encoder's output."""
    embedding: int = 192
    """D, width of the summed embedding."""
    hidden: int = 128
    encoder: str = CONVOLUTIONAL
    """Encoder of glimpses: convolutions trained with the network, or the name of a frozen one."""
    encoder_identity: str = ""
    """Identity of the frozen features, see :class:`glimpse_env.encoding.features.GlimpseFeatures`."""
    dropout: float = 0.0
    """Share of a hidden layer's outputs that training drops, in phi and in the head."""
    input_dropout: float = 0.0
    """Share of a glimpse's features that training drops."""
    coordinates: int = 2
    """Numbers of a normalised location: 3 with zooms."""

    @property
    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, without those at their defaults that came later, which the cards and identities of
        older networks do not have."""
        later = ("encoder", "encoder_identity", "dropout", "input_dropout", "coordinates")
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name not in later
        }


class GlimpsePosterior(nn.Module):
    """logits(theta) = head(sum_t phi(y_t, l_t)), phi(y, l) = W relu(A encoder(y) + B loc(l)).

    Glimpses, images, features and locations may be on any device, what is computed of them is on the network's own.

    Args:
        config: the shape.
        frozen: the features of the frozen encoder that ``config`` names; None where it names none. They are not among
            the network's weights.

    Raises:
        ConfigurationError: if the glimpse size or the stride is not positive, or ``frozen`` are other features.
    """

    def __init__(self, config: PosteriorConfig, frozen: GlimpseFeatures | None = None):
        super().__init__()
        self.config, self.frozen = config, frozen
        given = None if frozen is None else (frozen.identity, frozen.width)
        if given != ((config.encoder_identity, config.features) if is_frozen(config.encoder) else None):
            raise ConfigurationError(
                f"a posterior with encoder={config.encoder!r} and encoder_identity={config.encoder_identity!r} was "
                f"given the frozen features {given}; give it those that it names."
            )
        layers: list[nn.Module] = []
        channels = config.channels if frozen is None else config.features
        for kernel, stride, share in encoder_plan(config.glimpse_size, config.stride) if frozen is None else ():
            width = max(8, round(config.features * share / 8) * 8)
            layers += [
                nn.Conv2d(channels, width, kernel, stride, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.encoder = nn.Sequential(*layers)
        self.glimpse_projection = nn.Linear(channels, config.embedding)
        self.location_embedding = nn.Sequential(
            nn.Linear(config.coordinates * (1 + 2 * _HARMONICS), 64), nn.ReLU(), nn.Linear(64, config.embedding)
        )
        self.summand = nn.Linear(config.embedding, config.embedding)
        self.input_dropout = nn.Dropout(config.input_dropout) if config.input_dropout else nn.Identity()
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(config.embedding, config.hidden),
            nn.ReLU(),
            *([nn.Dropout(config.dropout)] if config.dropout else []),
            nn.Linear(config.hidden, config.num_classes),
        )
        self.part_head = nn.Linear(config.embedding, 2 * config.num_parts) if config.num_parts else None

    @property
    def feature_width(self) -> int:
        """F, channels of the encoder's output."""
        return self.glimpse_projection.in_features

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.summand.weight.device

    @property
    def has_dense_pass(self) -> bool:
        """Whether one pass over an image gives the features of all grid locations: they are spaced evenly."""
        return self.frozen is None and is_whole(self.config.stride)

    def encode_glimpses(self, glimpses: Tensor) -> Tensor:
        """Encodes glimpses (..., g, g, C) uint8, each on its own, to features (..., F) float32."""
        if self.frozen is not None:
            return self.frozen.encode(glimpses).to(self.device)
        leading = glimpses.shape[:-3]
        pixels = _pixels(glimpses.to(self.device).reshape(-1, *glimpses.shape[-3:]))
        return self.encoder(pixels).reshape(*leading, self.feature_width)

    def encode_dense(self, images: Tensor) -> Tensor:
        """Encodes images (N, H, W, C) uint8 to the features of the glimpse at every grid location, (N, L, F) float32;
        images reduced to one zoom to those of its level.

        Raises:
            ConfigurationError: if there is no dense pass, as locations are spaced unevenly.
        """
        if not self.has_dense_pass:
            why = f"stride={self.config.stride} is no whole number, so that no convolution has it"
            if self.frozen is not None:
                why = f"encoder={self.config.encoder!r} takes each glimpse alone"
            raise ConfigurationError(
                f"{why}: there is no dense pass; cut the glimpses out and take encode_glimpses, as "
                "glimpse_env.judge.judge.grid_features does."
            )
        return self.encoder(_pixels(images.to(self.device))).flatten(2).transpose(1, 2)

    def embed(self, features: Tensor, locations: Tensor) -> Tensor:
        """Computes phi from features (..., F) of glimpses at normalised ``locations`` (..., coordinates): embeddings
        (..., D)."""
        features, locations = features.to(self.device), locations.to(self.device)
        octaves = 2.0 ** torch.arange(_HARMONICS, device=self.device)[:, None]
        phases = locations[..., None, :] * torch.pi * octaves  # (..., K, coordinates)
        waves = torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)
        where = self.location_embedding(torch.cat([locations, waves], dim=-1))
        hidden = torch.relu(self.glimpse_projection(self.input_dropout(features)) + where)
        return self.summand(self.dropout(hidden))

    def logits(self, summed: Tensor) -> Tensor:
        """Computes uncalibrated logits (..., classes) from sums of embeddings (..., D)."""
        return self.head(summed)

    def part_places(self, summed: Tensor) -> Tensor:
        """Computes the parts' places (..., P, 2), in image sides, from sums of embeddings (..., D)."""
        if self.part_head is None:
            raise ConfigurationError("this posterior was made with num_parts=0: it has no part head.")
        return self.part_head(torch.relu(summed)).unflatten(-1, (-1, 2))


_HARMONICS = 3


def _pixels(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 to (N, C, H, W) float32 in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
