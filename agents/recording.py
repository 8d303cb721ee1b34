"""Demonstrations recorded from a trained agent, as PS-RAM learns from."""

from pathlib import Path
from typing import Any

import numpy as np

from glimpse_env.console.names import command
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError, UntrustedFileError
from glimpse_env.files import digest, read_json
from glimpse_env.judge.judge import Judge
from glimpse_env.presets import anytime_options
from glimpse_env.rollout import can_stop, play
from oracles.demonstrations import Demonstrations, manifest_of

SUFFIXES = (".json", ".safetensors", ".zip")
"""Suffixes of the files of a saved agent."""


def is_agent(path: str) -> bool:
    """Returns whether ``path`` names a saved agent, by one of its files or by the folder of its run."""
    return Path(path).suffix in SUFFIXES or any((Path(path) / f"model{suffix}").is_file() for suffix in SUFFIXES)


def load_run_agent(path: Path, *, trust: bool = False, device: Any = "cpu") -> tuple[Any, dict[str, Any]]:
    """Returns the agent that a run of scripts/train_agent.py saved at ``path``, on a device, and that run's settings.

    Args:
        path: folder of the run, or a file of the agent in it.
        trust: see :func:`agents.saving.load_agent`.

    Raises:
        UntrustedFileError: if reading the agent runs code of others, and ``trust`` is False.
        ArtifactError: if the agent, or ``config.json`` of its run beside it, cannot be read.
    """
    from agents.saving import load_agent  # imports stable_baselines3, which --help does without

    folder = path if path.is_dir() else path.parent
    try:
        settings = read_json(folder / "config.json")["args"]
        return load_agent(path, trust=trust, device=device), dict(settings)
    except UntrustedFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is no agent of a run ({type(error).__name__}: {error}); give a folder of "
            f"`{command('train_agent')}`."
        ) from error


def record_agent(
    path: Path, source: DataSource, judge: Judge, num: int, *, seed: int = 0, trust: bool = False
) -> Demonstrations:
    """Records one deterministic sequence of a saved agent on each of ``num`` training images, without EPE maps, on the
    judge's device.

    Args:
        path: the agent, see :func:`load_run_agent`.
        source: data set of its environment.
        judge: judge of the data set.
        num: number of images, drawn at random.
        seed: seed of which images.
        trust: see :func:`load_run_agent`.

    Raises:
        ArtifactError: if there is no agent, or one that is not trusted.
        ConfigurationError: if ``num`` is not in 1..the number of training images.
    """
    from agents.networks.encoders import observation_of  # imports stable_baselines3, which --help does without

    train = source.load("train")
    if not 1 <= num <= len(train):
        raise ConfigurationError(f"num={num} must lie in 1..{len(train)}, the images of {source.name}/train.")
    model, settings = load_run_agent(path, trust=trust, device=judge.device)
    images = np.random.default_rng(seed).permutation(len(train))[:num]
    observation = observation_of(model.observation_space) or "history"
    rollouts = play(model, train, judge, images, observation=observation, progress=False)
    manifest = manifest_of("random", source, judge, num, seed=seed) | {
        "policy": "agent",
        "agent": {
            name: settings.get(name) for name in ("algo", "architecture", "observation", "demos", "timesteps", "seed")
        },
        **_stops(model, train, judge, settings),
        "weights": digest(*(value.cpu().numpy() for value in model.policy.state_dict().values())),
    }
    return Demonstrations(images, rollouts.locations, rollouts.entropy, None, manifest)


def _stops(model: Any, train: GlimpseDataset, judge: Judge, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what the manifest says of an agent that can stop; nothing of others."""
    if not can_stop(model, train, judge):
        return {}
    env = str(settings.get("env")).rpartition(":")[2]  # no module is imported because a file names it
    cost = anytime_options(env).get("glimpse_cost")
    return {"stops": True, **({} if cost is None else {"glimpse_cost": cost})}
