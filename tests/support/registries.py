"""Undoes what a test registers, as other tests walk the registries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

import glimpse_env.presets
import oracles.presets
from agents.registry import ALGORITHMS, ARCHITECTURES
from glimpse_env.datasets.registry import DATASETS
from glimpse_env.encoding.registry import ENCODERS
from glimpse_env.presets import ANYTIME_IDS, CLASSIFY_IDS, ENV_IDS
from glimpse_env.registry import Registry
from glimpse_env.sensing.observations import OBSERVATIONS
from oracles.boed.criteria import CRITERIA
from oracles.registry import POLICIES

REGISTRIES: tuple[Registry[Any], ...] = (
    ENV_IDS,
    CLASSIFY_IDS,
    ANYTIME_IDS,
    DATASETS,
    OBSERVATIONS,
    ENCODERS,
    CRITERIA,
    POLICIES,
    ALGORITHMS,
    ARCHITECTURES,
)


@contextmanager
def registries_restored() -> Iterator[None]:
    """Forgets in the end all that other packages have registered in the block."""
    tables: list[dict[str, Any]] = [glimpse_env.presets.PRESETS, oracles.presets.PRESETS, gym.registry]
    tables += [registry._entries for registry in REGISTRIES]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)
