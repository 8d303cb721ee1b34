"""How ``gymnasium.make`` builds the environments: from JSON-able arguments to data set and judge."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from glimpse_env.checks import one_of, path_or_none, whole_number
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource, GlimpseDataset, Split
from glimpse_env.datasets.registry import DATASETS, make_source
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.encoding.registry import default_encoder
from glimpse_env.env import GlimpseEnv
from glimpse_env.episodes import EpisodeBatch, Task
from glimpse_env.errors import ArtifactError, ConfigurationError, UnknownArgumentError
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.presets import PRESETS, anytime_options, dataset_of
from glimpse_env.registry import import_name
from glimpse_env.vector_env import GlimpseVectorEnv


def make_env(**arguments: Any) -> GlimpseEnv:
    """Makes an environment; ``gymnasium.make`` calls this.

    Args:
        dataset: name of the data set, see :func:`make_source`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: folder with the data set; default ``GLIMPSE_DATA``.
        dataset_options: further keyword arguments of the data set's class.
        judge: path of the judge's weights; default the one that fits the data set, see :func:`find_judge`.
        task: ``"look"``, or ``"classify"`` without a judge.
        scales: concentric windows of a glimpse.
        zooms: how many times as wide as a glimpse its window can be, ascending from 1; only 1 for no zoom.
        encoder: name of the frozen encoder whose features ``observation="features"`` shows; default the judge's, else
            that of the data set's preset.
        options: keyword arguments of :class:`GlimpseEnv`; and, where the data set's preset is flat, those of the data
            set's class.

    Raises:
        ConfigurationError: if an argument is out of range.
        DatasetNotFoundError: if the data set is missing.
        DatasetFormatError: if a file of it is damaged.
        JudgeNotFoundError: if no judge fits; the message says which command makes one.
        ArtifactError: if the judge given cannot be read or belongs to other data.
    """
    dataset, judge, options = environment_parts(GlimpseEnv, **arguments)
    return GlimpseEnv(dataset, judge, **options)


def make_vector_env(num_envs: int, *, max_episode_steps: int | None = None, **arguments: Any) -> GlimpseVectorEnv:
    """What ``gymnasium.make_vec`` calls; arguments and errors as in :func:`make_env`.

    Args:
        max_episode_steps: an upper limit that episodes, of at most T steps (to classify T + 1), must keep anyway.
    """
    num_envs = whole_number("num_envs", num_envs, 1)
    dataset, judge, options = environment_parts(GlimpseVectorEnv, **arguments)
    env = GlimpseVectorEnv(dataset, judge, num_envs=num_envs, **options)
    steps = env.batch.num_steps
    if max_episode_steps is not None and whole_number("max_episode_steps", max_episode_steps, 1) < steps:
        raise ConfigurationError(f"max_episode_steps={max_episode_steps} is below {steps}, the steps of an episode.")
    return env


# gymnasium.make reads the render modes off what it calls.
make_env.metadata = GlimpseEnv.metadata  # type: ignore[attr-defined]
# Specs that version 0.1 stored, as in Minari data sets, have these entry points.
make_flat_env, make_flat_vector_env = make_env, make_vector_env


def source_of(
    env: str,
    root: str | None = None,
    dataset_options: str = "{}",
    scales: int | None = None,
    zooms: Sequence[int] | None = None,
) -> DataSource:
    """Makes the data set that the flags of a script name.

    Args:
        env: see :func:`glimpse_env.presets.dataset_of`.
        root: see :func:`make_env`.
        dataset_options: as JSON.
        scales: concentric windows of a glimpse; None for the environment's own, 1 with zooms.
        zooms: how many times as wide as a glimpse its window can be; None for the environment's own.

    Raises:
        ConfigurationError: if there is no such id, the options are no JSON object, the data set does not take one, or
            scales or zooms are out of range.
        DatasetNotFoundError: if its files are missing.
    """
    dataset = dataset_of(env)
    try:
        options = json.loads(dataset_options)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"--dataset-options {dataset_options!r} is no JSON ({error}); write it like '{{\"folds\": 3}}'."
        ) from error
    source = make_source(dataset, **{"root": root, **_checked(options)})
    zooms = anytime_options(env).get("zooms", (1,)) if zooms is None else zooms
    own = PRESETS[dataset].scales if len(zooms) == 1 else 1
    return source.with_scales(own if scales is None else scales).with_zooms(zooms)


def environment_parts(
    kind: type,
    *,
    dataset: str,
    split: Split = "train",
    root: str | None = None,
    dataset_options: dict[str, Any] | None = None,
    judge: str | None = None,
    task: Task = "look",
    scales: int = 1,
    zooms: Sequence[int] = (1,),
    encoder: str | None = None,
    **options: Any,
) -> tuple[GlimpseDataset, Judge | None, dict[str, Any]]:
    """Returns the split, the judge and the further keyword arguments of the environment's class ``kind``.

    Arguments and errors are those of :func:`make_env`.
    """
    of_dataset, options = _split_options(dataset, dataset_options, options, kind)
    one_of("split", split, PUBLIC_SPLITS)
    one_of("task", task, get_args(Task))
    path = path_or_none("judge", judge)
    source = make_source(dataset, **{"root": root, **of_dataset}).with_scales(scales).with_zooms(zooms)
    options["task"] = task
    showing = options.get("observation") == "features"
    if encoder is not None and not showing:
        raise ConfigurationError(f"encoder={encoder!r} is of observation='features' only; take that, or leave it out.")
    if task == "classify":
        if path is not None:
            raise ConfigurationError(f"judge={judge!r} has nothing to judge with task='classify'; leave it out.")
        given = None
    elif path is None:
        given = find_judge(source)  # before the images are made, which takes longer
    else:
        given = _judge_at(path, source)
    if showing and "features" not in options and (encoder is not None or given is None or given.frozen is None):
        options["features"] = glimpse_features(source, encoder or default_encoder(source.name))
    return source.load(split), given, options


def _judge_at(path: str, source: DataSource) -> Judge:
    """Returns the judge at a path; raises an ArtifactError where it is of other data."""
    given = Judge.load(path)
    try:
        given.card.check_fits(source)
    except ArtifactError as error:
        raise ArtifactError(f"the judge at {path} does not fit: {error}") from error
    return given


def _checked(options: Any) -> dict[str, Any]:
    """Returns a copy of ``dataset_options`` as a dict.

    Raises:
        ConfigurationError: if they are none.
    """
    if options is None or isinstance(options, Mapping):
        return dict(options or {})
    raise ConfigurationError(f"dataset_options={options!r} must be a dict, like {{'folds': 3}}.")


def _split_options(
    dataset: str, dataset_options: Any, options: dict[str, Any], kind: type
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of the data set's class, and those of the environment's class ``kind``."""
    of_dataset = _checked(dataset_options)
    name = import_name("dataset", str(dataset))
    if name in PRESETS and PRESETS[name].flat:
        flat = [key for key in inspect.signature(DATASETS[name]).parameters if key in options]
        of_dataset |= {key: options[key] for key in flat}
        options = {key: value for key, value in options.items() if key not in flat}
    parameters = [p for taker in (EpisodeBatch, kind) for p in inspect.signature(taker).parameters.values()]
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UnknownArgumentError(
            f"{kind.__name__} got an unexpected keyword argument {unknown[0]!r}; beside dataset, split, root, "
            f"dataset_options, judge, scales and zooms there are {', '.join(known)}."
        )
    return of_dataset, options
