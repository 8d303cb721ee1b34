"""Spaces, classes and settings of agents as JSON values, and back; nothing is imported or run to read them."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import nn, optim

from glimpse_env.errors import ArtifactError, ConfigurationError

SCALARS = (bool, int, float, str, type(None))


def to_json(value: Any) -> Any:
    """Returns settings as JSON values: numbers, text, lists and mappings of them, and classes of modules and
    optimisers, by their place.

    Raises:
        ConfigurationError: if something is of another kind.
    """
    if isinstance(value, Mapping):
        return {str(name): to_json(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in SCALARS:
        return value
    if isinstance(value, type):
        place = {"class": f"{value.__module__}.{value.__qualname__}"}
        if _class_at(place["class"]) is value:
            return place
    raise ConfigurationError(
        f"an agent's setting {value!r} cannot be kept as JSON; take numbers, text, or a class of torch or of a module."
    )


def from_json(value: Any) -> Any:
    """Returns the settings that :func:`to_json` wrote; sequences are lists.

    Raises:
        ArtifactError: if a class is none of a module or optimiser that has been imported.
    """
    if isinstance(value, list):
        return [from_json(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"class"}:
        found = _class_at(value["class"])
        if found is None:
            raise ArtifactError(f"{value['class']!r} is no class of a network or optimiser that is imported here.")
        return found
    return {name: from_json(entry) for name, entry in value.items()}


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Returns a space as JSON values.

    Raises:
        ConfigurationError: if it is of a kind that no environment of this project has.
    """
    if isinstance(space, spaces.Dict):
        return {"dict": {name: space_to_json(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = (bound.flat[0] if (bound == bound.flat[0]).all() else bound for bound in (space.low, space.high))
        low, high = (bound.tolist() for bound in bounds)
        return {"box": {"low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}}
    if isinstance(space, spaces.Discrete):
        return {"discrete": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"multi_discrete": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary) and isinstance(space.n, int):
        return {"multi_binary": space.n}
    raise ConfigurationError(f"the space {space} cannot be kept as JSON.")


def space_from_json(content: dict[str, Any]) -> spaces.Space:
    """Returns the space that :func:`space_to_json` wrote; raises KeyError, TypeError or ValueError for others."""
    if "dict" in content:
        return spaces.Dict({name: space_from_json(part) for name, part in content["dict"].items()})
    if "box" in content:
        shape, dtype = (content["box"][name] for name in ("shape", "dtype"))
        low, high = (np.broadcast_to(np.array(content["box"][name], dtype), shape) for name in ("low", "high"))
        return spaces.Box(low, high, shape, np.dtype(dtype).type)
    if "discrete" in content:
        return spaces.Discrete(content["discrete"], start=content["start"])
    if "multi_discrete" in content:
        return spaces.MultiDiscrete(content["multi_discrete"])
    return spaces.MultiBinary(content["multi_binary"])


def _class_at(place: Any) -> type | None:
    """Returns the class of modules or optimisers at a place, ``"module.name"``; None where none is imported."""
    module, _, name = str(place).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, (nn.Module, optim.Optimizer)) else None
