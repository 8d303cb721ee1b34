"""How ``gymnasium.make`` builds the environments: from JSON-able arguments to data set and judge."""

import warnings
from typing import Any, Literal

from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource, Geometry, GlimpseDataset, Split
from glimpse_env.datasets.sources import make_source
from glimpse_env.env import GlimpseEnv
from glimpse_env.errors import ArtifactError, ConfigurationError, DatasetFallbackWarning, DatasetNotFoundError
from glimpse_env.judge import Judge, find_judge
from glimpse_env.vector_env import GlimpseVectorEnv

DatasetName = Literal["auto", "cub", "birds", "mnist", "digits"]


def make_env(
    *,
    dataset: DatasetName,
    split: Split = "train",
    root: str | None = None,
    dataset_options: dict[str, Any] | None = None,
    judge: str | None = None,
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
        scales, options: keyword arguments of :class:`GlimpseEnv`.

    Raises:
        ConfigurationError: if an argument is out of range.
        DatasetNotFoundError: if the data set is missing.
        DatasetFormatError: if a file of it is damaged.
        JudgeNotFoundError: if no judge fits; the message says which command makes one.
        ArtifactError: if the judge given cannot be read or belongs to other data.
    """
    return GlimpseEnv(*_parts(dataset, split, root, dataset_options, judge, scales), scales=scales, **options)


def make_vector_env(
    num_envs: int,
    *,
    dataset: DatasetName,
    split: Split = "train",
    root: str | None = None,
    dataset_options: dict[str, Any] | None = None,
    judge: str | None = None,
    scales: int = 1,
    max_episode_steps: int | None = None,
    **options: Any,
) -> GlimpseVectorEnv:
    """What ``gymnasium.make_vec`` calls; arguments and errors as in :func:`make_env`.

    Args:
        max_episode_steps: an upper limit that episodes, always of T steps, must keep anyway.
    """
    parts = _parts(dataset, split, root, dataset_options, judge, scales)
    steps = parts[2].num_glimpses
    if max_episode_steps is not None and max_episode_steps < steps:
        raise ConfigurationError(f"max_episode_steps={max_episode_steps} is below {steps}, the glimpses of an episode.")
    return GlimpseVectorEnv(*parts, num_envs=num_envs, scales=scales, **options)


# gymnasium.make reads the render modes off what it calls.
make_env.metadata = GlimpseEnv.metadata  # type: ignore[attr-defined]


def find_source(dataset: DatasetName, root: str | None = None, options: dict[str, Any] | None = None) -> DataSource:
    """The data set called ``dataset``.

    Raises:
        ConfigurationError: if there is none of that name or it does not take an option.
        DatasetNotFoundError: if its files are missing.

    Warns:
        DatasetFallbackWarning: with ``"auto"``, where no CUB is found and the drawn birds take its place.
    """
    arguments = dict(options or {}) if root is None else {"root": root, **(options or {})}
    if dataset != "auto":
        return make_source(dataset, **arguments)
    try:
        return make_source("cub", **arguments)
    except DatasetNotFoundError as error:
        if options:
            raise  # they are CUB's options, the birds would not obey them
        warnings.warn(
            f"{error} The drawn birds (data set 'birds') take the place of CUB-200-2011 in this environment; "
            "pass dataset='cub' to make its absence an error.",
            DatasetFallbackWarning,
            stacklevel=2,
        )
        return make_source("birds")


def _parts(
    dataset: DatasetName,
    split: Split,
    root: str | None,
    dataset_options: dict[str, Any] | None,
    judge: str | None,
    scales: int,
) -> tuple[GlimpseDataset, Judge, Geometry]:
    if split not in PUBLIC_SPLITS:
        raise ConfigurationError(f"split={split!r} must be one of {', '.join(PUBLIC_SPLITS)}.")
    source = find_source(dataset, root, dataset_options)
    if judge is None:
        return source.load(split), find_judge(source, scales), source.geometry
    chosen = Judge.load(judge)
    if (chosen.card.fingerprint, chosen.card.scales) != (source.fingerprint, scales):
        raise ArtifactError(
            f"the judge at {judge} was trained on {chosen.card.dataset} {chosen.card.fingerprint} with "
            f"scales={chosen.card.scales}, not on {source.name} {source.fingerprint} with scales={scales}."
        )
    return source.load(split), chosen, source.geometry
