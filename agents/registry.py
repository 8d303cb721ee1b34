"""Algorithms and architectures by name, ours and those that other packages register, and models made from them.

Neither torch nor stable_baselines3 is imported before a name is looked up or a model made.
"""

import runpy
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse_env.errors import ConfigurationError
from glimpse_env.registry import Registry

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from agents.networks.encoders import HistoryExtractor
    from glimpse_env.episodes import EpisodeBatch
    from glimpse_env.judge.judge import Judge
    from glimpse_env.judge.posterior import PosteriorConfig


@dataclass(frozen=True)
class Algorithm:
    """An SB3 algorithm, the policy class it needs, and what suits episodes of a few glimpses."""

    model: "type[BaseAlgorithm]"
    policy: type[Any]
    rollout: int | None
    """Transitions between two updates, rounded to whole episodes in every environment. None for off-policy algorithms,
    which train after one episode in each."""
    minibatch: int | None
    """Transitions a gradient step, at most; None for an algorithm that takes the whole rollout."""
    hyperparameters: Mapping[str, Any]
    """Keyword arguments of ``model``."""
    core: str | None = None
    """Name of the network that reads the history, where it is the algorithm's own and no architecture can be chosen."""
    after_demonstrations: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that differ where demonstrations were learned first."""

    @property
    def off_policy(self) -> bool:
        """Whether it learns from a replay buffer, which demonstrations go into."""
        from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

        return issubclass(self.model, OffPolicyAlgorithm)

    @property
    def shares_baselines(self) -> bool:
        """Whether environments that show the same image serve each other as baselines."""
        return bool(getattr(self.model, "shares_baselines", False))


ALGORITHMS: Registry[Algorithm] = Registry(
    "algo",
    {
        "ppo": "agents.algorithms.on_policy:PPO_ALGORITHM",
        "a2c": "agents.algorithms.on_policy:A2C_ALGORITHM",
        "reinforce": "agents.algorithms.on_policy:REINFORCE_ALGORITHM",
        "maskable_ppo": "agents.algorithms.on_policy:MASKABLE_PPO_ALGORITHM",
        "recurrent_ppo": "agents.algorithms.on_policy:RECURRENT_PPO_ALGORITHM",
        "maskable_recurrent_ppo": "agents.algorithms.on_policy:MASKABLE_RECURRENT_PPO_ALGORITHM",
        "dqn": "agents.algorithms.dqfd:DQN_ALGORITHM",
        "qrdqn": "agents.algorithms.dqfd:QRDQN_ALGORITHM",
    },
)
"""Algorithms by the name that scripts call them; add yours with :func:`register_algorithm`."""

ARCHITECTURES: "Registry[type[HistoryExtractor]]" = Registry(
    "architecture",
    {
        "gru": "agents.networks.extractors:RecurrentExtractor",
        "attention": "agents.networks.extractors:AttentionExtractor",
        "canvas": "agents.networks.extractors:CanvasExtractor",
        "mlp": "agents.networks.extractors:MLPExtractor",
    },
)
"""Extractors by the name that scripts call them; add yours with :func:`register_architecture`."""


def register_algorithm(name: str, algorithm: Algorithm | str) -> None:
    """Makes an algorithm known by ``name`` to :func:`make_model`, ``--algo`` and the benchmark.

    Args:
        name: a word; elsewhere ``"module:name"`` asks for it and imports the module that registers it first.
        algorithm: the :class:`Algorithm`, or ``"module:attribute"`` of one, imported when it is first asked for.

    Raises:
        ConfigurationError: if the name is taken by another algorithm or is no word.
    """
    ALGORITHMS.add(name, algorithm)


def register_architecture(name: str, extractor_class: "type[HistoryExtractor] | str") -> None:
    """Makes an architecture known by ``name`` to :func:`make_model`, ``--architecture`` and the benchmark.

    Args:
        name: a word; elsewhere ``"module:name"`` asks for it and imports the module that registers it first.
        extractor_class: derived from :class:`HistoryExtractor`, or ``"module:attribute"`` of such a class, imported
            when it is first asked for.

    Raises:
        ConfigurationError: if the name is taken by another architecture or is no word.
    """
    ARCHITECTURES.add(name, extractor_class)


def algorithm_of(name: str) -> Algorithm:
    """Returns the algorithm called ``name``: a key of :data:`ALGORITHMS`, ``"module:name"`` for one that the module
    registers, or a Python file that sets ``ALGORITHM`` to an :class:`Algorithm`.

    Raises:
        ConfigurationError: if there is none.
    """
    if Path(name).suffix != ".py":
        return ALGORITHMS[name]
    path = Path(name).resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"algo={name!r} must be one of {', '.join(ALGORITHMS)}, or a Python file that sets ALGORITHM."
        )
    return _algorithm_in(path)


def names_code(name: str | None) -> bool:
    """Returns whether a setting names a Python file or, as ``"module:name"`` does, a module."""
    return name is not None and (Path(name).suffix == ".py" or ":" in name)


def runs_code(name: str) -> bool:
    """Returns whether looking up an algorithm, architecture, observation or environment runs code, see
    :func:`names_code`, that this process has not run yet."""
    if Path(name).suffix == ".py":
        return Path(name).resolve() not in _FILES_RUN
    module = name.rpartition(":")[0]
    return module != "" and module not in sys.modules


_FILES_RUN: set[Path] = set()


@cache
def _algorithm_in(path: Path) -> Algorithm:
    """Returns the algorithm that a Python file sets; each file is run once, so that its classes stay the same."""
    algorithm = runpy.run_path(str(path)).get("ALGORITHM")
    _FILES_RUN.add(path)
    if not isinstance(algorithm, Algorithm):
        raise ConfigurationError(f"{path} sets no ALGORITHM; give it an agents.registry.Algorithm.")
    return algorithm


def short_name(asked: str) -> str:
    """Returns the name of an algorithm or architecture in tables and folders: a file's without folder and suffix,
    ``name`` of ``"module:name"``."""
    return Path(asked).stem if Path(asked).suffix == ".py" else asked.rpartition(":")[2]


def architecture_of(algo: str, name: str | None) -> str:
    """Returns the architecture of an agent of ``algo``: ``name`` if given, else a GRU or the algorithm's own core.

    Raises:
        ConfigurationError: if there is no such architecture, or the algorithm has a core of its own.
    """
    core = algorithm_of(algo).core
    if core is not None:
        if name not in (None, core):
            raise ConfigurationError(
                f"architecture={name!r} cannot be had with {algo}, which has {core}; leave it out."
            )
        return core
    if name is not None:
        ARCHITECTURES.name_of(name)
    return name or "gru"


def make_model(
    algo: str,
    env: Any,
    *,
    seed: int,
    architecture: str | None = None,
    judge: "Judge | None" = None,
    pretrained: bool = True,
    tensorboard_log: str | None = None,
    **overrides: Any,
) -> Any:
    """Makes an untrained model for an environment with ``observation="history"``, ``"embedding"`` or ``"features"``.

    Args:
        algo: see :func:`algorithm_of`.
        env: this project's environment, an SB3 ``VecEnv`` or a single one.
        seed: of weights and sampling.
        architecture: see :func:`architecture_of`.
        judge: gives the agent's glimpse encoder its shape and, with ``pretrained``, its weights, which are copied from
            the first network and frozen; embeddings and features need neither. Saving and loading the model need no
            judge.
        pretrained: whether to copy the weights; if False, or without a judge, the encoder is trained with the rest.
        tensorboard_log: folder for SB3's logs.
        **overrides: keyword arguments of the SB3 algorithm; ``policy_kwargs`` and, within,
            ``features_extractor_kwargs`` are merged with those set here.

    Returns:
        The SB3 model.

    Raises:
        ConfigurationError: if the algorithm or the architecture is unknown, the environment is not this project's or
            shows no history, or a rollout has no minibatches of a suitable size.
    """
    from agents.networks.encoders import GlimpseEncoder

    spec = algorithm_of(algo)
    architecture = architecture_of(algo, architecture)
    episodes = episodes_of(env)
    convolutional = judge is not None and judge.frozen is None  # of a frozen encoder there are no convolutions to copy
    copies = convolutional and pretrained
    config = judge.card.config if judge is not None and convolutional else posterior_config(episodes)
    policy_overrides = dict(overrides.pop("policy_kwargs", None) or {})
    grid = asdict(episodes.grid)
    extractor = {"posterior": config.to_json, "frozen": copies, **policy_overrides.pop("features_extractor_kwargs", {})}
    policy_kwargs = {"grid": grid, "features_extractor_kwargs": extractor, **policy_overrides}
    if spec.core is None:
        extractor_class = policy_kwargs.setdefault("features_extractor_class", ARCHITECTURES[architecture])
        if extractor_class.needs_grid:
            extractor.setdefault("grid", grid)
    num_envs, steps = getattr(env, "num_envs", 1), episodes.geometry.num_glimpses
    hyperparameters = dict(spec.hyperparameters)
    if spec.rollout is not None:
        # whole episodes: nothing is bootstrapped
        n_steps = overrides.pop("n_steps", steps * max(1, round(spec.rollout / (num_envs * steps))))
        hyperparameters["n_steps"] = n_steps
        if spec.minibatch is not None and "batch_size" not in overrides:
            hyperparameters["batch_size"] = _minibatch_size(n_steps, num_envs, spec.minibatch)
    arguments = {"policy_kwargs": policy_kwargs, "tensorboard_log": tensorboard_log, "seed": seed}
    model: Any = spec.model(spec.policy, env, **hyperparameters | arguments | overrides)
    if judge is not None and copies:
        for module in model.policy.modules():
            if isinstance(module, GlimpseEncoder):
                module.copy_from(judge.networks[0])
    return model


def steps_between_updates(model: Any) -> int:
    """Returns the number of environment steps, over all environments, that are collected before each training."""
    per_env = model.train_freq.frequency if hasattr(model, "train_freq") else model.n_steps
    return per_env * model.n_envs


def episodes_of(env: Any) -> "EpisodeBatch":
    """Returns the episodes that an environment, or the first of an SB3 ``VecEnv``, runs.

    Raises:
        ConfigurationError: if the environment is not this project's.
    """
    from stable_baselines3.common.vec_env import VecEnv

    from glimpse_env.episodes import EpisodeBatch

    try:
        batch = env.get_attr("batch")[0] if isinstance(env, VecEnv) else env.unwrapped.batch
    except AttributeError as error:
        raise ConfigurationError(f"{env} is not one of this project's environments ({error}).") from error
    if not isinstance(batch, EpisodeBatch):
        raise ConfigurationError(f"{env} is not one of this project's environments: its batch is {type(batch)}.")
    return batch


def posterior_config(episodes: "EpisodeBatch") -> "PosteriorConfig":
    """Returns the configuration of a network that would judge these episodes' glimpses."""
    from glimpse_env.judge.posterior import PosteriorConfig

    return PosteriorConfig(
        glimpse_size=episodes.grid.glimpse_size,
        stride=episodes.grid.stride,
        channels=episodes.dataset.images.shape[-1] * episodes.sensor.scales,
        num_classes=len(episodes.dataset.class_names),
        coordinates=episodes.grid.coordinates,
    )


def _minibatch_size(n_steps: int, num_envs: int, limit: int) -> int:
    """Returns the size that divides a rollout into minibatches of one size: the largest divisor up to ``limit``.

    Raises:
        ConfigurationError: if that is less than half of ``limit``, and so far from the size the algorithm is set for.
    """
    rollout = n_steps * num_envs
    if rollout <= limit:
        return rollout
    size = next(divisor for divisor in range(limit, 0, -1) if rollout % divisor == 0)
    if 2 * size < limit:
        raise ConfigurationError(
            f"n_steps={n_steps} in {num_envs} environments makes rollouts of {rollout} transitions, which minibatches "
            f"of {limit // 2} to {limit} cannot divide; take another n_steps or number of environments, or give "
            "batch_size."
        )
    return size
