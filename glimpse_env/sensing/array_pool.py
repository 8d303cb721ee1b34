"""A pool of large arrays that are handed out at every step and used again once nobody holds them."""

import sys
from typing import Any

import numpy as np

_ARRAYS_PER_SHAPE = 6
"""Arrays of one shape that are kept: present, previous and final observations, and some to spare."""


def _references(arrays: list[np.ndarray]) -> list[int]:
    """Returns the reference count of each array as this function sees it."""
    return [sys.getrefcount(array) for array in arrays]


_UNHELD = _references([np.empty(0)])[0]
"""Reference count of an array that only its list holds."""


class ArrayPool:
    """Hands out arrays that the caller may keep: one is used again when neither it nor a view of it is referenced.

    Asking the kernel for fresh pages takes more time than filling them; a pool asks once.
    """

    def __init__(self) -> None:
        self._arrays: dict[Any, list[np.ndarray]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts empty."""
        return type(self), ()

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Returns an array whose content is arbitrary."""
        arrays = self._arrays.setdefault((shape, dtype), [])
        for place, count in enumerate(_references(arrays)):
            if count == _UNHELD:
                return arrays[place]
        made = np.empty(shape, dtype)
        arrays.append(made)
        if len(arrays) > _ARRAYS_PER_SHAPE:
            del arrays[0]  # whoever holds it keeps it
        return made
