"""Q-networks and policies for glimpse histories: DQN's and QR-DQN's."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from agents.algorithms.policies import NEVER, GlimpsePolicy, SB3Class, grid_to_mask, prepared, visited_in
from agents.networks.encoders import HistoryExtractor
from agents.networks.extractors import RecurrentExtractor
from agents.networks.torch_grid import TorchGrid
from glimpse_env.errors import ConfigurationError


class _HistoryNetwork(SB3Class):
    """Mixin of the Q-networks; stands before SB3's network in the bases. Locations looked at before are worth
    :data:`NEVER`."""

    def __init__(self, *args: Any, grid: Mapping[str, Any], **kwargs: Any):
        """Takes SB3's arguments, and as ``grid`` the fields of the environment's :class:`LocationGrid`."""
        super().__init__(*args, **kwargs)
        self.torch_grid: TorchGrid | None = grid_to_mask(kwargs["action_space"], grid)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """Returns the values of all actions for raw observations of B episodes; for all T states of whole episodes
        (:data:`WHOLE`)."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        return self.values(self.features_extractor(observations), visited_in(observations, self.torch_grid))

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Returns the values of all actions in states with features (..., H), in which the locations ``visited``
        (..., L) bool have been looked at."""
        raise NotImplementedError

    def _maps(self, states: Tensor) -> Tensor | float:
        """Returns the locations' scores (..., L) where the architecture computes any, else 0."""
        maps = self.features_extractor.maps
        return states[..., -maps:] if maps else 0.0


class GlimpseQNetwork(_HistoryNetwork, QNetwork):  # type: ignore[misc]
    """Network that computes Q(s, .), (B, L)."""

    @property
    def head(self) -> nn.Module:
        """Layers behind the features."""
        return self.q_net

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Returns Q(s, .), (..., L)."""
        q = self.q_net(states) + self._maps(states)
        return q if visited is None else q.masked_fill(visited, NEVER)

    @staticmethod
    def expected(values: Tensor) -> Tensor:
        """Returns Q(s, .), the values themselves."""
        return values


class GlimpseQuantileNetwork(_HistoryNetwork, QuantileNetwork):  # type: ignore[misc]
    """Network that computes quantiles of the returns Z(s, .), (B, n_quantiles, L); an architecture's maps are added to
    all quantiles."""

    @property
    def head(self) -> nn.Module:
        """Layers behind the features."""
        return self.quantile_net

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Returns quantiles (..., n_quantiles, L) of the returns."""
        quantiles = self.quantile_net(states).unflatten(-1, (self.n_quantiles, -1))
        maps = self._maps(states)
        quantiles = quantiles + (maps[..., None, :] if isinstance(maps, Tensor) else maps)
        return quantiles if visited is None else quantiles.masked_fill(visited[..., None, :], NEVER)

    @staticmethod
    def expected(values: Tensor) -> Tensor:
        """Returns Q(s, .), the mean of the quantiles."""
        return values.mean(-2)


class _HistoryQPolicy(GlimpsePolicy):
    """Mixin of the Q-policies; stands before SB3's policy in the bases.

    The target network has an extractor of its own; a frozen glimpse encoder is one module in both.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        grid: Mapping[str, Any],
        temperature: float = 0.1,
        features_extractor_class: type[HistoryExtractor] = RecurrentExtractor,
        net_arch: list[int] | None = None,
        **kwargs: Any,
    ):
        """
        Args:
            observation_space: that of ``observation="history"`` or ``"embedding"``.
            action_space: ``Discrete`` grid locations.
            lr_schedule: SB3's learning rate schedule.
            grid: the fields of the environment's :class:`LocationGrid`; locations looked at before are never chosen.
            temperature: temperature of :meth:`demonstration_logits`, in the unit of the rewards.
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
            features_extractor_class=features_extractor_class,
            net_arch=[128] if net_arch is None else net_arch,
            **kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.encodes_once:
            self.target.features_extractor.encoder = self.pi_features_extractor.encoder

    def _arguments(self) -> dict[str, Any]:
        """Returns a network's arguments, among them an extractor of its own."""
        return {**self._update_features_extractor(self.net_args), "grid": self._constructor["grid"]}

    @property
    def pi_features_extractor(self) -> HistoryExtractor:
        """Extractor of the network that acts, by the name that it has in actor-critic policies."""
        extractor: HistoryExtractor = self.net.features_extractor
        return extractor

    @property
    def torch_grid(self) -> TorchGrid:
        """Grid of the locations."""
        grid: TorchGrid = self.net.torch_grid
        return grid

    @property
    def actor_modules(self) -> tuple[nn.Module, ...]:
        """Modules that compute actions."""
        return self.pi_features_extractor, self.net.head

    def demonstration_logits(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns Q(s_t, l) / temperature for the T states of n demonstrations: logits of a softmax policy.

        Args:
            features: (n, T - 1, F) of the encoder, for all glimpses but the last.
            locations: (n, T - 1, 2) normalised locations of these glimpses.

        Returns:
            (n, T, L) float32; very low where a location was looked at.
        """
        states = self.pi_features_extractor.states(features, locations)  # (n, T, H)
        values = self.net.values(states, self.torch_grid.visited_before(locations))
        return self.net.expected(values) / self.temperature

    @torch.no_grad()
    def update_target(self, tau: float) -> None:
        """Moves the target network's weights towards the other's: theta' += tau (theta - theta')."""
        for old, new in zip(self.target.parameters(), self.net.parameters(), strict=True):
            if old is not new:
                old.lerp_(new, tau)


class GlimpseQPolicy(_HistoryQPolicy, DQNPolicy):
    """Policy of :class:`GlimpseDQN`."""

    def make_q_net(self) -> GlimpseQNetwork:
        return GlimpseQNetwork(**self._arguments()).to(self.device)

    @property
    def net(self) -> GlimpseQNetwork:
        """Network that acts and is trained."""
        return self.q_net  # type: ignore[return-value]

    @property
    def target(self) -> GlimpseQNetwork:
        """Network that computes the targets."""
        return self.q_net_target  # type: ignore[return-value]


class GlimpseQuantilePolicy(_HistoryQPolicy, QRDQNPolicy):
    """Policy of :class:`GlimpseQRDQN`."""

    def __init__(self, *args: Any, n_quantiles: int = 10, **kwargs: Any):
        """Takes the arguments of :class:`GlimpseQPolicy`, and the number of quantiles of each action's return."""
        super().__init__(*args, n_quantiles=n_quantiles, **kwargs)

    def make_quantile_net(self) -> GlimpseQuantileNetwork:
        return GlimpseQuantileNetwork(**self._arguments()).to(self.device)

    @property
    def net(self) -> GlimpseQuantileNetwork:
        """Network that acts and is trained."""
        return self.quantile_net  # type: ignore[return-value]

    @property
    def target(self) -> GlimpseQuantileNetwork:
        """Network that computes the targets."""
        return self.quantile_net_target  # type: ignore[return-value]
