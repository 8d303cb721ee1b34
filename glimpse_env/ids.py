"""Registers environment ids with Gymnasium: the package's own, and those of other packages' data sets."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import (
    ANYTIME_IDS,
    CLASSIFY_IDS,
    ENV_IDS,
    PRESETS,
    DatasetPreset,
    anytime_id,
    anytime_options,
    classify_id,
)

if TYPE_CHECKING:  # the class would bring all that a data set needs
    from glimpse_env.datasets.base import DataSource


def register_own_ids() -> None:
    """Registers the ids of the package's own data sets."""
    for name, preset in PRESETS.items():
        _register_ids(name, preset)


def register_dataset(
    source: "type[DataSource] | str",
    *,
    env_id: str,
    scales: int = 1,
    flat: bool = False,
    name: str | None = None,
    zooms: Sequence[int] = DatasetPreset.zooms,
    glimpse_cost: float = DatasetPreset.glimpse_cost,
) -> None:
    """Registers a data set and its environments: ``env_id``, its ``Classify`` twin without a judge, and its ``Anytime``
    twin in which agents zoom and stop.

    From then on the ids work in ``gymnasium.make`` and ``make_vec`` and as ``--env`` of every script, where
    ``--env your_package:YourId-v0`` imports ``your_package`` first. Call it where your package is imported, so that
    worker processes register the data set too.

    Args:
        source: a class made from :class:`glimpse_env.datasets.base.DataSource`, or ``"module:Class"``.
        env_id: with its version, like ``"Shapes-v0"``.
        scales: concentric windows of a glimpse by default.
        flat: whether the environments take the arguments of the class as their own, beside ``dataset_options``.
        name: of the data set, where ``source`` is a text that is to be imported only when it is needed; default the
            class's ``name``.
        zooms, glimpse_cost: of the ``Anytime`` environment; see :class:`glimpse_env.env.GlimpseEnv`.

    Raises:
        ConfigurationError: if the name or the id is taken, or the id has no version.
    """
    from glimpse_env.datasets.registry import DATASETS  # only here: it takes longer to import than Gymnasium

    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        if not attribute:
            raise ConfigurationError(f"source={source!r} must be a class, or its place like 'package.module:Class'.")
        name = name or getattr(importlib.import_module(module), attribute).name
    else:
        module, attribute, name = source.__module__, source.__qualname__, source.name
    classify = classify_id(env_id)  # refuses an id without a version
    if env_id in gym.registry and env_id not in ENV_IDS:
        raise ConfigurationError(f"env_id={env_id!r} is another package's; choose another one.")
    place = f"{module}:{attribute}"
    preset = DatasetPreset(
        place, env_id, scales, flat, module=module, zooms=tuple(zooms), glimpse_cost=float(glimpse_cost)
    )
    if PRESETS.get(name, preset) != preset:
        raise ConfigurationError(f"dataset={name!r} is taken; choose another name.")
    if name not in PRESETS:
        ENV_IDS.add(env_id, name)
        CLASSIFY_IDS.add(classify, name)
        ANYTIME_IDS.add(anytime_id(env_id), name)
        PRESETS[name] = preset
        DATASETS.add(name, source)
        _register_ids(name, preset)


def _register_ids(name: str, preset: DatasetPreset) -> None:
    """Registers the ids of one data set with Gymnasium."""
    if preset.env_id is None:
        return
    kwargs: dict[str, Any] = {"dataset": f"{preset.module}:{name}" if preset.module else name}
    scales = {"scales": preset.scales} if preset.scales != 1 else {}
    anytime = anytime_id(preset.env_id)
    kinds: dict[str, dict[str, Any]] = {
        preset.env_id: scales,
        classify_id(preset.env_id): {**scales, "task": "classify"},
        anytime: anytime_options(anytime),
    }
    for env_id, of_kind in kinds.items():
        gym.register(
            id=env_id,
            entry_point="glimpse_env.registration:make_env",
            vector_entry_point="glimpse_env.registration:make_vector_env",
            kwargs=kwargs | of_kind,
        )
