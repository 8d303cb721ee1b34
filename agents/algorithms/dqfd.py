"""Deep Q-learning from demonstrations on glimpse episodes: DQN and QR-DQN."""

from typing import Any

import numpy as np
import torch
from sb3_contrib import QRDQN
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import trange

from agents.algorithms.policies import NEVER
from agents.algorithms.q_policies import GlimpseQPolicy, GlimpseQuantilePolicy
from agents.algorithms.replay_buffer import EpisodeReplayBuffer, EpisodeSamples
from agents.cloning import check_spaces
from agents.cloning_data import CloningData
from agents.networks.encoders import ENCODED
from agents.registry import Algorithm
from glimpse_env.errors import ConfigurationError

DQFD_HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 512,
    "gradient_steps": 8,
    "target_update_interval": 1,
    "tau": 0.02,
    "gamma": 1.0,
    "buffer_size": 100_000,
    "learning_starts": 0,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.02,
    "max_grad_norm": 10.0,
}
"""Defaults of :class:`GlimpseDQN` and :class:`GlimpseQRDQN` in place of SB3's, for episodes of a few glimpses."""
AFTER_DEMONSTRATIONS: dict[str, Any] = {"exploration_initial_eps": 0.1}
"""Changes to the defaults where demonstrations were learned first: much exploration would hide what was learned."""


def margin_loss(q: Tensor, demonstrated: Tensor, margins: Tensor) -> Tensor:
    """Returns J_E of Deep Q-learning from Demonstrations (Hester et al. 2018), a mean over states:

        J_E(Q) = max_a [Q(s, a) + l(a_E, a)] - Q(s, a_E),

    which is zero where the demonstrated action is better than each other by its margin l(a_E, a).

    Args:
        q: (n, L) Q(s, .), very low where an action is impossible.
        demonstrated: (n,) int64: a_E.
        margins: (n, L) l(a_E, .) in the unit of the rewards, 0 at a_E.

    Returns:
        A scalar; zero for n = 0.
    """
    return ((q + margins).amax(1) - q.gather(1, demonstrated[:, None])[:, 0]).sum() / max(1, len(q))


