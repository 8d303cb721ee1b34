"""Demonstrations beside policy gradients: their rewards, a loss on them during training, and a warm critic."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from agents.cloning import DemonstrationLoss, actor_parameters, critic_parameters
from agents.cloning_data import CloningData
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import EpisodeBatch, Posterior, RewardMode
from glimpse_env.errors import ConfigurationError


def demonstration_rewards(
    data: CloningData,
    dataset: GlimpseDataset,
    judge: Posterior,
    reward: RewardMode = "information",
    *,
    glimpse_cost: float = 0.0,
    tabulated: bool = False,
) -> np.ndarray:
    """Plays demonstrations in the environment and returns its rewards.

    Args:
        data: N demonstrations, not mirrored. Mirror images earn about the same: for ``data.with_mirror_images()`` take
            the rewards of the originals twice, ``np.concatenate([rewards, rewards])``.
        dataset: the split that they were made on.
        judge: judge of the data set.
        reward: reward mode of the environment: ``"information"``, the fall in the label's log-loss at each glimpse, or
            ``"classification"``, 1 at the end where the judge is right.
        glimpse_cost: price of a glimpse in the environment.
        tabulated: whether the judge answers from a table, as in the environment: faster where the table exists, and
            the same up to half precision.

    Returns:
        (N, T) float32, 0 behind a stop.
    """
    rewards = np.zeros(data.taken.shape, dtype=np.float32)
    for rows in data.chunks():
        batch = EpisodeBatch(
            dataset,
            judge,
            len(rows),
            observation="glimpse",
            reward=reward,
            stop=data.stop,
            glimpse_cost=glimpse_cost,
            posterior_info=False,
            tabulated=tabulated,
        )
        batch.begin(data.indices[rows])
        for t in range(data.num_glimpses):
            running = ~batch.ended
            rewards[rows, t] = np.where(running, batch.step(data.taken[rows, t].clip(0)).rewards, 0.0)
    return rewards


def warm_up_critic(
    model: OnPolicyAlgorithm,
    *,
    timesteps: int = 4096,
    epochs: int = 8,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
) -> list[float]:
    """Fits the critic, and nothing else, to the returns of the present policy.

    A random critic's advantages undo a cloned actor within a few updates. The model itself collects rollouts; the
    targets are whole returns (lambda = 1), which do not depend on the untrained critic; but for episodes that a
    rollout's end cuts, as it does where they may stop.

    Args:
        model: its actor, its optimiser and its count of timesteps stay as they are.
        timesteps: environment steps to collect, rounded up to whole rollouts.
        epochs: passes over each rollout.
        batch_size: transitions a gradient step.
        learning_rate: learning rate of Adam.

    Returns:
        The mean squared error of the values in each epoch, a mean over its steps.

    Raises:
        ConfigurationError: if the model has no environment or a number is not positive.
    """
    if timesteps < 1 or epochs < 1 or batch_size < 1:
        raise ConfigurationError(
            f"timesteps={timesteps}, epochs={epochs} and batch_size={batch_size} must be positive."
        )
    env = model.get_env()
    if env is None:
        raise ConfigurationError("the model has no environment to collect rollouts in; call set_env first.")
    buffer, policy = model.rollout_buffer, model.policy
    optimizer = torch.optim.Adam(critic_parameters(policy), lr=learning_rate)
    before = model.num_timesteps, model.tensorboard_log, buffer.gae_lambda
    losses = []
    try:
        model.tensorboard_log = None  # not a run of its own in TensorBoard
        buffer.gae_lambda = 1.0
        _, callback = model._setup_learn(timesteps, reset_num_timesteps=False)
        for _ in range(0, timesteps, model.n_steps * env.num_envs):
            model.collect_rollouts(env, callback, buffer, n_rollout_steps=model.n_steps)
            policy.set_training_mode(True)
            for _ in range(epochs):
                errors = []
                for batch in buffer.get(batch_size):
                    values, returns = values_of(policy, batch)
                    loss = F.mse_loss(values, returns)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    errors.append(loss.item())
                losses.append(float(np.mean(errors)))
    finally:
        model.num_timesteps, model.tensorboard_log, buffer.gae_lambda = before
    return losses


class DemonstrationLossCallback(BaseCallback):
    """Adds the gradient of c * KL(q || pi) on demonstrations to every step of any SB3 on-policy algorithm.

    It is added right before the optimiser's step, to the actor only and after SB3 has clipped the algorithm's own
    gradient. Logs ``demonstrations/loss`` (nats) and ``demonstrations/coefficient``.
    """

    def __init__(
        self,
        data: CloningData,
        coefficient: float = 0.1,
        fade_timesteps: int | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ):
        """
        Args:
            data: demonstrations.
            coefficient: c at timestep 0.
            fade_timesteps: timestep of the model, counted over all its training, at which c has fallen linearly to 0;
                None keeps it constant.
            batch_size: demonstrated states a step.
            seed: seed of the order of demonstrations.

        Raises:
            ConfigurationError: if a number is out of range.
        """
        super().__init__()
        if coefficient < 0 or batch_size < 1 or (fade_timesteps is not None and fade_timesteps < 1):
            raise ConfigurationError(
                f"coefficient={coefficient} must not be negative, batch_size={batch_size} and "
                f"fade_timesteps={fade_timesteps} must be positive."
            )
        self.data = data
        self.start_coefficient = coefficient
        self.fade_timesteps = fade_timesteps
        self._per_batch = max(1, batch_size // data.num_glimpses)
        self.set_seed(seed)
        self._loss: DemonstrationLoss | None = None
        self._handle: RemovableHandle | None = None

    def set_seed(self, seed: int) -> None:
        """Seeds the order of demonstrations from now on."""
        self._rng = np.random.default_rng(seed)

    @property
    def coefficient(self) -> float:
        """The present c."""
        faded = 0.0 if self.fade_timesteps is None else self.model.num_timesteps / self.fade_timesteps
        return self.start_coefficient * max(0.0, 1.0 - faded)

    def detach(self) -> None:
        """Leaves the optimiser as it was before training. Called when training ends, unless an exception ends it."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _on_training_start(self) -> None:
        self.detach()
        if self._loss is None or self._loss.policy is not self.model.policy:
            self._loss = DemonstrationLoss(self.model.policy, self.data)
        self._handle = self.model.policy.optimizer.register_step_pre_hook(self._add_gradient)

    def _on_training_end(self) -> None:
        self.detach()

    def _on_rollout_end(self) -> None:
        self.logger.record("demonstrations/coefficient", self.coefficient)

    def _on_step(self) -> bool:
        return True

    def _add_gradient(self, *_: Any) -> None:
        coefficient = self.coefficient
        if coefficient == 0 or self._loss is None:
            return
        parameters = actor_parameters(self.model.policy)
        rows = self._rng.integers(len(self.data), size=self._per_batch)
        with torch.enable_grad():
            loss = self._loss(rows)
            gradients = torch.autograd.grad(coefficient * loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self.logger.record_mean("demonstrations/loss", loss.item())


def values_of(policy: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Returns values and returns, (n,) each, of a minibatch of any on-policy algorithm's buffer."""
    if not hasattr(batch, "lstm_states"):
        return policy.predict_values(batch.observations).flatten(), batch.returns
    values = policy.predict_values(batch.observations, batch.lstm_states.vf, batch.episode_starts).flatten()
    real = batch.mask > 0.5  # sequences are padded
    return values[real], batch.returns[real]
