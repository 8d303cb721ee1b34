"""Memory for large arrays that are handed out at every step, used again once nobody holds them."""

import sys
from typing import Any

import numpy as np

_CAPACITY = 6
"""Arrays of one shape that are kept: what is shown now, what was before, what was at the end, and some to spare."""


def _references(arrays: list[np.ndarray]) -> list[int]:
    """The reference count of each array as this function sees it."""
    return [sys.getrefcount(array) for array in arrays]


_UNHELD = _references([np.empty(0)])[0]
"""That count of an array which only its list holds."""


class ArrayPool:
    """Hands out arrays for keeps: one is used again when neither it nor a view of it is referenced any more.

    Fresh pages cost the kernel more time than filling them costs us; this way they are asked for once.
    """

    def __init__(self) -> None:
        self._arrays: dict[Any, list[np.ndarray]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts empty."""
        return type(self), ()

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array whose content is arbitrary."""
        arrays = self._arrays.setdefault((shape, dtype), [])
        for place, count in enumerate(_references(arrays)):
            if count == _UNHELD:
                return arrays[place]
        made = np.empty(shape, dtype)
        arrays.append(made)
        if len(arrays) > _CAPACITY:
            del arrays[0]  # whoever holds it keeps it
        return made
