"""Processes that need the same missing things at once, one of which may die over them."""

import re
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.soak.commands import World
from agents.soak.compare import contents, left_behind
from agents.soak.runs import PATIENCE, Ended, Running

NAME = "together"
"""Name of the command: demonstrations where there are no arrays, no judge and no tables yet."""
_WAITING = re.compile(r"Another process is making (\S+); waiting for it\.")


def measure_together(world: World, count: int) -> dict[str, Any]:
    """Begins so many processes at once that need the same judge, and demonstrates with it."""
    folder = _folder(world, f"{count}")
    ended = [running.end() for running in [_begin(world, folder, number) for number in range(count)]]
    return {"processes": count, **_figures(folder, ended)}


def measure_taking_over(world: World) -> dict[str, Any]:
    """Kills a process over the judge that another waits for, which then makes it."""
    folder = _folder(world, "taken-over")
    first = _begin(world, folder, 0)
    _until(first, lambda: (folder / "cache" / "judges").is_dir())
    second = _begin(world, folder, 1)
    _until(second, lambda: _WAITING.search(second.printed()) is not None)
    first.signal(signal.SIGKILL)
    killed, began = first.end(), time.perf_counter()
    ended = second.end()
    figures = _figures(folder, [ended])
    if killed.code != -signal.SIGKILL:
        figures["faults"].append(f"the first ended with {killed.code} before it was killed")
    return {**figures, "seconds_after_the_kill": time.perf_counter() - began}


def _folder(world: World, label: str) -> Path:
    world.commands[NAME] = replace(world.commands["demos"], name=NAME, start=None)
    return world.folder(NAME, label)


def _begin(world: World, folder: Path, number: int) -> Running:
    words = [f"demos-{number}.npz" if word == "demos.npz" else word for word in world.commands[NAME].words]
    return Running(world.commands[NAME].script, words, folder)


def _until(running: Running, arrived: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not arrived() and not running.over() and time.monotonic() < until:
        time.sleep(0.005)


def _figures(folder: Path, ended: list[Ended]) -> dict[str, Any]:
    """Returns what was made, how often, and what was wrong."""
    made = Counter(path for one in ended for path in one.renames if not path.endswith(".pt"))  # checkpoints
    waited = [name for one in ended for name in _WAITING.findall(one.printed)]
    found = contents(folder)
    results = [{found[path] for path in found if "/" not in path and path.endswith(kind)} for kind in (".npz", ".json")]
    faults = [f"exit code {one.code}: {one.printed[-2000:]}" for one in ended if one.code != 0]
    faults += [f"a child process survives: {command}" for one in ended for command in one.survivors]
    faults += [f"{path} stays" for path in left_behind(folder)]
    faults += [f"{len(kinds)} different results" for kinds in results if len(kinds) != 1]
    faults += [f"{path} is made {times} times" for path, times in made.items() if times > 1]
    return {
        "things_made": len(made),
        "lines_of_waiting": len(waited),
        "waited_for": sorted(set(waited)),
        "faults": faults,
    }
