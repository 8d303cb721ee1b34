"""Writes and reads demonstrations as a data set of Minari, the exchange format of offline reinforcement learning."""

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from tqdm.auto import tqdm

from glimpse_env import ENV_IDS
from glimpse_env.console.names import pip_extra
from glimpse_env.datasets.base import DataSource
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import whole_folder
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Observation, take
from oracles.demonstrations import Demonstrations
from oracles.manifests import FORMAT

KEY = "glimpse_demonstrations"
"""Key of the manifest in the metadata of a Minari data set."""
EPISODES_PER_CHUNK = 64
"""Episodes in memory at a time."""


def default_id(demonstrations: Demonstrations) -> str:
    """Returns the usual id of the data set, like ``glimpse/birds/oracle-v0``."""
    return f"glimpse/{demonstrations.manifest['dataset']}/{demonstrations.manifest['policy']}-v0"


def export_demonstrations(
    demonstrations: Demonstrations,
    source: DataSource,
    judge: Judge,
    dataset_id: str,
    *,
    observation: str = "history",
) -> Path:
    """Plays demonstrations again and writes the episodes as the Minari data set ``dataset_id``.

    An episode has T + 1 observations, in the dtypes of the environment and never as JPEG; T actions (int64 grid
    locations), rewards (float64: 1 at the end where the judge names the class), terminations (true at the end) and
    truncations (never). Its infos have T + 1 rows, one an observation: ``index`` (int64) of the image, ``entropy``
    (float32 nats) of the judge's posterior, and for a policy with maps ``epe`` (L,) float16, the criterion expected
    before the next glimpse, NaN in the last row. Its metadata hold ``options``, with which a reset shows its image.
    Of a policy that can stop the environment is one that can; an episode that stopped ends with the action L, and the
    rewards are less the price of a glimpse where the manifest has one.

    ``minari.load_dataset(dataset_id).recover_environment()`` makes the environment; where the images lie is not kept,
    so give it ``root=...`` where that is not GLIMPSE_DATA. The manifest is in the metadata under :data:`KEY`.

    Args:
        demonstrations: N sequences.
        source: the data set that they were made on.
        judge: for which they were made.
        dataset_id: (namespaces/)name-v(number).
        observation: see :class:`glimpse_env.env.GlimpseEnv`.

    Returns:
        The folder of the Minari data set, below MINARI_DATASETS_PATH.

    Raises:
        ConfigurationError: if Minari is not installed, or the id is malformed or taken.
        ArtifactError: if demonstrations, data set and judge do not belong together.
    """
    _check_minari()
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    try:
        namespace, _, _ = parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # a TypeError where the version is missing
        raise ConfigurationError(
            f"dataset_id={dataset_id!r} must be a name of Minari's like 'glimpse/birds/oracle-v0'."
        ) from error
    folder = get_dataset_path(dataset_id)
    if folder.exists():
        raise ConfigurationError(
            f"the Minari data set {dataset_id} is there already, in {folder}; take another name or version."
        )
    demonstrations.check_fits(source, judge)
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    batch = EpisodeBatch(source.load("train"), judge, 1, observation=observation, **_stopping(demonstrations))
    with whole_folder(folder) as temporary:
        storage = MinariStorage.new(
            temporary / "data",
            observation_space=batch.observer.space,
            action_space=batch.action_space,
            env_spec=_env_spec(source, judge, observation, _stopping(demonstrations)),
            jpeg_encoding=False,
        )
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "algorithm_name": demonstrations.manifest["policy"],
                "description": f"Sequences of glimpses at training images of {source.name}, made by glimpse-env.",
                KEY: demonstrations.manifest,
            }
        )
        with tqdm(total=len(demonstrations), desc=dataset_id, unit="episode") as bar:
            for start in range(0, len(demonstrations), EPISODES_PER_CHUNK):
                rows = np.arange(start, min(start + EPISODES_PER_CHUNK, len(demonstrations)))
                storage.update_episodes(_played(demonstrations, rows, source, judge, observation))
                bar.update(len(rows))
    return folder


