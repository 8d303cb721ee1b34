"""The data sets by name."""

from typing import Any

from glimpse_env.checks import one_of
from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.datasets.celeba import CelebAHQ
from glimpse_env.datasets.cub import CUB200, CUBFull
from glimpse_env.datasets.digits import ClutteredMNIST, Digits
from glimpse_env.datasets.folder import ImageFolder
from glimpse_env.errors import ConfigurationError

SOURCES: dict[str, type[DataSource]] = {
    source.name: source for source in (CUB200, CUBFull, CelebAHQ, Birds, ClutteredMNIST, Digits, ImageFolder)
}


def make_source(name: str, **options: Any) -> DataSource:
    """The data set called ``name``: ``cub``, ``cub-full``, ``celeba-hq``, ``birds``, ``mnist``, ``digits`` or
    ``folder``.

    Raises:
        ConfigurationError: if there is no such data set or it does not take an option.
        DatasetNotFoundError: if its files are missing.
    """
    one_of("dataset", name, SOURCES)
    try:
        return SOURCES[name](**options)
    except TypeError as error:
        raise ConfigurationError(
            f"data set {name!r}: {error}; see the docstring of {SOURCES[name].__name__}."
        ) from error
