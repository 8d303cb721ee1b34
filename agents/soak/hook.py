"""Counts the renames of a command and sends it a signal at one of them; run in each of its processes at their start.

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
"""Variable with the edge at which the signal is sent: 2 k before rename k, from 0, 2 k + 1 after it; default none."""
SIGNAL = "SOAK_SIGNAL"
"""Variable with the signal's number; default SIGKILL, which goes to the process that renames, too."""
LEADER = "SOAK_LEADER"
"""Variable with the number of the command's own process."""


def install() -> None:
    """Makes ``os.replace`` and ``os.rename`` count."""
    log, chosen = os.environ.get(LOG), int(os.environ.get(EDGE, "-1"))
    number = int(os.environ.get(SIGNAL, signal.SIGKILL))
    if log is None:
        return

    def send_at(edge: int) -> None:
        if edge == chosen:
            for process in {int(os.environ[LEADER]), *([os.getpid()] if number == signal.SIGKILL else [])}:
                os.kill(process, number)

    def counted(rename: Any) -> Any:
        def wrapper(source: Any, target: Any, *args: Any, **options: Any) -> None:
            with open(log, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until the rename is done, so that edges have one order
                file.seek(0)
                edge = 2 * file.read().count(b"\n")
                file.write(os.fsencode(os.path.abspath(target)) + b"\n")
                file.flush()
                send_at(edge)
                rename(source, target, *args, **options)
                send_at(edge + 1)

        return wrapper

    os.replace, os.rename = counted(os.replace), counted(os.rename)


install()