class DeepQFromDemonstrations(QRDQN):
    """Deep Q-learning from Demonstrations (Hester et al. 2018), of sb3-contrib's QR-DQN or, with one quantile, of DQN.
    It minimises

        J(Q) = J_DQ(Q) + lambda_E J_E(Q),  and L2 regularisation by the optimiser's weight decay,

    where J_DQ is the mean temporal-difference loss with the target

        r_t + gamma Q'(s_t+1, argmax_l Q(s_t+1, l))

    of double DQN over the locations not yet looked at, and J_E, on demonstrated transitions only, is
    :func:`margin_loss`. Gradient steps are taken on whole episodes: one pass of each network over an episode gives the
    values of all its states. The paper's n-step returns and priorities are left out; demonstrations have a fixed share
    of each minibatch.
    """

    policy: GlimpseQPolicy
    observation_space: Any
    replay_buffer: Any
    train_freq: Any
    _last_obs: Any

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        margin: float = 0.8,
        margin_weight: float = 1.0,
        demo_share: float = 0.25,
        exploration_timesteps: int = 20_000,
        train_freq: Any = None,
        weight_decay: float = 1e-4,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ):
        """
        Args:
            policy: :class:`GlimpseQPolicy` or :class:`GlimpseQuantilePolicy`; ``policy_kwargs`` need its ``grid``.
            env: environments; their episodes may stop.
            margin: margin of J_E, in the unit of the rewards, for actions whose target probability is 0: their values
                must be lower by it than the value of the action taken. For an action whose target probability is p
                times that of the action taken it is (1 - p) times as large; with ``targets="argmax"`` p is 0 for all
                others, as in the paper.
            margin_weight: lambda_E.
            demo_share: share of demonstrations in each minibatch, once they have been loaded.
            exploration_timesteps: timestep of the model, counted over all its training, at which the exploration rate
                has gone linearly from ``exploration_initial_eps`` to ``exploration_final_eps``.
            train_freq: steps of each environment between trainings, whole episodes; default one episode.
            weight_decay: weight decay of AdamW, the optimiser unless ``policy_kwargs`` name another.
            policy_kwargs: keyword arguments of the policy.
            **kwargs: keyword arguments of SB3's algorithm; default :data:`DQFD_HYPERPARAMETERS`. ``learning_starts``
                counts as ``exploration_timesteps`` does; until then locations are random. ``target_update_interval``
                counts gradient steps, those of :meth:`pretrain` too. ``exploration_fraction`` is not taken.

        Raises:
            ConfigurationError: if an argument is out of range.
        """
        for name, value in {"margin": margin, "margin_weight": margin_weight, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ConfigurationError(f"{name}={value} must not be negative.")
        if exploration_timesteps < 1:
            raise ConfigurationError(f"exploration_timesteps={exploration_timesteps} must be at least 1.")
        if "exploration_fraction" in kwargs:
            raise ConfigurationError("exploration_fraction is not used here; give exploration_timesteps.")
        self.margin, self.margin_weight = margin, margin_weight
        self.exploration_timesteps = exploration_timesteps
        self._rng = np.random.default_rng()
        adam = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": weight_decay}}
        kwargs.setdefault("replay_buffer_class", EpisodeReplayBuffer)
        kwargs["replay_buffer_kwargs"] = {"demo_share": demo_share} | (kwargs.get("replay_buffer_kwargs") or {})
        super().__init__(
            policy,
            env,
            train_freq=train_freq,
            policy_kwargs=policy_kwargs if "optimizer_class" in (policy_kwargs or {}) else adam | (policy_kwargs or {}),
            _init_setup_model=False,
            **{**DQFD_HYPERPARAMETERS, **kwargs},
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        steps = int(self.observation_space["mask"].shape[0])
        if self.train_freq is None:
            self.train_freq = steps
        if "grid" not in self.policy_kwargs:
            raise ConfigurationError("policy_kwargs need the grid of locations; give its fields as grid.")
        self.replay_buffer_kwargs = {"grid": self.policy_kwargs["grid"], **self.replay_buffer_kwargs}
        OffPolicyAlgorithm._setup_model(self)
        self._create_aliases()
        if self.seed is not None:
            self.replay_buffer.seed(self.seed)
        assert isinstance(self.train_freq, TrainFreq)
        if self.train_freq.unit.value != "step" or self.train_freq.frequency % steps:
            raise ConfigurationError(
                f"train_freq={self.train_freq.frequency} {self.train_freq.unit.value}s must be whole episodes of "
                f"{steps} steps."
            )

    def _excluded_save_params(self) -> list[str]:
        excluded: list[str] = super()._excluded_save_params()
        return [*excluded, "_rng"]

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seeds as SB3 does, and what exploration and replay draw from now on."""
        super().set_random_seed(seed)
        if seed is not None:
            self._rng = np.random.default_rng([seed, 0])
            if self.replay_buffer is not None:
                self.replay_buffer.seed(seed)

    def save_replay_buffer(self, path: Any) -> None:
        """Writes the replay buffer, with its demonstrations, to an npz file."""
        self.replay_buffer.save(path)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Reads a replay buffer that :meth:`save_replay_buffer` wrote; unfinished episodes are not in it.

        Raises:
            ArtifactError: if the file cannot be read or is of another model.
        """
        self.replay_buffer.load(path)

    def load_demonstrations(self, data: CloningData, rewards: np.ndarray) -> None:
        """Puts demonstrations into the replay buffer, in place of earlier ones.

        Args:
            data: N demonstrations.
            rewards: (N, T) that :func:`demonstration_rewards` returns for the environment's reward mode.

        Raises:
            ConfigurationError: if they do not fit the model or each other.
        """
        check_spaces(self.policy, data)
        of_taken = np.take_along_axis(data.targets, data.taken.clip(0)[..., None], axis=-1)  # (N, T, 1)
        agreement = np.minimum(data.targets / np.where(of_taken > 0, of_taken, 1.0), 1.0)
        self.replay_buffer.set_demonstrations(data.glimpses, data.taken, np.asarray(rewards), agreement)

    def pretrain(
        self, steps: int, batch_size: int | None = None, *, progress: bool = True, seed: int = 0
    ) -> list[tuple[float, float]]:
        """Takes gradient steps on the demonstrations alone, the first phase of training.

        Args:
            steps: gradient steps.
            batch_size: transitions a step, in whole episodes; default the model's.
            progress: whether to show a bar.
            seed: seed of the order of demonstrations.

        Returns:
            J(Q) and J_E(Q) at each gradient step, in the unit of the rewards.

        Raises:
            ConfigurationError: if a number is out of range or there are no demonstrations.
        """
        size = self.batch_size if batch_size is None else batch_size
        if steps < 1 or size < 1:
            raise ConfigurationError(f"steps={steps} and batch_size={size} must be positive.")
        if self.replay_buffer.num_demonstrations == 0:
            raise ConfigurationError("there are no demonstrations to train on; call load_demonstrations first.")
        rng = np.random.default_rng([seed, 2])
        self.policy.set_training_mode(True)
        losses = [
            self._descend(self._batch(size, demo_share=1.0, rng=rng))
            for _ in trange(steps, desc="demonstrations", unit="step", disable=not progress)
        ]
        self.policy.set_training_mode(False)
        return losses

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Takes gradient steps on whole episodes of about ``batch_size`` transitions each."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = [self._descend(self._batch(batch_size)) for _ in range(gradient_steps)]
        loss, margin = np.mean(losses, axis=0)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(loss))
        if self.replay_buffer.num_demonstrations > 0:
            self.logger.record("demonstrations/loss", float(margin))

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: Any = 1,
        tb_log_name: str = "DQfD",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Any:
        """Trains as SB3 does; ``log_interval`` counts trainings, as in on-policy algorithms."""
        per_training = self.n_envs * self.train_freq.frequency // self.replay_buffer.steps
        return super().learn(
            total_timesteps,
            callback,
            log_interval if log_interval is None else log_interval * per_training,  # type: ignore[arg-type]
            tb_log_name,
            reset_num_timesteps,
            progress_bar,
        )

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Returns actions as SB3 does; unless ``deterministic``, each is replaced with the exploration rate's
        probability by a random location not yet looked at."""
        actions, state = self.policy.predict(observation, state, episode_start, True)
        if not deterministic:
            actions = self._with_exploration(observation, actions, self.exploration_rate)
        return actions, state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        actions, _ = self.predict(self._last_obs, deterministic=False)
        if self.num_timesteps < learning_starts:
            actions = self._with_exploration(self._last_obs, actions, 1.0)
        return actions, actions

    def _with_exploration(self, observation: dict[str, np.ndarray], actions: np.ndarray, rate: float) -> np.ndarray:
        """Returns ``actions``, each with probability ``rate`` replaced by a random possible one."""
        masks = torch.from_numpy(np.atleast_2d(observation["mask"])) > 0.5  # (B, T)
        locations = torch.from_numpy(np.atleast_2d(observation["locations"])).unflatten(1, (masks.shape[1], -1))
        visited = self.policy.torch_grid.visited(locations, masks).numpy()  # (B, L)
        coins = self._rng.random(len(visited)) < rate
        drawn = np.where(visited, -1.0, self._rng.random(visited.shape)).argmax(axis=1)
        return np.where(coins.reshape(actions.shape), drawn.reshape(actions.shape), actions)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total, callback = super()._setup_learn(*args, **kwargs)
        self._update_exploration_rate()
        return total, callback

    def _on_step(self) -> None:
        self._update_exploration_rate()
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _update_exploration_rate(self) -> None:
        done = min(1.0, self.num_timesteps / self.exploration_timesteps)
        change = self.exploration_final_eps - self.exploration_initial_eps
        self.exploration_rate = self.exploration_initial_eps + done * change

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Stores a transition without SB3's copies of observations: the buffer reads those in the infos."""
        replay_buffer.add(self._last_obs, new_obs, buffer_action, reward, dones, infos)
        self._last_obs = new_obs

    def _batch(self, batch_size: int, **options: Any) -> EpisodeSamples:
        """Returns episodes that make about ``batch_size`` transitions."""
        return self.replay_buffer.sample_episodes(max(1, batch_size // self.replay_buffer.steps), **options)

    def _descend(self, batch: EpisodeSamples) -> tuple[float, float]:
        """Takes a gradient step; returns J(Q) and J_E(Q)."""
        loss, margin = self.losses(batch)
        self.policy.optimizer.zero_grad()
        loss.backward()
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.policy.quantile_net.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self._n_updates += 1
        if self._n_updates % self.target_update_interval == 0:
            self.policy.update_target(self.tau)
        return loss.item(), margin.item()

    def losses(self, batch: EpisodeSamples) -> tuple[Tensor, Tensor]:
        """Returns J(Q) and J_E(Q) on E whole episodes, scalars with gradients.

        States whose action is a location that was looked at before are left out of both, and those behind a stop.
        """
        net, steps = self.policy.quantile_net, batch.actions.shape[1]
        observations = dict(batch.observations)
        if self.policy.encodes_once:
            observations[ENCODED] = self.policy.encode(observations)
            del observations["glimpses"]
        real = batch.actions >= 0  # (E, T)
        taken = batch.actions.clamp(min=0).flatten()  # (E * T,)
        quantiles = net(observations)  # (E * T, n_quantiles, L)
        q = quantiles.mean(-2)  # (E * T, L)
        with torch.no_grad():
            later = _quantiles_of_actions(self.policy.quantile_net_target(observations), q.argmax(-1))
            later = later.unflatten(0, (-1, steps))  # (E, T, n_quantiles)
            targets = batch.rewards[..., None].expand_as(later).clone()
            targets[:, :-1] += self.gamma * later[:, 1:].where(real[:, 1:, None], 0.0)
            possible = (q.gather(1, taken[:, None])[:, 0] > NEVER / 2) & real.flatten()
        td_loss = self.td_loss(_quantiles_of_actions(quantiles, taken)[possible], targets.flatten(0, 1)[possible])
        k = batch.agreement.shape[0] * steps  # demonstrated states, which come first
        valid = possible[:k]
        margins = self.margin * (1.0 - batch.agreement.flatten(0, 1)[valid])
        margin = margin_loss(q[:k][valid], taken[:k][valid], margins)
        return td_loss + self.margin_weight * margin, margin

    def td_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        """Returns the temporal-difference loss J_DQ, a mean over n transitions.

        Args:
            values: (n, n_quantiles) quantiles of the returns Z(s, l) of the actions taken.
            targets: (n, n_quantiles), their targets.
        """
        raise NotImplementedError


class GlimpseDQN(DeepQFromDemonstrations):
    """Double DQN from demonstrations, with the Huber loss: its only quantile is Q(s, l)."""

    def td_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        return F.smooth_l1_loss(values, targets)


class GlimpseQRDQN(DeepQFromDemonstrations):
    """Quantile-regression DQN (Dabney et al. 2018) from demonstrations, with the quantile Huber loss."""

    def td_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        return quantile_huber_loss(values, targets, sum_over_quantiles=False)


def _quantiles_of_actions(quantiles: Tensor, actions: Tensor) -> Tensor:
    """Returns the quantiles (n, n_quantiles) of actions (n,) from those of all actions, (n, n_quantiles, L)."""
    return quantiles.gather(-1, actions[:, None, None].expand(*quantiles.shape[:2], 1))[..., 0]


DQN_ALGORITHM = Algorithm(GlimpseDQN, GlimpseQPolicy, None, None, {}, after_demonstrations=AFTER_DEMONSTRATIONS)
QRDQN_ALGORITHM = Algorithm(
    GlimpseQRDQN, GlimpseQuantilePolicy, None, None, {}, after_demonstrations=AFTER_DEMONSTRATIONS
)
