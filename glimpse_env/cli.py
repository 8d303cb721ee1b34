"""The entry that all commands share: flags, logging, errors in one sentence, exit codes.

A command is a dataclass of flags, ``Args``, a function ``main(args)``, and ``cli.run(main, Args)``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import tyro
from gymnasium.error import DependencyNotInstalled

from glimpse_env.console.names import command, this_program
from glimpse_env.devices import Device
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.processes import interruptible

if TYPE_CHECKING:
    from glimpse_env.datasets.base import DataSource

Args = TypeVar("Args")


@dataclass(frozen=True, kw_only=True)
class DatasetFlags:
    """The flags that name an environment's data set and its sensor; commands inherit from it."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Number of concentric windows of a glimpse; default the environment's."""
    zooms: tuple[int, ...] | None = None
    """How many times as wide as a glimpse its window can be, e.g. 1 2 4; default the environment's."""

    def source(self) -> DataSource:
        """Returns the data set that the flags name.

        Raises:
            ConfigurationError: if there is none of that name, an option is not one of the data set's or scales or
                zooms are out of range.
            DatasetNotFoundError: if its files are missing.
        """
        from glimpse_env.registration import source_of  # imports torch

        return source_of(self.env, self.root, self.dataset_options, self.scales, self.zooms)


@dataclass(frozen=True, kw_only=True)
class DeviceFlags:
    """The flag that names where a command computes; commands inherit from it."""

    device: Device = "cpu"
    """Device that computes; auto takes cuda where there is one, else mps, else cpu."""


def run(
    main: Callable[[Args], None],
    kind: type[Args],
    words: Sequence[str] | None = None,
    *,
    goes_on: bool | Callable[[Args], str] | None = False,
    one_thread: bool = True,
) -> None:
    """Reads a command's flags and runs it, with logging to standard output.

    An error of this project, a missing package and a file that cannot be read or written end the process with one
    sentence and exit code 1. Ctrl-C, SIGTERM and SIGHUP save what is to be saved, say how to go on and end it with
    exit code 128 and the signal's number; a second one ends it at once.

    Args:
        main: what to run.
        kind: the dataclass of its flags, each with a docstring.
        words: what stands behind the command's name; default the process's own.
        goes_on: whether the command continues its work when called again, or what returns the command that does, which
            is told when it is stopped; None for nothing to tell.
        one_thread: PyTorch gets one thread where ``OMP_NUM_THREADS`` does not say how many. More gain a single process
            little, and processes beside each other lose most of their speed to threads that wait for each other.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the encoding is ASCII titles have signs outside it
    if one_thread:  # before torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.raiseExceptions = False  # nobody may read the output any more, as behind `| head`
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    received: list[int] = []
    args: Args | None = None
    try:
        with interruptible() as received:
            args = tyro.cli(kind, args=[_at_home(word) for word in (sys.argv[1:] if words is None else words)])
            main(args)
    except (GlimpseError, DependencyNotInstalled) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        if error.errno is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        sys.exit(f"{type(error).__name__}: {where}{error.strerror}.")
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        if goes_on is not None:
            again = shlex.join([*this_program(), *(sys.argv[1:] if words is None else words)])
            if callable(goes_on) and args is not None:
                again = goes_on(args)
            with contextlib.suppress(OSError):  # a terminal that is gone
                print(f"\nStopped. {'Go on' if goes_on else 'Begin again'} with\n  {again}", flush=True)
        sys.exit(128 + (received[0] if received else signal.SIGINT))


def _at_home(word: str) -> str:
    """Returns a word of a command line with the home in place of ``~/``, which shells leave in ``--out=~/runs``."""
    below = re.fullmatch(r"(--[\w-]+=)?(~/.*)", word, re.DOTALL)
    return (below[1] or "") + os.path.expanduser(below[2]) if below else word


def is_interrupt(error: BaseException) -> bool:
    """Returns whether an error is a Ctrl-C, which PyTorch's writer of files turns into an error of its own."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def check_least(args: Any, **least: float) -> None:
    """Checks that number flags, or each number of those that take several, are large enough; None passes.

    Args:
        args: the dataclass of flags.
        least: the smallest number allowed, by field.

    Raises:
        ConfigurationError: if a number is too small.
    """
    for name, low in least.items():
        value = getattr(args, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number is not None and number < low for number in numbers):
            text = " ".join(map(str, numbers))
            raise ConfigurationError(f"--{name.replace('_', '-')} {text} must be at least {low:g}.")


def command_line(script: str, args: Any, always: Collection[str] = ()) -> str:
    """Returns the command that runs ``script`` (see :func:`glimpse_env.console.names.command`) with ``args``, its
    dataclass of flags, leaving out flags at their defaults but those named in ``always``."""
    words: list[str] = []
    for item in fields(args):
        value, flag = getattr(args, item.name), item.name.replace("_", "-")
        if value == item.default and item.name not in always:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return command(script, *words)
