"""How ``gymnasium.make`` builds the environments: from JSON-able arguments to data set and judge."""

import inspect
import json
import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from glimpse_env.checks import one_of, path_or_none, whole_number
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource, GlimpseDataset, Split
from glimpse_env.datasets.registry import SOURCES, make_source
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import Task
from glimpse_env.errors import (
    ArtifactError,
    ConfigurationError,
    DatasetFallbackWarning,
    DatasetNotFoundError,
    UnknownArgumentError,
)
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.presets import CLASSIFY_IDS, DEFAULT_SCALES, ENV_IDS
from glimpse_env.vector_env import GlimpseVectorEnv

DatasetName = Literal["auto", "cub", "cub-full", "celeba-hq", "birds", "mnist", "digits", "folder"]


def make_env(
    *,
    dataset: DatasetName,
    split: Split = "train",
    root: str | None = None,
    dataset_options: dict[str, Any] | None = None,
    judge: str | None = None,
    task: Task = "look",
    scales: int = 1,
    **options: Any,
) -> GlimpseEnv:
    """What ``gymnasium.make`` calls.

    Args:
        dataset: its name; ``"auto"`` is CUB where it is found and the drawn birds where not.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: folder with the data set; default ``GLIMPSE_DATA``.
        dataset_options: further keyword arguments of the data set's class.
        judge: path of the judge's weights; default the one that fits the data set, see :func:`find_judge`.
        task: ``"look"``, or ``"classify"`` without a judge.
        scales: concentric windows of a glimpse, see :class:`GlimpseEnv`.
        options: keyword arguments of :class:`GlimpseEnv`.

    Raises:
        ConfigurationError: if an argument is out of range.
        DatasetNotFoundError: if the data set is missing.
        DatasetFormatError: if a file of it is damaged.
        JudgeNotFoundError: if no judge fits; the message says which command makes one.
        ArtifactError: if the judge given cannot be read or belongs to other data.
    """
    _check_known(options, GlimpseEnv)
    parts = _parts(dataset, split, root, dataset_options, judge, task, scales)
    return GlimpseEnv(*parts, task=task, **options)


def make_flat_env(**arguments: Any) -> GlimpseEnv:
    """What ``gymnasium.make`` calls for ``GlimpseFolder-v0`` and ``GlimpseCelebAHQ-v0``.

    Args:
        arguments: of the data set's class and of :func:`make_env`, side by side; a folder needs ``root``.
    """
    return make_env(**_with_dataset_options(arguments))


def make_vector_env(
    num_envs: int,
    *,
    dataset: DatasetName,
    split: Split = "train",
    root: str | None = None,
    dataset_options: dict[str, Any] | None = None,
    judge: str | None = None,
    task: Task = "look",
    scales: int = 1,
    max_episode_steps: int | None = None,
    **options: Any,
) -> GlimpseVectorEnv:
    """What ``gymnasium.make_vec`` calls; arguments and errors as in :func:`make_env`.

    Args:
        max_episode_steps: an upper limit that episodes, always of T steps (to classify T + 1), must keep anyway.
    """
    _check_known(options, GlimpseVectorEnv)
    num_envs = whole_number("num_envs", num_envs, 1)
    parts = _parts(dataset, split, root, dataset_options, judge, task, scales)
    env = GlimpseVectorEnv(*parts, num_envs=num_envs, task=task, **options)
    steps = env.batch.num_steps
    if max_episode_steps is not None and whole_number("max_episode_steps", max_episode_steps, 1) < steps:
        raise ConfigurationError(f"max_episode_steps={max_episode_steps} is below {steps}, the steps of an episode.")
    return env


def make_flat_vector_env(num_envs: int, **arguments: Any) -> GlimpseVectorEnv:
    """What ``gymnasium.make_vec`` calls where ``make`` calls :func:`make_flat_env`; arguments as there."""
    return make_vector_env(num_envs, **_with_dataset_options(arguments))


# gymnasium.make reads the render modes off what it calls.
make_env.metadata = make_flat_env.metadata = GlimpseEnv.metadata  # type: ignore[attr-defined]


_DATASETS = ENV_IDS | CLASSIFY_IDS


