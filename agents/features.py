"""From a glimpse history to features: a glimpse encoder, location embeddings and a recurrent core (RAM's)."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.posterior import GlimpsePosterior, PosteriorConfig

HISTORY_KEYS = frozenset({"glimpses", "locations", "mask", "step"})
"""Of an observation space with ``observation="history"``."""
ENCODED = "encoded"
"""Key under which observations may hold (B, T * F) features of a frozen encoder in place of the glimpses."""


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
    """Features of a glimpse history: h_t = GRU(h_t-1, token(y_t, l_t)), with a learned h_0 for the empty
    history.

    token(y, l) = relu(A encoder(y) + B loc(l)). Only what the mask marks as seen is computed with.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        *,
        posterior: Mapping[str, Any],
        frozen: bool = False,
        tokens: int = 128,
        hidden: int = 128,
    ):
        """
        Args:
            observation_space: of ``observation="history"``.
            posterior: the fields of the :class:`PosteriorConfig` that the glimpse encoder is shaped by;
                plain values, so that SB3 stores them with the model and loading needs no judge.
            frozen: keep the glimpse encoder as it is: for one copied from a judge.
            tokens: width of a glimpse's token.
            hidden: H, width of the recurrent state and of the features.

        Raises:
            ConfigurationError: if the space is another one or its glimpses are of another size.
        """
        super().__init__(observation_space, features_dim=hidden)
        if not isinstance(observation_space, spaces.Dict) or set(observation_space.spaces) != HISTORY_KEYS:
            raise ConfigurationError(
                f'an environment with observation="history" is needed; this one shows {observation_space}.'
            )
        self.config = PosteriorConfig(**posterior)
        self.num_glimpses = int(observation_space["mask"].shape[0])  # type: ignore[index]
        side = self.config.glimpse_size
        self.glimpse_shape = (side, side, self.config.channels)
        expected = self.num_glimpses * side * side * self.config.channels
        if observation_space["glimpses"].shape != (expected,):
            raise ConfigurationError(
                f"glimpses are shown as {observation_space['glimpses'].shape}, where {self.num_glimpses} of "
                f"{self.glimpse_shape} make ({expected},); use the config of this environment's judge."
            )
        self.frozen = frozen
        self.encoder = GlimpseEncoder(self.config).requires_grad_(not frozen)
        self.glimpse_projection = nn.Linear(self.encoder.width, tokens)
        self.location_embedding = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, tokens))
        self.core = nn.GRU(tokens, hidden, batch_first=True)
        self.start = nn.Parameter(torch.zeros(hidden))  # h_0

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Preprocessed observations of B episodes to features (B, H)."""
        return self.read(self.encode(observations), observations)

    def encode(self, observations: Mapping[str, Tensor]) -> Tensor:
        """(B, T, F) float32: the encoder's output for every glimpse seen, zero for the others."""
        if ENCODED in observations:
            return observations[ENCODED].unflatten(1, (self.num_glimpses, self.encoder.width))
        seen = self._seen(observations)  # (B, T)
        glimpses = observations["glimpses"].unflatten(1, (self.num_glimpses, *self.glimpse_shape))  # (B, T, g, g, C)
        features = glimpses.new_zeros(*seen.shape, self.encoder.width)
        if seen.any():
            features[seen] = self.encoder(glimpses[seen])
        return features

    def read(self, features: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """(B, H): the recurrent state after the glimpses seen, given their encoded ``features`` (B, T, F)."""
        counts = self._seen(observations).sum(1)  # (B,)
        locations = observations["locations"].unflatten(1, (self.num_glimpses, 2))
        states = self.start.repeat(len(counts), 1)  # (B, H)
        begun = counts > 0
        if begun.any():
            tokens = self._tokens(features[begun], locations[begun])  # (b, T, tokens)
            packed = pack_padded_sequence(tokens, counts[begun].cpu(), batch_first=True, enforce_sorted=False)
            _, last = self.core(packed, states[begun][None])  # (1, b, H)
            states[begun] = last[0]
        return states

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        """All recurrent states of complete histories in one pass, each what :meth:`read` gives for that prefix.

        Args:
            features: (B, t, F) of the encoder.
            locations: (B, t, 2) normalised.

        Returns:
            (B, t + 1, H): state i has read the first i glimpses.
        """
        first = self.start.repeat(1, len(features), 1)  # (1, B, H)
        if features.shape[1] == 0:
            return first.transpose(0, 1)
        states, _ = self.core(self._tokens(features, locations), first)  # (B, t, H)
        return torch.cat([first.transpose(0, 1), states], dim=1)

    def _tokens(self, features: Tensor, locations: Tensor) -> Tensor:
        """(..., F) and (..., 2) to (..., tokens)."""
        return torch.relu(self.glimpse_projection(features) + self.location_embedding(locations))

    def _seen(self, observations: Mapping[str, Tensor]) -> Tensor:
        """(B, T) bool."""
        return observations["mask"] > 0.5


def _convolutions(posterior: GlimpsePosterior) -> list[nn.Conv2d]:
    """Of a posterior's encoder, first to last."""
    return [layer for layer in posterior.encoder if isinstance(layer, nn.Conv2d)]


def _without_norm(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution of the same shape with a bias of its own."""
    kernel, stride = conv.kernel_size, conv.stride
    return nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride)  # type: ignore[arg-type]
