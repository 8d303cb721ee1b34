"""Checks of arguments that come from outside; errors name the argument and its value."""

import math
import operator
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

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


def real_number(name: str, value: Any, low: float, high: float | None = None) -> float:
    """Returns ``value`` of the argument ``name`` as a float.

    Raises:
        ConfigurationError: unless it is a finite number in ``low``..``high``; booleans are none.
    """
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or value < low or (high is not None and value > high):
        allowed = f"a finite number of at least {low:g}" if high is None else f"a number in {low:g}..{high:g}"
        raise ConfigurationError(f"{name}={value!r} must be {allowed}.")
    return float(value)


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


def requested_indices(options: Any, batch: int, num_images: int) -> np.ndarray | None:
    """Returns the images that ``options["index"]`` of a reset asks for, (batch,) int64, or None without options.

    Raises:
        ConfigurationError: if an index is not in 0..``num_images`` - 1, of the wrong shape or type, or there is another
            option.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"options={options!r} of a reset must be a dict, like {{'index': 3}}.")
    unknown = [key for key in options if key != "index"]
    if unknown:
        raise ConfigurationError(f"reset option {unknown[0]!r} is unknown; there is only 'index'.")
    if not options:
        return None
    value, last = options["index"], num_images - 1
    try:
        indices = np.broadcast_to(np.asarray(value), (batch,))
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"index={value!r} must be one integer or {batch} of them.") from error
    if indices.dtype.kind not in "iu" or (indices < 0).any() or (indices > last).any():
        raise ConfigurationError(f"index={value!r} must be an integer in 0..{last}, the images of this split.")
    return indices.astype(np.int64)


def conforms(value: Any, hint: Any) -> bool:
    """Returns whether a JSON value is of the annotated type: a class, Any, Literal, or a list or dict of these.

    A whole number is a float too, a boolean is no number.
    """
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind is Literal:
        return value in inner
    if kind is list:
        return isinstance(value, list) and all(conforms(one, inner[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(
            conforms(key, inner[0]) and conforms(one, inner[1]) for key, one in value.items()
        )
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)
