"""Proximal policy optimisation with an LSTM and invalid actions masked (asked for in sb3-contrib's issues 76 and 101).

It depends on Stable-Baselines3 and sb3-contrib only, and is written so that it could be offered there. RecurrentPPO's
rollouts and updates are inherited, not copied: masks reach the policy beside the arguments that RecurrentPPO passes,
when collecting from a source that asks the environments, when training with the LSTM states of a minibatch.

Masks are applied to logits, not to distributions: where all actions are allowed, everything is bit for bit that of
RecurrentPPO.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from stable_baselines3.common import evaluation
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

MaybeMasks = th.Tensor | np.ndarray | None
HUGE = 1e8
"""Size of the logit of an action that is not allowed; finite, so that entropies and gradients are."""
_Base: Any = object
"""Base of mixins, in place of the class that follows them in the bases of a whole class."""


class MaskedRNNStates(NamedTuple):
    """LSTM states at the beginnings of sequences, with the action masks of all their steps."""

    pi: tuple[th.Tensor, ...]
    vf: tuple[th.Tensor, ...]
    action_masks: th.Tensor


def mask_dims(action_space: spaces.Space) -> int:
    """Returns the length of a mask: one number an action; for MultiDiscrete and MultiBinary those of all parts.

    Raises:
        ValueError: if actions of this space cannot be masked.
    """
    if isinstance(action_space, spaces.Discrete):
        return int(action_space.n)
    if isinstance(action_space, spaces.MultiDiscrete):
        return int(sum(action_space.nvec))
    if isinstance(action_space, spaces.MultiBinary) and isinstance(action_space.n, int):
        return 2 * action_space.n
    raise ValueError(f"actions in {action_space} cannot be masked; take Discrete, MultiDiscrete or flat MultiBinary.")


def mask_logits(logits: th.Tensor, masks: MaybeMasks, action_space: spaces.Space) -> th.Tensor:
    """Returns logits (B, n) whose distribution gives no probability to actions with a False mask (B, mask_dims)."""
    if masks is None:
        return logits
    allowed = th.as_tensor(masks, device=logits.device).bool()
    if isinstance(action_space, spaces.MultiBinary):
        allowed = allowed.reshape(*logits.shape, 2)  # of 0, of 1
        return logits.masked_fill(~allowed[..., 1], -HUGE).masked_fill(~allowed[..., 0], HUGE)
    return logits.masked_fill(~allowed.reshape(logits.shape), -HUGE)


class MaskSource:
    """Asks environments for their action masks, and keeps the latest."""

    latest: np.ndarray | None = None

    def __init__(self, env: VecEnv):
        self.env = env

    def __call__(self) -> np.ndarray:
        self.latest = get_action_masks(self.env)
        return self.latest


class MaskableRecurrentPolicyMixin(_Base):
    """Stands before a recurrent actor-critic policy in the bases and gives its methods ``action_masks``, (B, mask_dims)
    bool arrays or tensors; None allows all actions."""

    mask_source: Callable[[], np.ndarray] | None = None
    """Gives :meth:`forward` its masks where it is handed none."""
    _masks: MaybeMasks = None

    def forward(self, obs: Any, *args: Any, action_masks: MaybeMasks = None, **kwargs: Any) -> Any:
        if action_masks is None and self.mask_source is not None:
            action_masks = self.mask_source()
        with self._with_masks(action_masks):
            return super().forward(obs, *args, **kwargs)

    def evaluate_actions(
        self, obs: Any, actions: th.Tensor, lstm_states: Any, episode_starts: th.Tensor, action_masks: MaybeMasks = None
    ) -> Any:
        if action_masks is None and isinstance(lstm_states, MaskedRNNStates):
            action_masks = lstm_states.action_masks
        with self._with_masks(action_masks):
            return super().evaluate_actions(obs, actions, lstm_states, episode_starts)

    def get_distribution(self, obs: Any, *args: Any, action_masks: MaybeMasks = None, **kwargs: Any) -> Any:
        with self._with_masks(action_masks):
            return super().get_distribution(obs, *args, **kwargs)

    def predict(self, observation: Any, *args: Any, action_masks: MaybeMasks = None, **kwargs: Any) -> Any:
        with self._with_masks(action_masks):
            return super().predict(observation, *args, **kwargs)

    def action_logits(self, latent_pi: th.Tensor) -> th.Tensor:
        """Returns the logits (B, n) of the actor's latent code, before they are masked."""
        logits: th.Tensor = self.action_net(latent_pi)
        return logits

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        logits = mask_logits(self.action_logits(latent_pi), self._masks, self.action_space)
        distribution: Distribution = self.action_dist.proba_distribution(action_logits=logits)
        return distribution

    @contextmanager
    def _with_masks(self, action_masks: MaybeMasks) -> Iterator[None]:
        """Applies masks within the block; None leaves those of the block around it."""
        before = self._masks
        self._masks = before if action_masks is None else action_masks
        try:
            yield
        finally:
            self._masks = before


class MaskableMlpLstmPolicy(MaskableRecurrentPolicyMixin, RecurrentActorCriticPolicy):  # type: ignore[misc]
    """Policy for flat observations."""


