"""SB3 policies for glimpse histories, with and without the action masks of sb3-contrib."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.features import ENCODED, HistoryExtractor
from glimpse_env.errors import ConfigurationError
from glimpse_env.locations import LocationGrid

_NEVER = -1e8
"""Logit of an impossible action; finite, so that entropies and gradients stay so."""


class _HistoryPolicyMixin:
    """What the two policies share; it goes before an SB3 policy in the bases.

    Actor and critic have extractors of their own, so that the value loss cannot move what was cloned. A
    frozen glimpse encoder is one module in both and runs once a forward pass.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    normalize_images: bool
    pi_features_extractor: HistoryExtractor
    vf_features_extractor: HistoryExtractor
    mlp_extractor: MlpExtractor
    action_net: nn.Module
    value_net: nn.Module
    action_dist: Any
    _get_action_dist_from_latent: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        grid: Mapping[str, int] | None = None,
        mask_visited: bool = True,
        features_extractor_class: type[HistoryExtractor] = HistoryExtractor,
        share_features_extractor: bool = False,
        net_arch: dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ):
        """
        Args:
            observation_space: of ``observation="history"``.
            action_space: ``Discrete`` grid locations or ``Box`` coordinates.
            lr_schedule: SB3's.
            grid: the fields of the environment's :class:`LocationGrid`; needed for ``mask_visited``.
            mask_visited: give grid locations that were looked at before no probability. Without effect on
                ``Box`` actions.
            features_extractor_class: :class:`HistoryExtractor` or derived from it.
            share_features_extractor: must stay False.
            net_arch: hidden layers behind the features; a layer of 128 for the actor, of 64 for the critic
                by default.
            activation_fn: of those layers; with ReLU, demonstrations are learned far better than with SB3's tanh.
            **kwargs: of the SB3 policy.

        Raises:
            ConfigurationError: if the grid is missing or has another number of locations than the action
                space.
        """
        if share_features_extractor:
            raise ConfigurationError(
                "share_features_extractor=True would let the value loss move a cloned actor; leave it False."
            )
        masks = mask_visited and isinstance(action_space, spaces.Discrete)
        if masks and grid is None:
            raise ConfigurationError("mask_visited=True needs the grid of locations; pass grid or mask_visited=False.")
        self._constructor = {"grid": None if grid is None else dict(grid), "mask_visited": mask_visited}
        located = LocationGrid(**grid) if masks and grid is not None else None
        if located is not None and len(located) != action_space.n:  # type: ignore[attr-defined]
            raise ConfigurationError(f"{located} has {len(located)} locations, which is not {action_space}.")
        super().__init__(  # type: ignore[call-arg]
            observation_space,
            action_space,
            lr_schedule,
            features_extractor_class=features_extractor_class,
            share_features_extractor=False,
            net_arch={"pi": [128], "vf": [64]} if net_arch is None else net_arch,
            activation_fn=activation_fn,
            **kwargs,
        )
        self.grid = located

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return parameters | self._constructor

    def _build(self, lr_schedule: Schedule) -> None:
        if self.pi_features_extractor.frozen:
            self.vf_features_extractor.encoder = self.pi_features_extractor.encoder
        super()._build(lr_schedule)  # type: ignore[misc]

    def forward(
        self, obs: dict[str, Tensor], deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B, ...), values (B, 1) and log-probabilities (B,) for raw observations of B episodes."""
        distribution, values = self._act_and_judge(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        shape = (-1, *self.action_space.shape)  # type: ignore[misc]
        return actions.reshape(shape), values, distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: dict[str, Tensor], actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropies (B,) of given actions."""
        distribution, values = self._act_and_judge(obs, action_masks)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: dict[str, Tensor], action_masks: Any = None) -> Any:
        """SB3's distribution over the actions of B episodes."""
        observations = self._preprocess(obs)
        return self._distribution(self.pi_features_extractor(observations), observations, action_masks)

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:
        """(B, 1)."""
        return self._values(self.vf_features_extractor(self._preprocess(obs)))

    @property
    def encoder_frozen(self) -> bool:
        """Whether the glimpse encoder is one for actor and critic and never trained."""
        return self.pi_features_extractor.frozen

    def action_logits(self, states: Tensor, visited: Tensor | None) -> Tensor:
        """The head of an actor with ``Discrete`` actions.

        Args:
            states: (..., H) of the actor's extractor.
            visited: (..., L) bool, from :meth:`visited`; None to mask nothing.

        Returns:
            (..., L) float32.
        """
        logits = self.action_net(self.mlp_extractor.forward_actor(states))
        return logits if visited is None else logits.masked_fill(visited, _NEVER)

    def visited(self, locations: Tensor, seen: Tensor) -> Tensor | None:
        """Which grid locations were looked at, to the nearest.

        Args:
            locations: (..., t, 2) normalised.
            seen: (..., t) bool, which of them count.

        Returns:
            (..., L) bool, or None where this policy does not mask them.
        """
        if self.grid is None:
            return None
        steps = ((locations + 1.0) * (self.grid.span / 2 / self.grid.stride)).round().long()
        steps = steps.clamp(0, self.grid.side - 1)
        indices = steps[..., 0] * self.grid.side + steps[..., 1]  # (..., t)
        counts = torch.zeros(*indices.shape[:-1], len(self.grid), dtype=torch.int64, device=indices.device)
        return counts.scatter_add_(-1, indices, seen.long()) > 0

    @torch.no_grad()
    def encode(self, obs: dict[str, Tensor]) -> Tensor:
        """(B, T * F): what :data:`ENCODED` may hold in place of the glimpses of raw observations of B episodes."""
        return self.pi_features_extractor.encode(self._preprocess(obs)).flatten(1)

    def _act_and_judge(self, obs: dict[str, Tensor], action_masks: Any) -> tuple[Any, Tensor]:
        """The distribution over actions and the values (B, 1)."""
        observations = self._preprocess(obs)
        actor, critic = self.pi_features_extractor, self.vf_features_extractor
        encoded = actor.encode(observations)  # (B, T, F)
        encoded_for_critic = encoded if critic.encoder is actor.encoder else critic.encode(observations)
        distribution = self._distribution(actor.read(encoded, observations), observations, action_masks)
        return distribution, self._values(critic.read(encoded_for_critic, observations))

    def _preprocess(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        raw = {key: value for key, value in obs.items() if key != ENCODED}
        prepared: Any = preprocess_obs(raw, self.observation_space, normalize_images=self.normalize_images)
        return prepared | {key: value for key, value in obs.items() if key == ENCODED}

    def _distribution(self, states: Tensor, observations: dict[str, Tensor], action_masks: Any) -> Any:
        if isinstance(self.action_space, spaces.Box):
            return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(states))
        seen = observations["mask"] > 0.5  # (B, T)
        logits = self.action_logits(states, self.visited(observations["locations"].unflatten(1, (-1, 2)), seen))
        distribution = self.action_dist.proba_distribution(action_logits=logits)
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        return distribution

    def _values(self, states: Tensor) -> Tensor:
        return self.value_net(self.mlp_extractor.forward_critic(states))


class GlimpseHistoryPolicy(_HistoryPolicyMixin, MultiInputActorCriticPolicy):  # type: ignore[misc]
    """For PPO and A2C."""


class MaskableGlimpseHistoryPolicy(  # type: ignore[misc]
    _HistoryPolicyMixin, MaskableMultiInputActorCriticPolicy
):
    """For MaskablePPO."""
