"""Checks of arguments that come from outside; errors name the argument and its value."""

import operator
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from glimpse_env.errors import ConfigurationError


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Returns ``value`` of the argument ``name`` as an int.

    Raises:
        ConfigurationError: unless it is a whole number in ``low``..``high``; booleans and floats are none.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        allowed = f"of at least {low}" if high is None else f"in {low}..{high}"
        raise ConfigurationError(f"{name}={value!r} must be a whole number {allowed}.")
    return number


def one_of(name: str, value: Any, choices: Collection[str]) -> None:
    """Checks that ``value`` of the argument ``name`` is one of the words ``choices``.

    Raises:
        ConfigurationError: if it is none.
    """
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(f"{name}={value!r} must be one of {', '.join(choices)}.")


def path_or_none(name: str, value: Any) -> str | None:
    """Returns ``value`` of the argument ``name`` as the text of a path, or None.

    Raises:
        ConfigurationError: unless it is a text that is not empty, a path or None.
    """
    if value is None or (isinstance(value, str | Path) and str(value)):
        return None if value is None else str(value)
    raise ConfigurationError(f"{name}={value!r} must be the path of a file or folder, as text.")


def flag(name: str, value: Any) -> bool:
    """Returns ``value`` of the argument ``name`` as a bool.

    Raises:
        ConfigurationError: unless it is True or False.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ConfigurationError(f"{name}={value!r} must be True or False.")


def seed_or_none(value: Any) -> int | None:
    """Returns ``value`` of the argument ``seed`` as an int, or None.

    Raises:
        ConfigurationError: unless it is None or a whole number that is not negative.
    """
    return None if value is None else whole_number("seed", value, 0)
