"""Actor-critic policies for glimpse histories, with and without the action masks of sb3-contrib."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn import functional as F

from agents.networks.encoders import (
    ENCODED,
    REAL,
    WHOLE,
    HistoryExtractor,
    glimpses_of_states,
    locations_in,
    of_states,
    seen_in,
)
from agents.networks.extractors import RecurrentExtractor
from agents.networks.torch_grid import TorchGrid
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import grid_of

SB3Class: Any = object
"""Base of mixins, in place of the class of SB3 that follows them in the bases of a whole class."""
NEVER = -1e8
"""Logit of an impossible action; finite, so that entropies and gradients stay so."""


def prepared(obs: Mapping[str, Tensor], space: spaces.Space, normalize_images: bool) -> dict[str, Tensor]:
    """Returns raw observations as SB3 preprocesses them for ``space``; what buffers added to them stays as it is."""
    added = {key: value for key, value in obs.items() if key in (ENCODED, WHOLE, REAL)}
    raw = {key: value for key, value in obs.items() if key not in added}
    observations: Any = preprocess_obs(raw, space, normalize_images=normalize_images)
    return observations | added


class GlimpsePolicy(SB3Class):
    """Mixin of all policies for glimpse histories; stands before an SB3 policy in the bases."""

    _constructor: dict[str, Any]
    """Keyword arguments beside SB3's that the policy was made with; saved with it."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._get_constructor_parameters()
        return parameters | self._constructor

    @property
    def encodes_once(self) -> bool:
        """Whether the glimpse encoder is never trained, so that each glimpse needs to be encoded only once."""
        return self.pi_features_extractor.frozen and self.pi_features_extractor.encoder is not None

    @torch.no_grad()
    def encode(self, obs: dict[str, Tensor]) -> Tensor:
        """Returns (B, T * F) features of raw observations of B episodes, which observations may hold as
        :data:`ENCODED` in place of glimpses."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        return self.pi_features_extractor.encode(observations).flatten(1)


class ActorCriticGlimpsePolicy(GlimpsePolicy):
    """Mixin of all actor-critic policies; stands before an SB3 policy in the bases.

    Actor and critic have extractors of their own, so that the value loss cannot move what was cloned.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        grid: Mapping[str, Any] | None = None,
        mask_visited: bool = True,
        features_extractor_class: type[HistoryExtractor] = RecurrentExtractor,
        share_features_extractor: bool = False,
        net_arch: dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ):
        """
        Args:
            observation_space: that of ``observation="history"``, ``"embedding"`` or ``"features"``.
            action_space: ``Discrete`` grid locations, perhaps with one more action that stops, or ``Box`` coordinates.
            lr_schedule: SB3's learning rate schedule.
            grid: the fields of the environment's :class:`LocationGrid`; needed for ``mask_visited``.
            mask_visited: whether grid locations that were looked at get no probability; without effect on ``Box``
                actions.
            features_extractor_class: an architecture, derived from :class:`HistoryExtractor`.
            share_features_extractor: must stay False.
            net_arch: widths of the hidden layers behind the features; by default one of 128 for the actor and one of
                64 for the critic.
            activation_fn: activation of those layers; ReLU learns demonstrations far better than SB3's tanh.
            **kwargs: further arguments of the SB3 policy.

        Raises:
            ConfigurationError: if the grid is missing or has another number of locations than the action space.
        """
        if share_features_extractor:
            raise ConfigurationError(
                "share_features_extractor=True would let the value loss move a cloned actor; leave it False."
            )
        self._constructor = {"grid": None if grid is None else dict(grid), "mask_visited": mask_visited}
        located = grid_to_mask(action_space, grid) if mask_visited else None
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=features_extractor_class,
            share_features_extractor=False,
            net_arch={"pi": [128], "vf": [64]} if net_arch is None else net_arch,
            activation_fn=activation_fn,
            **kwargs,
        )
        self.torch_grid = located


