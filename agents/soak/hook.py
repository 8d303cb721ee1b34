"""Counts the renames of a command and kills it, all its processes, at one of them; run in each of them at its start.

It imports nothing of this project: :mod:`agents.soak.runs` runs it as ``sitecustomize`` in processes that a command
begins, and in the command itself.
"""

import fcntl
import os
import signal
from typing import Any

LOG = "SOAK_RENAMES"
"""Variable with the file that gets a line for each rename; without it nothing happens."""
EDGE = "SOAK_EDGE"
"""Variable with the edge at which all is killed: 2 k before rename k, from 0, 2 k + 1 after it; none without it."""
LEADER = "SOAK_LEADER"
"""Variable with the number of the command's own process."""


def install() -> None:
    """Makes ``os.replace`` and ``os.rename`` count."""
    log, edge = os.environ.get(LOG), int(os.environ.get(EDGE, "-1"))
    if log is None:
        return

    def counted(rename: Any) -> Any:
        def wrapper(source: Any, target: Any, *args: Any, **options: Any) -> None:
            with open(log, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until the rename is done, so that edges have one order
                file.seek(0)
                number = file.read().count(b"\n")
                file.write(os.fsencode(os.path.abspath(target)) + b"\n")
                file.flush()
                _die_at(2 * number, edge)
                rename(source, target, *args, **options)
                _die_at(2 * number + 1, edge)

        return wrapper

    os.replace, os.rename = counted(os.replace), counted(os.rename)


def _die_at(number: int, edge: int) -> None:
    if number == edge:
        for process in {int(os.environ[LEADER]), os.getpid()}:
            os.kill(process, signal.SIGKILL)


install()
