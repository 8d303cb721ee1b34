"""Signals that end a command, and worker processes that end with the process that began them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command: Ctrl-C, what clusters send, and a terminal that is gone."""


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Runs a block in which the first signal that ends a command raises KeyboardInterrupt, so that work is saved.

    A second one ends the process at once, and so its workers; files are whole or not there then too. Signals that are
    ignored, as with ``nohup``, stay so.

    Yields:
        A list of the signals' numbers so far.
    """
    received: list[int] = []
    handled: list[signal.Signals] = []

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        for own in handled:
            signal.signal(own, signal.SIG_DFL)
        with suppress(OSError):  # a terminal that is gone
            os.write(2, b"\nStopping; a second signal stops at once.\n")
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield received
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    handled += [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Runs a block to its end; a signal that ends a command is heard after it."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)
        for number in received:
            signal.raise_signal(number)


def become_worker() -> None:
    """Makes this process, begun by another, leave signals to that one, which ends its workers, and end when it does."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that began it is killed, since nobody would take the result."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
