"""The data sets by name."""

from typing import Any

from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.birds import Birds
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.digits import ClutteredMNIST, Digits
from glimpse_env.errors import ConfigurationError

SOURCES: dict[str, type[DataSource]] = {source.name: source for source in (CUB200, Birds, ClutteredMNIST, Digits)}


def make_source(name: str, **options: Any) -> DataSource:
    """The data set called ``name``: ``cub``, ``birds``, ``mnist`` or ``digits``.

    Raises:
        ConfigurationError: if there is no such data set or it does not take an option.
        DatasetNotFoundError: if its files are missing.
    """
    if name not in SOURCES:
        raise ConfigurationError(f"dataset={name!r} must be one of {', '.join(SOURCES)}.")
    try:
        return SOURCES[name](**options)
    except TypeError as error:
        raise ConfigurationError(
            f"data set {name!r}: {error}; see the docstring of {SOURCES[name].__name__}."
        ) from error
