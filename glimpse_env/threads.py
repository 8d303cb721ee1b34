"""How many of PyTorch's threads a piece of work uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from glimpse_env.errors import ConfigurationError

VARIABLE = "GLIMPSE_THREADS"


def stepping_threads() -> int:
    """Returns the number of PyTorch's threads that a step may use: ``GLIMPSE_THREADS``, by default 1.

    Two threads gain a single process a few per cent, and several processes beside each other, as people run seeds,
    lose most of their speed to threads that wait for each other.

    Raises:
        ConfigurationError: if the variable is no whole number of at least 1.
    """
    text = os.environ.get(VARIABLE) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"{VARIABLE}={text!r} must be a whole number of at least 1.")
    return int(text)


@contextmanager
def at_most_threads(count: int) -> Iterator[None]:
    """Runs a block, or as a decorator a function, with at most ``count`` of PyTorch's threads; then all are back."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
