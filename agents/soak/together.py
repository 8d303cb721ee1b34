"""Processes that need the same missing things at once, one of which may die over them."""

import re
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.soak.commands import World
from agents.soak.compare import contents, left_behind
from agents.soak.runs import Ended, Running

NAME = "together"
"""Name of the command: demonstrations where there are no arrays, no judge and no tables yet."""
_WAITING = re.compile(r"Another process is making \S+; waiting for it\.")


def measure_together(world: World, count: int) -> dict[str, Any]:
    """Begins so many processes at once that need the same judge, and demonstrates with it."""
    folder = _folder(world, str(count))
    ended = [running.end() for running in [_begin(world, folder, number) for number in range(count)]]
    return {"title": f"{count} processes begun at once", **_figures(folder, ended)}


def measure_taking_over(world: World) -> dict[str, Any]:
    """Kills a process over the judge that another waits for, which then makes it."""
    folder = _folder(world, "taken-over")
    first = _begin(world, folder, 0)
    first.wait(until=lambda: (folder / "cache" / "judges").is_dir())
    second = _begin(world, folder, 1)
    second.wait(until=lambda: _WAITING.search(second.printed()) is not None)
    first.kill()
    killed, ended = first.end(), second.end()
    figures = _figures(folder, [ended])
    if killed.code != -signal.SIGKILL:
        figures["faults"].append(f"the first ended with {killed.code} before it was killed")
    return {"title": "1 that waits for one that is killed", **figures}


def _folder(world: World, label: str) -> Path:
    world.commands[NAME] = replace(world.commands["demos"], name=NAME, start=None)
    return world.folder(NAME, label)


def _begin(world: World, folder: Path, number: int) -> Running:
    words = [f"demos-{number}.npz" if word == "demos.npz" else word for word in world.commands[NAME].words]
    return world.begin(NAME, folder, words=words)


def _figures(folder: Path, ended: list[Ended]) -> dict[str, Any]:
    """Returns what was made, how often, and what was wrong."""
    made = Counter(path for one in ended for path in one.renames if not path.endswith(".pt"))  # checkpoints
    found = contents(folder)
    results = [{found[path] for path in found if "/" not in path and path.endswith(kind)} for kind in (".npz", ".json")]
    faults = [f"exit code {one.code}: {one.printed[-2000:]}" for one in ended if one.code != 0]
    faults += [fault for one in ended for fault in one.faults]
    faults += [f"{path} stays" for path in left_behind(folder)]
    faults += [f"{len(kinds)} different results" for kinds in results if len(kinds) != 1]
    faults += [f"{path} is made {times} times" for path, times in made.items() if times > 1]
    waiting = sum(len(_WAITING.findall(one.printed)) for one in ended)
    return {"made": len(made), "waiting": waiting, "faults": faults}