def source_of(env: str, root: str | None = None, dataset_options: str = "{}", scales: int | None = None) -> DataSource:
    """The data set that the flags of a script name.

    Args:
        env: an environment id, of either task, or the name of a data set.
        root: see :func:`make_env`.
        dataset_options: as JSON.
        scales: concentric windows of a glimpse; None for the environment's own.

    Raises:
        ConfigurationError: if there is no such id, the options are no JSON object, the data set does not take one, or
            scales are out of range.
        DatasetNotFoundError: if its files are missing.
    """
    if env not in (*_DATASETS, *SOURCES):
        raise ConfigurationError(f"--env {env} must be one of {', '.join(ENV_IDS)}.")
    try:
        options = json.loads(dataset_options)
    except ValueError as error:
        raise ConfigurationError(
            f"--dataset-options {dataset_options!r} is no JSON ({error}); write it like '{{\"folds\": 3}}'."
        ) from error
    name = _DATASETS.get(env, env)
    return find_source(
        cast(DatasetName, name), root, options, DEFAULT_SCALES.get(name, 1) if scales is None else scales
    )


def find_source(
    dataset: DatasetName, root: str | None = None, options: dict[str, Any] | None = None, scales: int = 1
) -> DataSource:
    """The data set called ``dataset``, its glimpses of ``scales`` concentric windows.

    Raises:
        ConfigurationError: if there is none of that name, it does not take an option, or scales are out of range.
        DatasetNotFoundError: if its files are missing.

    Warns:
        DatasetFallbackWarning: with ``"auto"``, where no CUB is found and the drawn birds take its place.
    """
    arguments = ({} if root is None else {"root": root}) | _checked(options)
    one_of("dataset", dataset, ("auto", *SOURCES))
    if dataset != "auto":
        return make_source(dataset, **arguments).with_scales(scales)
    try:
        return make_source("cub", **arguments).with_scales(scales)
    except DatasetNotFoundError as error:
        if options:
            raise  # they are CUB's options, the birds would not obey them
        warnings.warn(
            f"{error} The drawn birds (data set 'birds') take the place of CUB-200-2011 in this environment; "
            "pass dataset='cub' to make its absence an error.",
            DatasetFallbackWarning,
            stacklevel=2,
        )
        return make_source("birds").with_scales(scales)


def _parts(
    dataset: DatasetName,
    split: Split,
    root: str | None,
    dataset_options: dict[str, Any] | None,
    judge: str | None,
    task: Task,
    scales: int,
) -> tuple[GlimpseDataset, Judge | None]:
    one_of("split", split, PUBLIC_SPLITS)
    one_of("task", task, get_args(Task))
    path = path_or_none("judge", judge)
    source = find_source(dataset, root, dataset_options, scales)
    if task == "classify":
        if path is not None:
            raise ConfigurationError(f"judge={judge!r} has nothing to judge with task='classify'; leave it out.")
        return source.load(split), None
    if path is None:
        found = find_judge(source)  # before the images are made, which takes longer
        return source.load(split), found
    chosen = Judge.load(path)
    if (chosen.card.fingerprint, chosen.card.scales) != (source.fingerprint, scales):
        raise ArtifactError(
            f"the judge at {path} was trained on {chosen.card.dataset} {chosen.card.fingerprint} with "
            f"scales={chosen.card.scales}, not on {source.name} {source.fingerprint} with scales={scales}."
        )
    return source.load(split), chosen


def _with_dataset_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the data set's class among ``arguments``, all but ``root``, moved into ``dataset_options``."""
    one_of("dataset", arguments.get("dataset"), SOURCES)
    known = inspect.signature(SOURCES[arguments["dataset"]]).parameters
    own = [name for name in known if name != "root" and name in arguments]
    others = {name: value for name, value in arguments.items() if name not in own}
    options = _checked(arguments.get("dataset_options")) | {name: arguments[name] for name in own}
    return others | {"dataset_options": options}


def _checked(options: Any) -> dict[str, Any]:
    """``dataset_options`` as a dict of its own."""
    if options is None or isinstance(options, Mapping):
        return dict(options or {})
    raise ConfigurationError(f"dataset_options={options!r} must be a dict, like {{'folds': 3}}.")


def _check_known(options: Mapping[str, Any], kind: type) -> None:
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UnknownArgumentError(
            f"{kind.__name__} got an unexpected keyword argument {unknown[0]!r}; beside dataset, split, root, "
            f"dataset_options, judge and scales there are {', '.join(known)}."
        )
