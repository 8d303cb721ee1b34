"""From a glimpse history to tokens: a glimpse encoder, location embeddings, and what every architecture shares."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig

HISTORY_KEYS = frozenset({"glimpses", "locations", "mask", "step"})
"""Of an observation space with ``observation="history"``."""
EMBEDDING_KEYS = frozenset({"embeddings", "locations", "mask", "step"})
"""Of an observation space with ``observation="embedding"``."""
ENCODED = "encoded"
"""Key under which observations may hold (B, T * F) features of a frozen encoder in place of the glimpses."""
WHOLE = "whole"
"""Key that says that each observation stands for all T states of its episode: it is what was shown before the last
glimpse, in which all the earlier ones are contained."""


class GlimpseEncoder(nn.Module):
    """The judge's glimpse encoder without BatchNorm: valid strided convolutions with biases, each followed
    by a ReLU.

    In evaluation a BatchNorm layer is an affine map, so it folds into the convolution before it: a judge's
    trained encoder is copied exactly and runs twice as fast. Trained from scratch there is no normalisation
    at all, as in SB3's NatureCNN: PPO compares the policy that collected a rollout (evaluation mode) with
    the one being trained (training mode), and batch statistics would make the two differ before any update.
    """

    def __init__(self, config: PosteriorConfig):
        """
        Args:
            config: of the posterior whose encoder this is shaped like.

        Raises:
            ConfigurationError: if its glimpse size or stride is not positive.
        """
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for conv in _convolutions(GlimpsePosterior(config)):
            layers += [_without_norm(conv), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    @property
    def width(self) -> int:
        """F, features of a glimpse."""
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)][-1].out_channels

    def forward(self, glimpses: Tensor) -> Tensor:
        """(N, g, g, C) float32 in [0, 1] to (N, F) float32."""
        pixels = glimpses.permute(0, 3, 1, 2) * 2.0 - 1.0  # (N, C, g, g), the judge's [-1, 1]
        return self.layers(pixels).flatten(1)  # (N, F): the last layer leaves one pixel

    @torch.no_grad()
    def copy_from(self, posterior: GlimpsePosterior) -> None:
        """Takes over a posterior's trained encoder; the posterior is only read.

        Raises:
            ConfigurationError: if it is shaped otherwise.
        """
        judges, own = posterior.config, self.config
        if (judges.glimpse_size, judges.stride, judges.channels, judges.features) != (
            own.glimpse_size,
            own.stride,
            own.channels,
            own.features,
        ):
            raise ConfigurationError(f"an encoder for {own} cannot take over one of {judges}; use the judge's config.")
        norms = [layer for layer in posterior.encoder if isinstance(layer, nn.BatchNorm2d)]
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        for mine, conv, norm in zip(convolutions, _convolutions(posterior), norms, strict=True):
            mean, variance = norm.running_mean, norm.running_var
            if mean is None or variance is None or mine.bias is None:
                raise ArtifactError("the judge's encoder keeps no running statistics; train the judge again.")
            scale = norm.weight / torch.sqrt(variance + norm.eps)  # (width,)
            mine.weight.copy_(conv.weight * scale[:, None, None, None])
            mine.bias.copy_(norm.bias - mean * scale)


class HistoryExtractor(BaseFeaturesExtractor):
    """Features of a glimpse history; an architecture says how tokens become features.

    Reads observations of ``observation="history"``, whose glimpses it encodes, and of ``"embedding"``, whose glimpses
    are encoded already. token(y, l) = relu(A encoder(y) + B loc(l)). Only what the mask marks as seen is computed with.
    """

    needs_grid: bool = False
    """Whether it takes ``grid``, the fields of the environment's :class:`LocationGrid`, as a keyword argument."""
    scores_locations: bool = True
    """Whether the maps below are wanted: a critic does without, and its features are zero there."""
    maps: int = 0
    """L where the last L features are scores of the grid's locations, to be added to the actor's logits; else 0."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        *,
        features_dim: int,
        posterior: Mapping[str, Any],
        frozen: bool = False,
        tokens: int = 128,
    ):
        """
        Args:
            observation_space: of ``observation="history"`` or ``"embedding"``.
            features_dim: H, width of the features.
            posterior: the fields of the :class:`PosteriorConfig` that the glimpse encoder is shaped by;
                plain values, so that SB3 stores them with the model and loading needs no judge.
            frozen: keep the glimpse encoder as it is: for one copied from a judge.
            tokens: width of a glimpse's token.

        Raises:
            ConfigurationError: if the space is another one or its glimpses are of another size.
        """
        super().__init__(observation_space, features_dim=features_dim)
        keys = set(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else set()
        if keys not in (HISTORY_KEYS, EMBEDDING_KEYS):
            raise ConfigurationError(
                'an environment with observation="history" or "embedding" is needed; this one shows '
                f"{observation_space}."
            )
        self.config = PosteriorConfig(**posterior)
        self.num_glimpses = int(observation_space["mask"].shape[0])  # type: ignore[index]
        self.encoder: GlimpseEncoder | None = None  # of embeddings there is nothing to encode
        if keys == EMBEDDING_KEYS:
            self.width = observation_space["embeddings"].shape[0] // self.num_glimpses  # type: ignore[index]
        else:
            side = self.config.glimpse_size
            self.glimpse_shape = (side, side, self.config.channels)
            expected = self.num_glimpses * side * side * self.config.channels
            if observation_space["glimpses"].shape != (expected,):
                raise ConfigurationError(
                    f"glimpses are shown as {observation_space['glimpses'].shape}, where {self.num_glimpses} of "
                    f"{self.glimpse_shape} make ({expected},); use the config of this environment's judge."
                )
            self.encoder = GlimpseEncoder(self.config).requires_grad_(not frozen)
            self.width = self.encoder.width
        self.frozen = frozen or self.encoder is None
        self.glimpse_projection = nn.Linear(self.width, tokens)
        self.location_embedding = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, tokens))

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Preprocessed observations of B episodes to features (B, H); of whole episodes (:data:`WHOLE`), to those of
        their T states behind one another, (B * T, H)."""
        return self.read_observed(self.encode(observations), observations)

    def encode(self, observations: Mapping[str, Tensor]) -> Tensor:
        """(B, T, F) float32: the encoder's output for every glimpse seen, zero for the others."""
        for key in (ENCODED, "embeddings"):
            if key in observations:
                return observations[key].unflatten(1, (self.num_glimpses, self.width))
        assert self.encoder is not None
        seen = seen_in(observations)  # (B, T)
        glimpses = observations["glimpses"].unflatten(1, (self.num_glimpses, *self.glimpse_shape))  # (B, T, g, g, C)
        features = glimpses.new_zeros(*seen.shape, self.width)
        if seen.any():
            features[seen] = self.encoder(glimpses[seen])
        return features

    def read_observed(self, features: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """As :meth:`forward`, given the encoded ``features`` (B, T, F)."""
        locations = locations_in(observations)
        if WHOLE in observations:
            return self.states(features[:, :-1], locations[:, :-1]).flatten(0, 1)
        return self.read(features, locations, seen_in(observations).sum(1))

    @abstractmethod
    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        """Features of B histories.

        Args:
            features: (B, t, F) of the encoder.
            locations: (B, t, 2) normalised.
            counts: (B,) int64: how many of the t glimpses count; what lies behind is not looked at.

        Returns:
            (B, H).
        """

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        """Features of all prefixes of complete histories, each what :meth:`read` gives for it.

        Args:
            features: (B, t, F) of the encoder.
            locations: (B, t, 2) normalised.

        Returns:
            (B, t + 1, H): those at i have read the first i glimpses.
        """
        batch, steps = features.shape[:2]
        counts = torch.arange(steps + 1, device=features.device).repeat(batch)
        read = self.read(
            features.repeat_interleave(steps + 1, 0), locations.repeat_interleave(steps + 1, 0), counts
        )  # (B * (t + 1), H)
        return read.unflatten(0, (batch, steps + 1))

    def tokens(self, features: Tensor, locations: Tensor) -> Tensor:
        """(..., F) and (..., 2) to (..., tokens)."""
        return torch.relu(self.glimpse_projection(features) + self.location_embedding(locations))


def seen_in(observations: Mapping[str, Tensor]) -> Tensor:
    """(B, T) bool: which glimpses were taken."""
    return observations["mask"] > 0.5


def locations_in(observations: Mapping[str, Tensor]) -> Tensor:
    """(B, T, 2) normalised."""
    return observations["locations"].unflatten(1, (-1, 2))


def _convolutions(posterior: GlimpsePosterior) -> list[nn.Conv2d]:
    """Of a posterior's encoder, first to last."""
    return [layer for layer in posterior.encoder if isinstance(layer, nn.Conv2d)]


def _without_norm(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution of the same shape with a bias of its own."""
    kernel, stride = conv.kernel_size, conv.stride
    return nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride)  # type: ignore[arg-type]
