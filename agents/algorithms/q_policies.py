"""The Q-network and policy for glimpse histories, DQN's and QR-DQN's: DQN's has one quantile, which is Q itself."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from agents.algorithms.policies import NEVER, GlimpsePolicy, grid_to_mask, prepared, visited_in, with_stop
from agents.algorithms.replay_buffer import OTHER_CLASS
from agents.networks.encoders import HistoryExtractor
from agents.networks.extractors import RecurrentExtractor
from agents.networks.torch_grid import TorchGrid
from glimpse_env.errors import ConfigurationError


class GlimpseQNetwork(QuantileNetwork):
    """Network that computes quantiles of the returns Z(s, .), whose mean is Q(s, .).

    An architecture's maps are added to all quantiles. Locations looked at before are worth :data:`NEVER`.
    """

    features_extractor: HistoryExtractor

    def __init__(self, *args: Any, grid: Mapping[str, Any], **kwargs: Any):
        """Takes SB3's arguments, and as ``grid`` the fields of the environment's :class:`LocationGrid`."""
        super().__init__(*args, **kwargs)
        self.torch_grid: TorchGrid | None = grid_to_mask(kwargs["action_space"], grid)

    def forward(self, obs: Any) -> Tensor:
        """Returns quantiles (B, n_quantiles, L) for raw observations of B episodes; (B * T, n_quantiles, L) of whole
        episodes (:data:`WHOLE`)."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        return self.quantiles(self.features_extractor(observations), visited_in(observations, self.torch_grid))

    def quantiles(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Returns quantiles (..., n_quantiles, L) in states with features (..., H), in which the locations ``visited``
        (..., L) bool have been looked at."""
        quantiles = self.quantile_net(states).unflatten(-1, (self.n_quantiles, -1))
        maps = self.features_extractor.maps
        if maps:
            quantiles = quantiles + with_stop(states[..., None, -maps:], quantiles.shape[-1])
        return quantiles if visited is None else quantiles.masked_fill(visited[..., None, :], NEVER)


class GlimpseQPolicy(GlimpsePolicy, QRDQNPolicy):
    """Policy of :class:`GlimpseDQN`.

    The target network has an extractor of its own; a frozen glimpse encoder is one module in both.
    """

    quantile_net: GlimpseQNetwork
    quantile_net_target: GlimpseQNetwork

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        grid: Mapping[str, Any],
        temperature: float = 0.1,
        n_quantiles: int = 1,
        features_extractor_class: type[HistoryExtractor] = RecurrentExtractor,
        net_arch: list[int] | None = None,
        **kwargs: Any,
    ):
        """
        Args:
            observation_space: that of ``observation="history"``, ``"embedding"`` or ``"features"``.
            action_space: ``Discrete`` grid locations, perhaps with one more action that stops.
            lr_schedule: SB3's learning rate schedule.
            grid: the fields of the environment's :class:`LocationGrid`; locations looked at before are never taken.
            temperature: temperature of :meth:`demonstration_logits`, in the unit of the rewards.
            n_quantiles: number of quantiles of each action's return.
            features_extractor_class: an architecture, derived from :class:`HistoryExtractor`.
            net_arch: widths of the hidden layers behind the features; by default one of 128.
            **kwargs: further arguments of the SB3 policy.

        Raises:
            ConfigurationError: if the grid has another number of locations than the action space, or the temperature
                is not positive.
        """
        if temperature <= 0:
            raise ConfigurationError(f"temperature={temperature} must be positive.")
        self._constructor = {"grid": dict(grid), "temperature": temperature}
        self.temperature = temperature
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            n_quantiles=n_quantiles,
            features_extractor_class=features_extractor_class,
            net_arch=[128] if net_arch is None else net_arch,
            **kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.encodes_once:
            self.quantile_net_target.features_extractor.encoder = self.pi_features_extractor.encoder

    @property
    def q_net(self) -> Any:
        """Refuses SB3's DQN, which looks for its network when it loads an agent.

        Raises:
            ConfigurationError: always; it names the class that learns from whole episodes.
        """
        raise ConfigurationError(OTHER_CLASS)

    def make_quantile_net(self) -> GlimpseQNetwork:
        arguments = self._update_features_extractor(self.net_args)
        return GlimpseQNetwork(**arguments, grid=self._constructor["grid"]).to(self.device)

    @property
    def pi_features_extractor(self) -> HistoryExtractor:
        """Extractor of the network that acts, by the name that it has in actor-critic policies."""
        return self.quantile_net.features_extractor

    @property
    def torch_grid(self) -> TorchGrid:
        """Grid of the locations."""
        assert self.quantile_net.torch_grid is not None
        return self.quantile_net.torch_grid

    def demonstration_logits(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns Q(s_t, l) / temperature for the T states of n demonstrations: logits of a softmax policy.

        Args:
            features: (n, T - 1, F) of the encoder, for all glimpses but the last.
            locations: (n, T - 1, 2) normalised locations of these glimpses.

        Returns:
            (n, T, L) float32; very low where a location was looked at.
        """
        states = self.pi_features_extractor.states(features, locations)  # (n, T, H)
        return (
            self.quantile_net.quantiles(states, self.torch_grid.visited_before(locations)).mean(-2) / self.temperature
        )

    @torch.no_grad()
    def update_target(self, tau: float) -> None:
        """Moves the target network's weights towards the other's: theta' += tau (theta - theta')."""
        for old, new in zip(self.quantile_net_target.parameters(), self.quantile_net.parameters(), strict=True):
            if old is not new:
                old.lerp_(new, tau)


class GlimpseQuantilePolicy(GlimpseQPolicy):
    """Policy of :class:`GlimpseQRDQN`: by default with 10 quantiles."""

    def __init__(self, *args: Any, n_quantiles: int = 10, **kwargs: Any):
        super().__init__(*args, n_quantiles=n_quantiles, **kwargs)
