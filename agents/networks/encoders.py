"""From a glimpse history to tokens: the glimpse encoder, and the base class of all architectures."""

from abc import abstractmethod
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.cloning_data import HISTORY_OBSERVERS, HistoryMode
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig

ENCODED = "encoded"
"""Key under which observations may hold features (B, T * F) of a frozen encoder in place of the glimpses."""
WHOLE = "whole"
"""Key that marks observations each of which stands for all T states of its episode: it is the one before the last
glimpse, which contains all earlier ones."""
REAL = "real"
"""Key beside :data:`WHOLE` where episodes are cut or have stopped: (B, S) bool, whether the state after 0..S-1 glimpses
is one of those that an observation stands for; the others are left out."""


def observation_of(space: spaces.Space) -> HistoryMode | None:
    """Returns which observation of the whole history has this space; None if none has."""
    keys = set(space.spaces) if isinstance(space, spaces.Dict) else set()
    modes = (
        mode for mode, observer in HISTORY_OBSERVERS.items() if keys == {observer.key, "locations", "mask", "step"}
    )
    return next(modes, None)


class GlimpseEncoder(nn.Module):
    """The judge's glimpse encoder without BatchNorm: valid strided convolutions with biases, each followed by a ReLU.

    In evaluation a BatchNorm layer is an affine map, so it folds into the convolution before it: a judge's trained
    encoder is copied exactly and runs twice as fast. Trained from scratch there is no normalisation, as in SB3's
    NatureCNN: PPO compares the policy that collected a rollout (evaluation mode) with the one being trained (training
    mode), and batch statistics would make the two differ before any update.
    """

    def __init__(self, config: PosteriorConfig):
        """Takes the configuration of the posterior whose encoder has the same shape."""
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for conv in _convolutions(GlimpsePosterior(config)):
            kernel, stride = conv.kernel_size, conv.stride
            with_bias = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride)  # type: ignore[arg-type]
            layers += [with_bias, nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.width = with_bias.out_channels
        """F, number of features of a glimpse."""

    def forward(self, glimpses: Tensor) -> Tensor:
        """Encodes glimpses (N, g, g, C) float32 in [0, 1] as features (N, F) float32."""
        pixels = glimpses.permute(0, 3, 1, 2) * 2.0 - 1.0  # (N, C, g, g), the judge's [-1, 1]
        return self.layers(pixels).flatten(1)  # (N, F): the last layer leaves one pixel

    @torch.no_grad()
    def copy_from(self, posterior: GlimpsePosterior) -> None:
        """Copies the weights of a posterior's trained encoder, its BatchNorm folded in.

        Raises:
            ConfigurationError: if that encoder has another shape.
        """
        theirs, own = posterior.config, self.config
        shape = attrgetter("glimpse_size", "stride", "channels", "features")
        if shape(theirs) != shape(own):
            raise ConfigurationError(f"an encoder for {own} cannot take over one of {theirs}; use the judge's config.")
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
    """Features of a glimpse history. An architecture derives from this and says how tokens become features.

    Reads observations of ``observation="history"``, whose glimpses it encodes, and of ``"embedding"`` and
    ``"features"``, whose glimpses are encoded already: token(y, l) = relu(A encoder(y) + B loc(l)). Glimpses that the
    mask leaves out are ignored.
    """

    needs_grid: bool = False
    """Whether the class takes the keyword argument ``grid``, the fields of the environment's :class:`LocationGrid`."""
    scores_locations: bool = True
    """Whether the maps below are computed; a critic needs none, and its features are zero there."""
    maps: int = 0
    """L if the last L features are scores of the grid's locations, to be added to the actor's logits; else 0."""

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
            observation_space: that of ``observation="history"``, ``"embedding"`` or ``"features"``.
            features_dim: H, width of the features.
            posterior: the fields of the :class:`PosteriorConfig` that shapes the glimpse encoder; plain values, so
                that SB3 stores them with the model and loading needs no judge.
            frozen: whether the glimpse encoder is never trained, as when it is copied from a judge.
            tokens: width of a glimpse's token.

        Raises:
            ConfigurationError: if the space is of another kind or its glimpses are of another size.
        """
        super().__init__(observation_space, features_dim=features_dim)
        mode = observation_of(observation_space)
        if mode is None:
            raise ConfigurationError(
                'an environment with observation="history", "embedding" or "features" is needed; this one shows '
                f"{observation_space}."
            )
        self.shown = HISTORY_OBSERVERS[mode].key
        """Key of what observations show of the glimpses."""
        self.config = PosteriorConfig(**posterior)
        self.num_glimpses = int(observation_space["mask"].shape[0])  # type: ignore[index]
        self.encoder: GlimpseEncoder | None = None  # embeddings and features are encoded already
        if mode != "history":
            self.width = observation_space[self.shown].shape[0] // self.num_glimpses  # type: ignore[index]
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
        shape = observation_space["locations"].shape or ()
        if len(shape) != 1 or shape[0] < self.num_glimpses or shape[0] % self.num_glimpses:
            raise ConfigurationError(
                f"locations are shown as {shape}, where those of {self.num_glimpses} glimpses make one row, as "
                "many numbers for each; use an observation space of these environments."
            )
        coordinates = shape[0] // self.num_glimpses
        self.location_embedding = nn.Sequential(nn.Linear(coordinates, 64), nn.ReLU(), nn.Linear(64, tokens))

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Returns features (B, H) of preprocessed observations of B episodes; of whole episodes (:data:`WHOLE`) those
        of their T states, (B * T, H), an episode's behind one another; of cut ones those that are :data:`REAL`."""
        return self.read_observed(self.encode(observations), observations)

    def encode(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Returns (B, T, F) float32: the encoder's output for every glimpse seen, zero for the others."""
        encoded = self.shown if self.encoder is None else ENCODED
        if encoded in observations:
            return observations[encoded].unflatten(1, (self.num_glimpses, self.width))
        assert self.encoder is not None
        seen = seen_in(observations)  # (B, T)
        glimpses = observations["glimpses"].unflatten(1, (self.num_glimpses, *self.glimpse_shape))  # (B, T, g, g, C)
        features = glimpses.new_zeros(*seen.shape, self.width)
        if seen.any():
            features[seen] = self.encoder(glimpses[seen])
        return features

    def read_observed(self, features: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
        """Returns what :meth:`forward` does, given the encoded ``features`` (B, T, F)."""
        locations = locations_in(observations)
        if WHOLE in observations:
            count = glimpses_of_states(observations)
            return of_states(self.states(features[:, :count], locations[:, :count]), observations)
        return self.read(features, locations, seen_in(observations).sum(1))

    @abstractmethod
    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        """Returns the features of B histories.

        Args:
            features: (B, t, F) of the encoder.
            locations: (B, t, coordinates) normalised.
            counts: (B,) int64: number of glimpses in each history; those behind are ignored.

        Returns:
            (B, H).
        """

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns the features that :meth:`read` gives for each prefix of complete histories.

        Args:
            features: (B, t, F) of the encoder.
            locations: (B, t, coordinates) normalised.

        Returns:
            (B, t + 1, H): at i those of the first i glimpses.
        """
        batch, steps = features.shape[:2]
        counts = torch.arange(steps + 1, device=features.device).repeat(batch)
        read = self.read(
            features.repeat_interleave(steps + 1, 0), locations.repeat_interleave(steps + 1, 0), counts
        )  # (B * (t + 1), H)
        return read.unflatten(0, (batch, steps + 1))

    def tokens(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns tokens (..., tokens) of features (..., F) at normalised locations (..., coordinates)."""
        return torch.relu(self.glimpse_projection(features) + self.location_embedding(locations))


def seen_in(observations: Mapping[str, Tensor]) -> Tensor:
    """Returns (B, T) bool: which glimpses were taken."""
    return observations["mask"] > 0.5


def locations_in(observations: Mapping[str, Tensor]) -> Tensor:
    """Returns the normalised locations (B, T, 2), with zooms (B, T, 3), of the glimpses."""
    return observations["locations"].unflatten(1, (observations["mask"].shape[1], -1))


def glimpses_of_states(observations: Mapping[str, Tensor]) -> int:
    """Returns how many glimpses the last of the states has that observations of whole episodes stand for."""
    return (observations[REAL] if REAL in observations else observations["mask"]).shape[1] - 1


def of_states(values: Tensor, observations: Mapping[str, Tensor]) -> Tensor:
    """Returns values (B, S, ...) of the states of whole episodes as (B * S, ...), an episode's behind one another;
    without those that are not :data:`REAL`."""
    flat = values.flatten(0, 1)
    return flat[observations[REAL].flatten()] if REAL in observations else flat


def _convolutions(posterior: GlimpsePosterior) -> list[nn.Conv2d]:
    """Returns the convolutions of a posterior's encoder, first to last."""
    return [layer for layer in posterior.encoder if isinstance(layer, nn.Conv2d)]
