"""On-policy algorithms of SB3 and sb3-contrib on glimpse episodes: PPO, A2C, REINFORCE, and PPO with masks, an
LSTM or both."""

from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms.maskable_recurrent import MaskableRecurrentPPO
from agents.algorithms.policies import GlimpseHistoryPolicy, MaskableGlimpseHistoryPolicy, SB3Class
from agents.algorithms.recurrent import GlimpseRecurrentPolicy, MaskableGlimpseRecurrentPolicy
from agents.algorithms.rollout_buffer import EpisodeRolloutBuffer
from agents.networks.encoders import ENCODED
from agents.registry import Algorithm, episodes_of
from agents.vec_env import GlimpseVecEnv
from glimpse_env.errors import ConfigurationError

EPISODES_PER_CHUNK = 512
"""Episodes of a rollout that are encoded together, at most."""


class WholeEpisodes(SB3Class):
    """Mixin that stands before an SB3 algorithm in the bases and trains it on whole episodes, see
    :class:`EpisodeRolloutBuffer`.

    With a frozen encoder each glimpse of a rollout is encoded once for all epochs. Environments that show the same
    images (``group`` of :class:`GlimpseVecEnv`) share baselines.
    """

    shares_baselines = True
    finished_only = False
    """Whether episodes that a rollout's end cuts are left out."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("rollout_buffer_class", EpisodeRolloutBuffer)
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collects as SB3 does, then prepares the buffer for minibatches of whole episodes."""
        continues: bool = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if continues:
            group = env.group if isinstance(env, GlimpseVecEnv) else 1
            if group > 1:
                rollout_buffer.share_baselines(group)
            rollout_buffer.fold(
                self._encode if getattr(self.policy, "encodes_once", False) else None,
                self._last_episode_starts if self.finished_only else None,
            )
        return continues

    def _encode(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Returns features (E, T * F) float32 of raw observations of E episodes."""
        encoded = []
        for start in range(0, len(observations["mask"]), EPISODES_PER_CHUNK):
            rows = slice(start, start + EPISODES_PER_CHUNK)
            encoded.append(encode_arrays(self.policy, {key: values[rows] for key, values in observations.items()}))
        return np.concatenate(encoded)


class GlimpsePPO(WholeEpisodes, PPO):
    """Proximal policy optimisation (Schulman et al. 2017) on whole episodes."""


class GlimpseA2C(WholeEpisodes, A2C):
    """Advantage actor-critic (Mnih et al. 2016) on whole episodes."""


class GlimpseReinforce(WholeEpisodes, A2C):
    """REINFORCE with a learned baseline (Williams 1992), as RAM was trained (Mnih et al. 2014):

        gradient of  sum_t log pi(l_t | s_t) (R_t - b(s_t)),  with R_t the return from t on and b fitted to it.

    A2C is the same where nothing is bootstrapped: with whole returns as targets (lambda = 1). Where episodes may stop,
    a rollout's end cuts some, which are left out: they are the longer ones, at most T of ``n_steps`` states.

    Raises:
        ConfigurationError: if ``gae_lambda`` is not 1, a rollout cuts episodes that cannot stop, or none ends in it.
    """

    finished_only = True

    def __init__(self, *args: Any, **kwargs: Any):
        if kwargs.setdefault("gae_lambda", 1.0) != 1.0:
            raise ConfigurationError(
                f"gae_lambda={kwargs['gae_lambda']} bootstraps, REINFORCE does not; leave it 1 or use a2c."
            )
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        continues = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if continues and not rollout_buffer.whole and not episodes_of(env).stop:
            raise ConfigurationError(
                f"n_steps={n_rollout_steps} cuts episodes, and REINFORCE needs them whole; take a multiple."
            )
        return continues


class GlimpseMaskablePPO(MaskablePPO):
    """MaskablePPO whose rollout buffer holds features in place of glimpses, where a frozen encoder gives them."""

    policy: Any

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Collects as sb3-contrib does, then encodes what was collected."""
        continues: bool = super().collect_rollouts(env, callback, rollout_buffer, *args, **kwargs)
        if continues and getattr(self.policy, "encodes_once", False):
            observations = rollout_buffer.observations  # (n_steps, n_envs, ...) by key
            steps = (
                {key: values[t] for key, values in observations.items()} for t in range(rollout_buffer.buffer_size)
            )
            observations[ENCODED] = np.stack([encode_arrays(self.policy, step) for step in steps])
            del observations["glimpses"]
        return continues


def encode_arrays(policy: Any, observations: dict[str, np.ndarray]) -> np.ndarray:
    """Returns features (B, T * F) float32 that a policy's frozen encoder makes of raw observations of B episodes."""
    features = policy.encode({key: torch.from_numpy(values).to(policy.device) for key, values in observations.items()})
    return features.cpu().numpy()


# Episodes are short and paid at the end: no discount.
_COMMON = {"gamma": 1.0, "gae_lambda": 0.95, "ent_coef": 0.001, "vf_coef": 0.5, "max_grad_norm": 0.5}
_PPO = {**_COMMON, "learning_rate": 2e-4, "n_epochs": 4, "clip_range": 0.2, "target_kl": 0.02}
# Adam: RMSprop's first steps, before its averages have filled, are ten times as long and undo what was cloned.
_A2C = {**_COMMON, "learning_rate": 3e-4, "use_rms_prop": False, "normalize_advantage": True}

PPO_ALGORITHM = Algorithm(GlimpsePPO, GlimpseHistoryPolicy, 8192, 1024, _PPO)
A2C_ALGORITHM = Algorithm(GlimpseA2C, GlimpseHistoryPolicy, 512, None, _A2C)
REINFORCE_ALGORITHM = Algorithm(
    GlimpseReinforce, GlimpseHistoryPolicy, 512, None, {**_A2C, "gae_lambda": 1.0, "ent_coef": 0.0}
)
MASKABLE_PPO_ALGORITHM = Algorithm(GlimpseMaskablePPO, MaskableGlimpseHistoryPolicy, 8192, 1024, _PPO)
RECURRENT_PPO_ALGORITHM = Algorithm(RecurrentPPO, GlimpseRecurrentPolicy, 8192, 1024, _PPO, core="lstm")
MASKABLE_RECURRENT_PPO_ALGORITHM = Algorithm(
    MaskableRecurrentPPO, MaskableGlimpseRecurrentPolicy, 8192, 1024, _PPO, core="lstm"
)
