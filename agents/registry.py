"""SB3 algorithms set up for glimpse episodes, and what keeps a cloned policy alive while they train it."""

import json
import runpy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from agents.algorithms.dqfd import AFTER_DEMONSTRATIONS, GlimpseDQN, GlimpseQPolicy, GlimpseQRDQN, GlimpseQuantilePolicy
from agents.algorithms.policies import GlimpseHistoryPolicy, MaskableGlimpseHistoryPolicy
from agents.algorithms.recurrent import GlimpseRecurrentPolicy, GlimpseRecurrentPPO, values_of
from agents.algorithms.rollout_buffer import EpisodeRolloutBuffer
from agents.cloning import CloningData, DemonstrationLoss, actor_parameters, critic_parameters
from agents.networks.encoders import ENCODED, GlimpseEncoder
from agents.networks.extractors import ARCHITECTURES
from agents.vec_env import GlimpseVecEnv
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.posterior import PosteriorConfig


class _WholeEpisodes:
    """Goes before an SB3 algorithm: trains on whole episodes, see :class:`EpisodeRolloutBuffer`. With a frozen encoder
    each glimpse of a rollout is encoded once for all epochs; where groups of environments show the same images they
    share baselines."""

    policy: Any

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """SB3's, and the folding."""
        goes_on: bool = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)  # type: ignore[misc]
        if goes_on:
            group = env.group if isinstance(env, GlimpseVecEnv) else 1
            if group > 1:
                rollout_buffer.share_baselines(group)
            rollout_buffer.fold(self._encoded if getattr(self.policy, "encodes_once", False) else None)
        return goes_on

    def _encoded(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """(E, T * F) float32 of raw observations of E episodes."""
        parts = []
        for start in range(0, len(observations["mask"]), 512):
            shown = {key: torch.from_numpy(values[start : start + 512]) for key, values in observations.items()}
            parts.append(self.policy.encode({key: value.to(self.policy.device) for key, value in shown.items()}))
        return torch.cat(parts).cpu().numpy()


class GlimpsePPO(_WholeEpisodes, PPO):
    """PPO."""


class GlimpseA2C(_WholeEpisodes, A2C):
    """A2C."""


class GlimpseReinforce(_WholeEpisodes, A2C):
    """REINFORCE with a learned baseline (Williams 1992), as RAM was trained (Mnih et al. 2014):

        gradient of  sum_t log pi(l_t | s_t) (R_t - b(s_t)),  with R_t the return from t on and b fitted to it.

    A2C is that where nothing is bootstrapped: whole episodes, and whole returns in place of estimates (lambda = 1).

    Raises:
        ConfigurationError: if ``gae_lambda`` is not 1, or a rollout cuts episodes.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if kwargs.setdefault("gae_lambda", 1.0) != 1.0:
            raise ConfigurationError(
                f"gae_lambda={kwargs['gae_lambda']} bootstraps, REINFORCE does not; leave it 1 or use a2c."
            )
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if goes_on and not rollout_buffer.whole:
            raise ConfigurationError(
                f"n_steps={n_rollout_steps} cuts episodes, and REINFORCE needs them whole; take a multiple."
            )
        return goes_on


class GlimpseMaskablePPO(MaskablePPO):
    """MaskablePPO; with a frozen encoder the rollout buffer holds features in place of glimpses while it trains."""

    policy: Any

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """SB3's, and the encoding."""
        goes_on: bool = super().collect_rollouts(env, callback, rollout_buffer, *args, **kwargs)
        if goes_on and getattr(self.policy, "encodes_once", False):
            observations = rollout_buffer.observations  # of each key (n_steps, n_envs, ...)
            encoded = []
            for step in range(rollout_buffer.buffer_size):
                shown = {key: torch.from_numpy(values[step]) for key, values in observations.items()}
                encoded.append(self.policy.encode({key: value.to(self.policy.device) for key, value in shown.items()}))
            observations[ENCODED] = torch.stack(encoded).cpu().numpy()  # (n_steps, n_envs, T * F)
            del observations["glimpses"]
        return goes_on


@dataclass(frozen=True)
class Algorithm:
    """An SB3 algorithm, the policy class it needs, and what suits episodes of a few glimpses."""

    model: type[BaseAlgorithm]
    policy: type[Any]
    rollout: int | None
    """Transitions an update, about: whole episodes are collected in every environment. None for one episode in each, as
    off-policy algorithms do."""
    minibatch: int | None
    """Transitions a gradient step, at most; None for an algorithm that takes the whole rollout."""
    hyperparameters: Mapping[str, Any]
    """Keyword arguments of ``model``."""
    buffer: type[RolloutBuffer] | None = EpisodeRolloutBuffer
    """None for the algorithm's own."""
    core: str | None = None
    """What reads the history where that is the algorithm's own and no architecture can be chosen."""
    after_demonstrations: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that differ where demonstrations were learnt first."""

    @property
    def off_policy(self) -> bool:
        """Whether it learns from a replay buffer, which demonstrations go into."""
        return issubclass(self.model, OffPolicyAlgorithm)


# Episodes are short and paid at the end: no discount.
_COMMON = {
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "ent_coef": 0.001,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "learning_rate": 3e-4,
}
_PPO = {**_COMMON, "learning_rate": 2e-4, "n_epochs": 4, "clip_range": 0.2, "target_kl": 0.02}

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(GlimpsePPO, GlimpseHistoryPolicy, 8192, 1024, _PPO),
    # Adam: RMSprop's first steps, before its averages have filled, are ten times as long and undo what was
    # cloned.
    "a2c": Algorithm(
        GlimpseA2C, GlimpseHistoryPolicy, 512, None, {**_COMMON, "use_rms_prop": False, "normalize_advantage": True}
    ),
    "reinforce": Algorithm(
        GlimpseReinforce,
        GlimpseHistoryPolicy,
        512,
        None,
        {**_COMMON, "gae_lambda": 1.0, "ent_coef": 0.0, "use_rms_prop": False, "normalize_advantage": True},
    ),
    "maskable_ppo": Algorithm(GlimpseMaskablePPO, MaskableGlimpseHistoryPolicy, 8192, 1024, _PPO, buffer=None),
    "recurrent_ppo": Algorithm(GlimpseRecurrentPPO, GlimpseRecurrentPolicy, 8192, 1024, _PPO, buffer=None, core="lstm"),
    "dqn": Algorithm(
        GlimpseDQN, GlimpseQPolicy, None, None, {}, buffer=None, after_demonstrations=AFTER_DEMONSTRATIONS
    ),
    "qrdqn": Algorithm(
        GlimpseQRDQN, GlimpseQuantilePolicy, None, None, {}, buffer=None, after_demonstrations=AFTER_DEMONSTRATIONS
    ),
}


def architecture_of(algo: str, name: str | None) -> str:
    """What reads the history of an agent of ``algo``: ``name``, by default a GRU or what the algorithm has itself.

    Raises:
        ConfigurationError: if there is no such architecture, or the algorithm has one of its own.
    """
    core = algorithm_of(algo).core
    if core is not None:
        if name not in (None, core):
            raise ConfigurationError(
                f"architecture={name!r} cannot be had with {algo}, which has {core}; leave it out."
            )
        return core
    if name is not None and name not in ARCHITECTURES:
        raise ConfigurationError(f"architecture={name!r} must be one of {', '.join(ARCHITECTURES)}.")
    return name or "gru"


TUNED = Path(__file__).with_name("tuned.json")
"""What scripts/tune_agents.py found, for each algorithm without and with demonstrations."""


def tuned(algo: str, demonstrations: bool) -> dict[str, Any]:
    """Hyperparameters of ``algo`` that do best on validation images, among them ``rollout``, environment steps between
    two updates; none where it was not tuned. PPO's kin have PPO's."""
    found = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.is_file() else {}
    like = {"maskable_ppo": "ppo", "recurrent_ppo": "ppo"}.get(algo, algo)
    return dict(found.get(like, {}).get("demonstrations" if demonstrations else "scratch", {}))


def algorithm_of(name: str) -> Algorithm:
    """The algorithm called ``name``: a key of :data:`ALGORITHMS`, or a Python file that sets ``ALGORITHM`` to an
    :class:`Algorithm` of its own.

    Raises:
        ConfigurationError: if there is none.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigurationError(
            f"algo={name!r} must be one of {', '.join(ALGORITHMS)}, or a Python file that sets ALGORITHM."
        )
    if name not in _own_algorithms:
        found = runpy.run_path(name).get("ALGORITHM")
        if not isinstance(found, Algorithm):
            raise ConfigurationError(f"{name} sets no ALGORITHM; give it an agents.registry.Algorithm.")
        _own_algorithms[name] = found
    return _own_algorithms[name]


_own_algorithms: dict[str, Algorithm] = {}
"""Those of files, by their names: each is run once, so that its classes are the same from call to call."""


def make_model(
    algo: str,
    env: Any,
    *,
    seed: int,
    architecture: str | None = None,
    judge: Judge | None = None,
    pretrained: bool = True,
    tensorboard_log: str | None = None,
    **overrides: Any,
) -> Any:
    """A model of ``algo`` for an environment with ``observation="history"`` or ``"embedding"``.

    Args:
        algo: see :func:`algorithm_of`.
        env: this project's environment, an SB3 ``VecEnv`` or a single one.
        seed: of weights and sampling.
        architecture: see :func:`architecture_of`.
        judge: gives the agent's glimpse encoder its shape and, with ``pretrained``, its weights, which are
            copied from the first network and frozen; embeddings need neither. It decides nothing else: saving and
            loading the model need no judge.
        pretrained: whether to copy; without, or without a judge, the encoder is trained with the rest.
        tensorboard_log: folder for SB3's logs.
        **overrides: keyword arguments of the SB3 algorithm; ``policy_kwargs`` and, within,
            ``features_extractor_kwargs`` are merged with what is chosen here.

    Raises:
        ConfigurationError: if the algorithm or the architecture is unknown, or the environment is another one or shows
            no history.
    """
    spec = algorithm_of(algo)
    architecture = architecture_of(algo, architecture)
    episodes = episodes_of(env)
    config = judge.card.config if judge is not None else posterior_config(episodes)
    copies = judge is not None and pretrained
    asked = dict(overrides.pop("policy_kwargs", None) or {})
    grid = asdict(episodes.grid)
    extractor = {"posterior": asdict(config), "frozen": copies, **asked.pop("features_extractor_kwargs", {})}
    policy_kwargs = {"grid": grid, "features_extractor_kwargs": extractor, **asked}
    if spec.core is None:
        reader = policy_kwargs.setdefault("features_extractor_class", ARCHITECTURES[architecture])
        if reader.needs_grid:
            extractor.setdefault("grid", grid)
    num_envs, steps = getattr(env, "num_envs", 1), episodes.geometry.num_glimpses
    hyperparameters = dict(spec.hyperparameters)
    if spec.rollout is not None:
        # whole episodes: nothing is bootstrapped
        n_steps = overrides.pop("n_steps", steps * max(1, round(spec.rollout / (num_envs * steps))))
        hyperparameters["n_steps"] = n_steps
        if spec.minibatch is not None:
            hyperparameters["batch_size"] = _largest_divisor(n_steps * num_envs, spec.minibatch)
    if spec.buffer is not None:
        hyperparameters["rollout_buffer_class"] = spec.buffer
    model: Any = spec.model(
        spec.policy,
        env,
        **{
            **hyperparameters,
            "policy_kwargs": policy_kwargs,
            "tensorboard_log": tensorboard_log,
            "seed": seed,
            **overrides,
        },
    )
    if judge is not None and pretrained and spec.off_policy:
        model.policy.copy_encoder(judge.networks[0])
    elif judge is not None and pretrained:
        for part in (model.policy.pi_features_extractor, model.policy.vf_features_extractor):
            if isinstance(part.encoder, GlimpseEncoder):
                part.encoder.copy_from(judge.networks[0])
    return model


def steps_between_updates(model: Any) -> int:
    """Environment steps that are collected before the model is trained on them."""
    per_env = model.n_steps if isinstance(model, OnPolicyAlgorithm) else model.train_freq.frequency
    return per_env * model.n_envs


def warm_up_critic(
    model: OnPolicyAlgorithm,
    *,
    timesteps: int = 4096,
    epochs: int = 8,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
) -> list[float]:
    """Fits the critic, and nothing else, to the returns of the present policy.

    A random critic's advantages undo a cloned actor within a few updates. Rollouts are collected by the
    model itself; the targets are whole returns (lambda = 1), into which the untrained critic does not enter.

    Args:
        model: whose actor, optimiser and count of timesteps stay as they are.
        timesteps: to collect, rounded up to whole rollouts.
        epochs: over each rollout.
        batch_size: transitions a gradient step.
        learning_rate: of Adam.

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


class KeepDemonstrations(BaseCallback):
    """Adds the gradient of c * KL(q || pi) on demonstrations to every step of any SB3 on-policy algorithm.

    It is added right before the optimiser's step, to the actor only and after SB3 has clipped the
    algorithm's own gradient. Logs ``demonstrations/loss`` (nats) and ``demonstrations/coefficient``.
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
            fade_timesteps: the timestep of the model, counted over all its training, at which c has fallen
                linearly to 0; None keeps it.
            batch_size: demonstrated states a step.
            seed: of which demonstrations.

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
        """Sets which demonstrations come from now on."""
        self._rng = np.random.default_rng(seed)

    @property
    def coefficient(self) -> float:
        """c now."""
        if self.fade_timesteps is None:
            return self.start_coefficient
        return self.start_coefficient * max(0.0, 1.0 - self.model.num_timesteps / self.fade_timesteps)

    def detach(self) -> None:
        """Leaves the optimiser as it was; called by itself when training ends, not when an exception ends it."""
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


def episodes_of(env: Any) -> EpisodeBatch:
    """What the environments at hand are made of.

    Raises:
        ConfigurationError: if they are not this project's.
    """
    try:
        batch = env.get_attr("batch")[0] if isinstance(env, VecEnv) else env.unwrapped.batch
    except AttributeError as error:
        raise ConfigurationError(f"{env} is not one of this project's environments ({error}).") from error
    if not isinstance(batch, EpisodeBatch):
        raise ConfigurationError(f"{env} is not one of this project's environments: its batch is {type(batch)}.")
    return batch


def posterior_config(episodes: EpisodeBatch) -> PosteriorConfig:
    """Of the network that would judge these glimpses."""
    return PosteriorConfig(
        glimpse_size=episodes.grid.glimpse_size,
        stride=episodes.grid.stride,
        channels=episodes.dataset.images.shape[-1] * episodes.sensor.scales,
        num_classes=len(episodes.dataset.class_names),
    )


def _largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is at most ``limit``: minibatches of one size."""
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)