def import_demonstrations(dataset_id: str) -> Demonstrations:
    """Returns the demonstrations that :func:`export_demonstrations` wrote.

    Raises:
        ConfigurationError: if Minari is not installed.
        ArtifactError: if there is no such data set, it is damaged, changed, or was not exported from here.
    """
    _check_minari()
    import minari

    try:
        dataset = minari.load_dataset(dataset_id)
        manifest = dataset.storage.metadata[KEY]
        if (manifest["format"], manifest["num"]) != (FORMAT, len(dataset)):
            raise ValueError(
                f"{len(dataset)} episodes where the manifest of format {manifest['format']} says {manifest['num']}"
            )
        indices, locations, entropies, maps = [], [], [], []
        steps = manifest["geometry"]["num_glimpses"]
        for episode in tqdm(dataset, desc=dataset_id, unit="episode"):
            indices.append(episode.infos["index"][0])
            left = steps - len(episode.actions)  # behind a stop
            stopped = bool(manifest.get("stops", False)) & (episode.actions == dataset.action_space.n - 1)
            locations.append(np.pad(np.where(stopped, -1, episode.actions), (0, left), constant_values=-1))
            entropies.append(np.pad(episode.infos["entropy"][1:], (0, left), mode="edge"))
            if "epe" in episode.infos:
                maps.append(np.pad(episode.infos["epe"][:-1], ((0, left), (0, 0)), constant_values=np.nan))
        return Demonstrations(
            indices=np.array(indices),
            locations=np.stack(locations),
            entropies=np.stack(entropies),
            epe=np.stack(maps) if maps else None,
            manifest=manifest,
        )
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise ArtifactError(
            f"the Minari data set {dataset_id} gives no demonstrations ({error}); take one that exchange_demos.py "
            "exported, `minari list local` lists all there are."
        ) from error


def _check_minari() -> None:
    for package in ("minari", "h5py"):
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"the package {package} is not installed: {pip_extra('minari')}, with Python 3.11 or newer."
            )


def _stopping(demonstrations: Demonstrations) -> dict[str, Any]:
    """Returns the environment's arguments that concern stops."""
    if not demonstrations.stops:
        return {}
    return {"stop": True, "glimpse_cost": demonstrations.manifest.get("glimpse_cost", 0.0)}


def _env_spec(source: DataSource, judge: Judge, observation: str, stopping: dict[str, Any]) -> EnvSpec:
    """Returns the spec that makes the environment again, on any machine."""
    env_ids = {dataset: env_id for env_id, dataset in ENV_IDS.items()} | {"cub": "GlimpseCUB-v0"}
    spec = copy.deepcopy(gym.spec(env_ids[source.name]))
    options = {name: value for name, value in source.chosen_options.items() if name != "root"}
    spec.kwargs |= {"dataset": source.name, "split": "train", "dataset_options": options}
    spec.kwargs |= {"scales": judge.card.scales, "observation": observation}
    spec.kwargs |= stopping
    spec.kwargs |= {"zooms": list(source.geometry.zooms)} if len(source.geometry.zooms) > 1 else {}
    return spec


def _played(
    demonstrations: Demonstrations, rows: np.ndarray, source: DataSource, judge: Judge, observation: str
) -> Iterator[Any]:
    """Yields the episodes of the demonstrations ``rows`` as buffers of Minari."""
    from minari.data_collector import EpisodeBuffer

    indices, steps = demonstrations.indices[rows], demonstrations.locations.shape[1]
    lengths, stopping = demonstrations.lengths[rows], _stopping(demonstrations)
    stops = np.arange(steps) >= lengths[:, None]
    locations = np.where(stops, len(judge.grid), demonstrations.locations[rows])
    taken = np.minimum(lengths + 1, steps)  # actions, the one that stops among them
    batch = EpisodeBatch(source.load("train"), judge, len(rows), observation=observation, **stopping)
    first, info = batch.begin(indices)
    observations, rewards = [first], np.zeros(locations.shape)
    for t in range(int(taken.max())):
        transition = batch.step(locations[:, t])
        observations.append(transition.observations)
        rewards[:, t] = transition.rewards
    for b, row in enumerate(rows):
        ends = np.arange(taken[b]) == taken[b] - 1
        # entropies as they were recorded: played in other batches, their last digits could be others
        entropies = np.append(info["entropy"][b].astype(np.float32), demonstrations.entropies[row, : taken[b]])
        infos = {"index": np.full(taken[b] + 1, indices[b]), "entropy": entropies}
        if demonstrations.epe is not None:
            maps = demonstrations.epe[row, : taken[b]]
            infos["epe"] = np.concatenate([maps, np.full_like(maps[:1], np.nan)])
        yield EpisodeBuffer(
            options={"index": int(indices[b])},
            observations=_stacked([take(batched, b) for batched in observations[: taken[b] + 1]]),
            actions=locations[b, : taken[b]],
            rewards=rewards[b, : taken[b]],
            terminations=ends,
            truncations=np.zeros_like(ends),
            infos=infos,
        )


def _stacked(observations: list[Observation]) -> Observation:
    """Returns observations of one episode with a leading time axis."""
    if isinstance(observations[0], dict):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