class MaskableCnnLstmPolicy(MaskableRecurrentPolicyMixin, RecurrentActorCriticCnnPolicy):  # type: ignore[misc]
    """Policy for images."""


class MaskableMultiInputLstmPolicy(MaskableRecurrentPolicyMixin, RecurrentMultiInputActorCriticPolicy):  # type: ignore[misc]
    """Policy for Dict observations."""


class _MaskedBufferMixin(_Base):
    """Stands before a recurrent rollout buffer in the bases: keeps the masks of all steps, and pads them as sequences
    are, with 1, so that the distributions of padded steps exist."""

    mask_source: MaskSource | None = None
    """Source of the masks that the policy acted by."""

    def reset(self) -> None:
        super().reset()
        self.action_masks = np.ones((self.buffer_size, self.n_envs, mask_dims(self.action_space)), dtype=np.float32)

    def add(self, *args: Any, action_masks: np.ndarray | None = None, **kwargs: Any) -> None:
        """Adds a step, with masks (n_envs, mask_dims); default those that ``mask_source`` gave last."""
        if action_masks is None and self.mask_source is not None:
            action_masks = self.mask_source.latest
        if action_masks is not None:
            self.action_masks[self.pos] = action_masks.reshape(self.action_masks.shape[1:])
        super().add(*args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        if not self.generator_ready:
            self.action_masks = self.swap_and_flatten(self.action_masks)
        yield from super().get(batch_size)

    def _get_samples(self, batch_inds: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        samples = super()._get_samples(batch_inds, *args, **kwargs)
        masks = self.pad(self.action_masks[batch_inds], padding_value=1.0).flatten(0, 1)
        return samples._replace(lstm_states=MaskedRNNStates(samples.lstm_states.pi, samples.lstm_states.vf, masks))


class MaskableRecurrentRolloutBuffer(_MaskedBufferMixin, RecurrentRolloutBuffer):
    """Recurrent rollout buffer with action masks."""


class MaskableRecurrentDictRolloutBuffer(_MaskedBufferMixin, RecurrentDictRolloutBuffer):
    """The same for Dict observations."""


class MaskableRecurrentPPO(RecurrentPPO):
    """PPO with an LSTM in environments that have a method ``action_masks``, as MaskablePPO needs it.

    Takes the arguments of RecurrentPPO; ``predict`` takes ``action_masks`` too.

    Raises:
        ValueError: if the actions cannot be masked, or the environments have no masks.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": MaskableMlpLstmPolicy,
        "CnnLstmPolicy": MaskableCnnLstmPolicy,
        "MultiInputLstmPolicy": MaskableMultiInputLstmPolicy,
    }

    def _setup_model(self) -> None:
        mask_dims(self.action_space)
        super()._setup_model()
        if not isinstance(self.policy, MaskableRecurrentPolicyMixin):
            raise ValueError("the policy must derive from MaskableRecurrentPolicyMixin.")
        in_dict = isinstance(self.observation_space, spaces.Dict)
        buffer_class = MaskableRecurrentDictRolloutBuffer if in_dict else MaskableRecurrentRolloutBuffer
        self.rollout_buffer = buffer_class(
            self.n_steps,
            self.observation_space,
            self.action_space,
            self.rollout_buffer.hidden_state_shape,  # type: ignore[attr-defined]
            self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
        )

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collects as RecurrentPPO does, with masks."""
        if not is_masking_supported(env):
            raise ValueError("these environments have no action masks; wrap them in sb3-contrib's ActionMasker.")
        policy: Any = self.policy
        policy.mask_source = rollout_buffer.mask_source = MaskSource(env)
        try:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        finally:
            policy.mask_source = rollout_buffer.mask_source = None

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Returns actions and the LSTM's next states.

        Args:
            observation: observations of B environments, or of one.
            state: LSTM states of the last call; None for zeros.
            episode_start: (B,) bool, where states are zeroed.
            deterministic: whether to take the most probable action in place of a random one.
            action_masks: (B, mask_dims) bool; None allows all actions.
        """
        policy: Any = self.policy
        return policy.predict(observation, state, episode_start, deterministic, action_masks=action_masks)


def evaluate_policy(model: Any, env: gym.Env | VecEnv, *args: Any, **kwargs: Any) -> Any:
    """Evaluates as SB3's ``evaluate_policy``, which hands on LSTM states, with masks; sb3-contrib's for MaskablePPO has
    masks and begins each step with fresh states. Takes and returns what SB3's does."""
    masked = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
    if not is_masking_supported(masked):
        raise ValueError("this environment has no action masks; wrap it in sb3-contrib's ActionMasker.")
    return evaluation.evaluate_policy(_WithMasks(model, masked), masked, *args, **kwargs)


class _WithMasks:
    """A model that asks environments for masks before it acts in them."""

    def __init__(self, model: Any, env: VecEnv):
        self.model, self.env = model, env

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        masks = get_action_masks(self.env)
        return self.model.predict(observation, state, episode_start, deterministic, action_masks=masks)
