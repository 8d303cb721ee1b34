"""Demonstrations recorded from a trained agent, as PS-RAM learns from."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from agents.registry import algorithm_of
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest
from glimpse_env.judge.judge import Judge
from glimpse_env.rollout import play
from oracles.demonstrations import Demonstrations, manifest_of


def is_agent(path: str) -> bool:
    """Returns whether ``path`` names a saved agent."""
    return Path(path).suffix == ".zip"


def load_agent(path: Path, device: Any = "cpu") -> tuple[Any, dict[str, Any]]:
    """Returns the agent that a run of scripts/train_agent.py saved at ``path``, on a device, and that run's settings.

    Raises:
        ArtifactError: if the agent, or ``config.json`` of its run beside it, cannot be read.
    """
    try:
        settings = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["args"]
        return algorithm_of(settings["algo"]).model.load(path, device=device), settings
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is no agent of a run ({type(error).__name__}: {error}); give the model.zip in a folder of "
            "scripts/train_agent.py."
        ) from error


def record_agent(path: Path, source: DataSource, judge: Judge, num: int, *, seed: int = 0) -> Demonstrations:
    """Records one deterministic sequence of a saved agent on each of ``num`` training images, without EPE maps, on the
    judge's device.

    Args:
        path: file of the agent, see :func:`load_agent`.
        source: data set of its environment.
        judge: judge of the data set.
        num: number of images, drawn at random.
        seed: seed of which images.

    Raises:
        ArtifactError: if there is no agent.
        ConfigurationError: if ``num`` is not in 1..the number of training images.
    """
    from agents.networks.encoders import observation_of  # imports stable_baselines3, which --help does without

    train = source.load("train")
    if not 1 <= num <= len(train):
        raise ConfigurationError(f"num={num} must lie in 1..{len(train)}, the images of {source.name}/train.")
    model, settings = load_agent(path, judge.device)
    images = np.random.default_rng(seed).permutation(len(train))[:num]
    observation = observation_of(model.observation_space) or "history"
    rollouts = play(model, train, judge, images, observation=observation, progress=False)
    manifest = manifest_of("random", source, judge, num, seed=seed) | {
        "policy": "agent",
        "agent": {
            name: settings.get(name) for name in ("algo", "architecture", "observation", "demos", "timesteps", "seed")
        },
        "weights": digest(*(value.cpu().numpy() for value in model.policy.state_dict().values())),
    }
    return Demonstrations(images, rollouts.locations, rollouts.entropy, None, manifest)
