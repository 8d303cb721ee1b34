"""Q-networks and policies for glimpse histories: DQN's and QR-DQN's."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from agents.algorithms.policies import NEVER, GlimpsePolicy, grid_to_mask, prepared, visited_in
from agents.networks.encoders import HistoryExtractor
from agents.networks.extractors import RecurrentExtractor
from agents.networks.torch_grid import TorchGrid
from glimpse_env.errors import ConfigurationError


class _HistoryNetwork:
    """What the two networks share; it goes before SB3's in the bases. Actions looked at before are worth NEVER."""

    features_extractor: HistoryExtractor
    observation_space: spaces.Space
    normalize_images: bool
    head: nn.Module

    def __init__(self, *args: Any, grid: Mapping[str, Any], **kwargs: Any):
        """Arguments as of SB3's network; ``grid`` are the fields of the environment's :class:`LocationGrid`."""
        super().__init__(*args, **kwargs)
        self.torch_grid: TorchGrid | None = grid_to_mask(kwargs["action_space"], grid)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """Values of all actions in raw observations of B episodes, of whole ones (:data:`WHOLE`) in all T states."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        return self.values(self.features_extractor(observations), visited_in(observations, self.torch_grid))

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Of states with features (..., H), of which ``visited`` (..., L) bool have been looked at."""
        raise NotImplementedError

    def _maps(self, states: Tensor) -> Tensor | float:
        """(..., L) scores of the locations, of an architecture that has such."""
        maps = self.features_extractor.maps
        return states[..., -maps:] if maps else 0.0


class GlimpseQNetwork(_HistoryNetwork, QNetwork):  # type: ignore[misc]
    """Q(s, .), (B, L)."""

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """Behind the features."""
        return self.q_net

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """(..., L)."""
        q = self.q_net(states) + self._maps(states)
        return q if visited is None else q.masked_fill(visited, NEVER)

    @staticmethod
    def expected(values: Tensor) -> Tensor:
        """Q(s, .) itself."""
        return values


class GlimpseQuantileNetwork(_HistoryNetwork, QuantileNetwork):  # type: ignore[misc]
    """Quantiles of the returns Z(s, .), (B, n_quantiles, L); an architecture's maps shift all quantiles alike."""

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """Behind the features."""
        return self.quantile_net

    def values(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """(..., n_quantiles, L)."""
        quantiles = self.quantile_net(states).unflatten(-1, (self.n_quantiles, -1))
        maps = self._maps(states)
        quantiles = quantiles + (maps[..., None, :] if isinstance(maps, Tensor) else maps)
        return quantiles if visited is None else quantiles.masked_fill(visited[..., None, :], NEVER)

    @staticmethod
    def expected(values: Tensor) -> Tensor:
        """Q(s, .), the mean of the quantiles."""
        return values.mean(-2)


class _HistoryQPolicy(GlimpsePolicy):
    """What the two policies share; it goes before SB3's in the bases.

    The target network has an extractor of its own; a frozen glimpse encoder is one module in both.
    """

    net: Any
    target: Any
    net_args: dict[str, Any]
    _update_features_extractor: Any

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
            observation_space: of ``observation="history"`` or ``"embedding"``.
            action_space: ``Discrete`` grid locations.
            lr_schedule: SB3's.
            grid: the fields of the environment's :class:`LocationGrid`; locations looked at before are never chosen.
            temperature: of :meth:`demonstration_logits`, in the unit of the rewards.
            features_extractor_class: one of :data:`agents.registry.ARCHITECTURES`, or another one derived from
                :class:`HistoryExtractor`.
            net_arch: hidden layers behind the features; one of 128 by default.
            **kwargs: of the SB3 policy.

        Raises:
            ConfigurationError: if the grid has another number of locations than the action space, or the temperature
                is not positive.
        """
        if temperature <= 0:
            raise ConfigurationError(f"temperature={temperature} must be positive.")
        self._constructor = {"grid": dict(grid), "temperature": temperature}
        self.temperature = temperature
        super().__init__(  # type: ignore[call-arg]
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=features_extractor_class,
            net_arch=[128] if net_arch is None else net_arch,
            **kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        if self.encodes_once:
            self.target.features_extractor.encoder = self.pi_features_extractor.encoder

    def _arguments(self) -> dict[str, Any]:
        """Of a network, with an extractor of its own."""
        return {**self._update_features_extractor(self.net_args), "grid": self._constructor["grid"]}

    @property
    def pi_features_extractor(self) -> HistoryExtractor:
        """What reads the history for whoever acts, by the name that actor-critic policies have for it."""
        extractor: HistoryExtractor = self.net.features_extractor
        return extractor

    @property
    def torch_grid(self) -> TorchGrid:
        """The grid of locations."""
        grid: TorchGrid = self.net.torch_grid
        return grid

    @property
    def actor_modules(self) -> tuple[nn.Module, ...]:
        """What decides on actions."""
        return self.pi_features_extractor, self.net.head

    def demonstration_logits(self, features: Tensor, locations: Tensor) -> Tensor:
        """Q(s_t, l) / temperature for the T states of n demonstrations, as if actions were drawn by it.

        Args:
            features: (n, T - 1, F) of the encoder, for all glimpses but the last.
            locations: (n, T - 1, 2) normalised, where they were.

        Returns:
            (n, T, L) float32; very low where a location was looked at.
        """
        states = self.pi_features_extractor.states(features, locations)  # (n, T, H)
        values = self.net.values(states, self.torch_grid.visited_before(locations))
        return self.net.expected(values) / self.temperature

    @torch.no_grad()
    def update_target(self, tau: float) -> None:
        """theta' += tau (theta - theta'): of the target network towards the other."""
        for old, new in zip(self.target.parameters(), self.net.parameters(), strict=True):
            if old is not new:
                old.lerp_(new, tau)


class GlimpseQPolicy(_HistoryQPolicy, DQNPolicy):
    """For :class:`GlimpseDQN`."""

    def make_q_net(self) -> GlimpseQNetwork:
        return GlimpseQNetwork(**self._arguments()).to(self.device)

    @property
    def net(self) -> GlimpseQNetwork:
        """The network that acts and is trained."""
        return self.q_net  # type: ignore[return-value]

    @property
    def target(self) -> GlimpseQNetwork:
        """The one that gives the targets."""
        return self.q_net_target  # type: ignore[return-value]


class GlimpseQuantilePolicy(_HistoryQPolicy, QRDQNPolicy):
    """For :class:`GlimpseQRDQN`."""

    def __init__(self, *args: Any, n_quantiles: int = 10, **kwargs: Any):
        """As of :class:`GlimpseQPolicy`, and ``n_quantiles`` of each action's return."""
        super().__init__(*args, n_quantiles=n_quantiles, **kwargs)

    def make_quantile_net(self) -> GlimpseQuantileNetwork:
        return GlimpseQuantileNetwork(**self._arguments()).to(self.device)

    @property
    def net(self) -> GlimpseQuantileNetwork:
        """The network that acts and is trained."""
        return self.quantile_net  # type: ignore[return-value]

    @property
    def target(self) -> GlimpseQuantileNetwork:
        """The one that gives the targets."""
        return self.quantile_net_target  # type: ignore[return-value]
