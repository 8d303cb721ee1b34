"""Commands that are stopped by the signals of clusters and of terminals, and go on as they say."""

import shlex
import shutil
import signal
import time
from collections.abc import Sequence
from typing import Any

from agents.soak.commands import World
from agents.soak.kills import differences
from agents.soak.runs import PATIENCE, Running

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
"""The signals."""


def measure_signals(world: World, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Stops each command in the middle of its renames with each signal, and goes on with the command that it prints.

    Returns:
        By command and signal the exit code, whether it went on and what was wrong.
    """
    figures: dict[str, dict[str, Any]] = {}
    for name in names:
        figures[name] = {"title": world.commands[name].title}
        for number in NUMBERS:
            figures[name][number.name] = _stop(world, name, number)
    return figures


def _stop(world: World, name: str, number: signal.Signals) -> dict[str, Any]:
    middle = len(world.alone(name).renames) // 2
    label = number.name.lower()
    folder = world.folder(name, label)
    running = world.begin(name, folder)
    until = time.monotonic() + PATIENCE
    while running.renamed() < middle and not running.over() and time.monotonic() < until:
        time.sleep(0.002)
    sent = time.perf_counter()
    running.signal(number)
    ended = running.end()
    figures: dict[str, Any] = {"exit_code": ended.code, "seconds": time.perf_counter() - sent, "faults": []}
    faults: list[str] = figures["faults"]
    faults += [f"a child process survives: {command}" for command in ended.survivors]
    lines = [line.strip() for line in ended.printed.splitlines()]
    told = [line for line in lines if line.startswith("python ") and "scripts/" in line]
    if ended.code != 128 + number or not told:
        faults.append(f"exit code {ended.code}: {ended.printed[-2000:]}")
        return figures
    again = Running(world.commands[name].script, shlex.split(told[-1])[2:], folder).end()
    if again.code != 0:
        faults.append(f"exit code {again.code} of what it says goes on: {again.printed[-2000:]}")
    else:
        faults += differences(world, name, label)
    if not faults:
        shutil.rmtree(folder)
    return figures