class _HistoryPolicyMixin(ActorCriticGlimpsePolicy):
    """Mixin of the policies that read the whole history at each step; a frozen glimpse encoder is one module in actor
    and critic and runs once a forward pass."""

    def _build(self, lr_schedule: Schedule) -> None:
        actor, critic = self.pi_features_extractor, self.vf_features_extractor
        if actor.frozen and actor.encoder is not None:
            critic.encoder = actor.encoder
        critic.scores_locations = False
        super()._build(lr_schedule)

    def forward(
        self, obs: dict[str, Tensor], deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns actions (B, ...), values (B, 1) and log-probabilities (B,) for raw observations of B episodes."""
        distribution, values = self._distribution_and_values(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        shape = (-1, *self.action_space.shape)
        return actions.reshape(shape), values, distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: dict[str, Tensor], actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns values (B, 1), and log-probabilities (B,) and entropies (B,) of given actions."""
        distribution, values = self._distribution_and_values(obs, action_masks)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: dict[str, Tensor], action_masks: Any = None) -> Any:
        """Returns SB3's distribution over the actions of B episodes."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        return self._distribution(self.pi_features_extractor(observations), observations, action_masks)

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:
        """Returns values (B, 1) for raw observations of B episodes."""
        return self._values(self.vf_features_extractor(prepared(obs, self.observation_space, self.normalize_images)))

    def demonstration_logits(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns log pi(l | s_t) up to a constant, for the T states of n demonstrations.

        Args:
            features: (n, T - 1, F) of the actor's encoder, for all glimpses but the last.
            locations: (n, T - 1, 2) normalised locations of these glimpses.

        Returns:
            (n, T, L) float32.
        """
        states = self.pi_features_extractor.states(features, locations)  # (n, T, H)
        return self._logits(states, None if self.torch_grid is None else self.torch_grid.visited_before(locations))

    def _logits(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """Returns logits (..., L) for ``Discrete`` actions from the actor's features (..., H); ``visited`` (..., L)
        bool are masked."""
        logits = self.action_net(self.mlp_extractor.forward_actor(states))
        if self.pi_features_extractor.maps:
            logits = logits + with_stop(states[..., -self.pi_features_extractor.maps :], logits.shape[-1])
        return logits if visited is None else logits.masked_fill(visited, NEVER)

    def _distribution_and_values(self, obs: dict[str, Tensor], action_masks: Any) -> tuple[Any, Tensor]:
        """Returns the distribution over actions and the values (B, 1)."""
        observations = prepared(obs, self.observation_space, self.normalize_images)
        actor, critic = self.pi_features_extractor, self.vf_features_extractor
        encoded = actor.encode(observations)  # (B, T, F)
        encoded_for_critic = encoded if critic.encoder is actor.encoder else critic.encode(observations)
        distribution = self._distribution(actor.read_observed(encoded, observations), observations, action_masks)
        return distribution, self._values(critic.read_observed(encoded_for_critic, observations))

    def _distribution(self, states: Tensor, observations: dict[str, Tensor], action_masks: Any) -> Any:
        if isinstance(self.action_space, spaces.Box):
            return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(states))
        logits = self._logits(states, visited_in(observations, self.torch_grid))
        distribution = self.action_dist.proba_distribution(action_logits=logits)
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        return distribution

    def _values(self, states: Tensor) -> Tensor:
        return self.value_net(self.mlp_extractor.forward_critic(states))


class GlimpseHistoryPolicy(_HistoryPolicyMixin, MultiInputActorCriticPolicy):  # type: ignore[misc]
    """Policy of PPO, A2C and REINFORCE."""


class MaskableGlimpseHistoryPolicy(_HistoryPolicyMixin, MaskableMultiInputActorCriticPolicy):  # type: ignore[misc]
    """Policy of MaskablePPO."""


def visited_in(observations: Mapping[str, Tensor], grid: TorchGrid | None) -> Tensor | None:
    """Returns (B, L) bool: which locations were looked at; (B * T, L) of whole episodes (:data:`WHOLE`); None without
    grid. Where an action stops there is one more column, False."""
    if grid is None:
        return None
    locations = locations_in(observations)
    if WHOLE in observations:
        return of_states(grid.visited_before(locations[:, : glimpses_of_states(observations)]), observations)
    return grid.visited(locations, seen_in(observations))


def grid_to_mask(action_space: spaces.Space, grid: Mapping[str, Any] | None) -> TorchGrid | None:
    """Returns the grid of ``Discrete`` actions; None for other actions, which are not masked.

    Raises:
        ConfigurationError: if ``grid`` is None, or there are other actions than its locations and one that stops.
    """
    if not isinstance(action_space, spaces.Discrete):
        return None
    if grid is None:
        raise ConfigurationError("mask_visited=True needs the grid of locations; pass grid or mask_visited=False.")
    located = grid_of(grid)
    if action_space.n not in (len(located), len(located) + 1):
        raise ConfigurationError(f"{located} has {len(located)} locations, which is not {action_space}.")
    return TorchGrid(located, stop=bool(action_space.n > len(located)))


def with_stop(scores: Tensor, num_actions: int) -> Tensor:
    """Returns scores of locations (..., L) as those of ``num_actions`` actions, zero for the one that stops."""
    return F.pad(scores, (0, num_actions - scores.shape[-1])) if num_actions > scores.shape[-1] else scores
