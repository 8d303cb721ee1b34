"""What can be scored: a policy by its name, a saved agent, or a Python file that makes something with ``predict``."""

import json
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.networks.encoders import observation_of
from agents.recording import is_agent
from agents.saving import load_agent
from agents.shipped import shipped_agent
from glimpse_env.console.names import command
from glimpse_env.datasets.base import DataSource
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest, read_json
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import can_stop
from oracles.registry import POLICIES, make_policy, peeks, policy_settings, priced

MAKER = "make_agent"
"""Function that a Python file has to have: from data set and judge to something with ``predict``."""


@dataclass(frozen=True)
class Subject:
    """Something that is scored."""

    policy: Any
    """What has Stable-Baselines3's ``predict``."""
    name: str
    """What it is called unless its author says otherwise."""
    origin: dict[str, Any]
    """What tells it from others, as JSON values: its ``kind``, ``policy``, ``agent`` or ``file``, and what it is."""
    training_seed: int | None = None
    """Seed that it was trained with, where its run says so."""
    peeks: bool = False
    """Whether it may see more of an image than glimpses and locations, as far as it is known."""
    observation: str = "history"


def load_subject(
    what: str,
    source: DataSource,
    judge: Judge,
    *,
    glimpse_cost: float | None = None,
    seed: int = 0,
    trust: bool = False,
) -> Subject:
    """Returns what a name or a path means, ready to play on test images.

    Args:
        what: a name of :data:`oracles.registry.POLICIES`, or ``"module:name"``; the folder of a run or a file of its
            agent; an environment id that an agent comes with the package for; or a Python file, which is run, with a
            function ``make_agent(source, judge)`` that returns something with ``predict``, and ``OBSERVATION`` where
            that is not ``"history"``.
        source, judge: of the environment.
        glimpse_cost: price of a glimpse where episodes may stop.
        seed: of a policy that is random.
        trust: see :func:`agents.saving.load_agent`.

    Raises:
        ConfigurationError: if it is nothing of these.
        ArtifactError: if an agent cannot be read, or was trained in another environment.
    """
    path = Path(what)
    if path.suffix == ".py":
        return _of_file(path, source, judge)
    if is_agent(what) or shipped_agent(what) is not None:
        return _of_agent(path if path.exists() else shipped_agent(what) or path, source, judge, trust)
    if ":" not in what and what not in POLICIES:
        raise ConfigurationError(
            f"{what} is no Python file, no agent and none of the policies {', '.join(POLICIES)}; train an agent with "
            f"`{command('train_agent')}`."
        )
    own, config = priced(what, source, glimpse_cost)
    policy = make_policy(own, source, judge, seed=seed, config=config)
    origin = {
        "kind": "policy",
        "policy": POLICIES.name_of(what),
        "settings": policy_settings(own, source, judge, config),
    }
    return Subject(policy, POLICIES.name_of(what), json.loads(json.dumps(origin)), peeks=peeks(own))


def _of_file(path: Path, source: DataSource, judge: Judge) -> Subject:
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}; write one with a function {MAKER}(source, judge).")
    names = runpy.run_path(str(path))
    if not callable(names.get(MAKER)):
        raise ConfigurationError(f"{path} has no function {MAKER}(source, judge); write one that returns an agent.")
    policy = names[MAKER](source, judge)
    if not callable(getattr(policy, "predict", None)):
        raise ConfigurationError(f"{MAKER} of {path} returns {type(policy).__name__}, which has no method predict.")
    origin = {"kind": "file", "file": path.name, "digest": digest(path.read_bytes())}
    return Subject(policy, path.stem, origin, observation=str(names.get("OBSERVATION", "history")))


def _of_agent(path: Path, source: DataSource, judge: Judge, trust: bool) -> Subject:
    model = load_agent(path, trust=trust, device=judge.device)
    check_fits(model, source, judge)
    folder = path if path.is_dir() else path.parent
    args: dict[str, Any] = {}
    if (folder / "config.json").is_file():
        try:
            args = dict(read_json(folder / "config.json")["args"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{folder}/config.json is none of a run ({error!r}); move it away.") from error
    weights = digest(*(value.cpu().numpy() for value in model.policy.state_dict().values()))
    kept: dict[str, Any] = {
        key: args[key] for key in ("algo", "architecture", "demos", "num_demos", "timesteps") if key in args
    }
    kept = {key: Path(value).name if isinstance(value, str) else value for key, value in kept.items()}
    seed = args.get("seed")
    return Subject(
        model,
        folder.resolve().name,
        {"kind": "agent", "weights": weights, **kept},
        training_seed=seed if isinstance(seed, int) else None,
        observation=observation_of(model.observation_space) or "history",
    )


def check_fits(model: Any, source: DataSource, judge: Judge) -> None:
    """Checks that a loaded agent sees and does what an environment of a data set shows and takes.

    Raises:
        ArtifactError: if it was trained in another environment.
    """
    test = source.load("test")
    observation = observation_of(model.observation_space) or "history"
    batch = EpisodeBatch(test, judge, 1, observation=observation, stop=can_stop(model, test, judge))
    if (model.observation_space, model.action_space) != (batch.observer.space, batch.action_space):
        raise ArtifactError(
            f"the agent is one of another environment than that of {source.name!r}: its actions are "
            f"{model.action_space}, there they are {batch.action_space}, or it sees something else; name its --env."
        )
