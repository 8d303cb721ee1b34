"""The data sets by name, ours and those of other packages."""

import inspect
import warnings
from typing import Any

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError, DatasetFallbackWarning, DatasetNotFoundError
from glimpse_env.presets import PRESETS
from glimpse_env.registry import Registry

DATASETS: Registry[type[DataSource]] = Registry(
    "dataset", {name: preset.source for name, preset in PRESETS.items() if preset.source}
)
"""Classes of the data sets by name."""


def make_source(name: str, /, **options: Any) -> DataSource:
    """Makes the data set called ``name``.

    Args:
        name: one of :data:`DATASETS`, or ``"auto"`` for CUB-200-2011 where it is there and else, without options, the
            drawn birds; ``"module:name"`` imports the module first, so that it can register the name.
        options: keyword arguments of the data set's class; a ``root`` of None is left out.

    Raises:
        ConfigurationError: if there is no such data set or it does not take an option.
        DatasetNotFoundError: if its files are missing.

    Warns:
        DatasetFallbackWarning: where ``"auto"`` takes the drawn birds.
    """
    if options.get("root", ...) is None:
        del options["root"]
    if isinstance(name, str) and name in PRESETS and PRESETS[name].first_of:
        return _first_of(*PRESETS[name].first_of, **options)
    kind = DATASETS[name]
    _check_options(name, kind, options)
    try:
        return kind(**options)
    except TypeError as error:
        raise ConfigurationError(
            f"data set {name!r}: {error}; see the docstrings of {kind.__name__} and DataSource."
        ) from error


def _check_options(name: str, kind: type[DataSource], options: dict[str, Any]) -> None:
    """Raises ConfigurationError if a data set's class does not know an option."""
    arguments = inspect.signature(kind).parameters.values()
    known = {one.name: one for one in arguments if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    unknown = [option for option in options if option not in known]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in arguments):
        raise ConfigurationError(
            f"data set {name!r} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known) or 'none'}."
        )


def _first_of(name: str, /, *others: str, **options: Any) -> DataSource:
    """The data set ``name``, or where its files are missing the first one of ``others`` whose files are there."""
    try:
        return make_source(name, **options)
    except DatasetNotFoundError as error:
        if not others:
            raise
        if "root" in options:
            raise DatasetNotFoundError(
                f"root={options['root']!r} holds no data set {name!r}: {error} Or leave root out, and {others[0]!r} "
                "takes its place."
            ) from error
        if options:
            raise  # the others would not obey options that were meant for this one
        warnings.warn(
            f"{error} The data set {others[0]!r} takes its place in this environment; "
            f"pass dataset={name!r} to make its absence an error.",
            DatasetFallbackWarning,
            stacklevel=3,
        )
        return _first_of(*others)
