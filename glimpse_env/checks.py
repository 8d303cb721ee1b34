"""Checks of arguments that come from outside; errors name the argument and its value."""

import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from glimpse_env.errors import ArtifactError, ConfigurationError


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
    try:
        number = float(value) if known else math.nan
    except OverflowError:  # a whole number beyond all floats
        number = math.nan
    if not math.isfinite(number) or number < low or (high is not None and number > high):
        allowed = f"a finite number of at least {low:g}" if high is None else f"a number in {low:g}..{high:g}"
        raise ConfigurationError(f"{name}={repr(value)[:80]} must be {allowed}.")
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


def check_settings(settings: Any, **ranges: tuple[float, float | None]) -> None:
    """Checks that the fields of a dataclass are of their annotated types, and numbers finite and in their ``ranges``,
    (low, high), where None is no bound.

    Raises:
        ConfigurationError: naming the first that is not.
    """
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        value = value.item() if isinstance(value, np.generic) else value
        if not conforms(value, hint):
            raise ConfigurationError(f"{name}={repr(value)[:80]} must be of type {getattr(hint, '__name__', hint)}.")
        if isinstance(value, int | float) and not isinstance(value, bool):
            real_number(name, value, *ranges.get(name, (-math.inf, None)))


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
    """Returns whether a JSON value is of the annotated type: a class, Any, Literal, or a union, list or dict of these.

    A whole number is a float too, a boolean is no number, and a text is a path.
    """
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind is Literal:
        return value in inner
    if kind in (UnionType, Union):
        return any(conforms(value, one) for one in inner)
    if kind in (list, tuple):
        return isinstance(value, list | kind) and all(conforms(one, inner[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(
            conforms(key, inner[0]) and conforms(one, inner[1]) for key, one in value.items()
        )
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, str | Path) if hint is Path else isinstance(value, hint)


def content_of(kind: Any, content: Any, *apart: str) -> dict[str, Any]:
    """Returns the fields of the dataclass ``kind`` that a JSON file holds, but for those that are ``apart``.

    Raises:
        ArtifactError: if one is missing, of another type or none of the class's.
    """
    if not isinstance(content, dict):
        raise ArtifactError(f"{kind.__name__} is {repr(content)[:80]}")
    hints = get_type_hints(kind)
    needed = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}
    unknown, missing = content.keys() - hints.keys(), needed - {*apart} - content.keys()
    if unknown or missing:
        raise ArtifactError(f"{kind.__name__} {'has' if unknown else 'lacks'} {', '.join(sorted(unknown or missing))}")
    for name, value in content.items():
        if not conforms(value, hints[name]):
            raise ArtifactError(f"{name} is {repr(value)[:80]}")
    return content
