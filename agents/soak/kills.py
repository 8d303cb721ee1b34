"""Commands that are killed at every rename and at random moments, and go on afterwards."""

import logging
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from agents.soak.commands import World
from agents.soak.compare import contents, left_behind
from agents.soak.runs import Ended

logger = logging.getLogger(__name__)

TIMES_A_RUN = 2
"""Kills at random moments, one after the other, before a command may finish."""


@dataclass(frozen=True)
class Case:
    """One run that is killed, once at a rename or several times at random moments, and then left to finish."""

    world: World
    name: str
    """Name of the command."""
    edge: int | None = None
    """See :data:`agents.soak.hook.EDGE`; None for random moments."""
    moments: tuple[float, ...] = ()
    """Seconds after its start at which it is killed, the first for the first run."""

    @property
    def label(self) -> str:
        """Name of its working folder."""
        return f"edge-{self.edge}" if self.edge is not None else f"random-{self.moments[0]:.6f}"


def measure_kills(
    world: World, names: Sequence[str], *, sides: int = 2, stride: int = 1, runs: int = 3, lanes: int = 1, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Kills commands and returns, by name, how often, and what was wrong afterwards.

    Args:
        world: where they run.
        names: names of the commands.
        sides: kills at a rename, 1 just before or just after it, in turn, or both.
        stride: every how many renames there are kills, 1 for each.
        runs: runs of each command that are killed at random moments, :data:`TIMES_A_RUN` times each.
        lanes: runs side by side.
        seed: of the moments.
    """
    rng = np.random.default_rng(seed)
    alone = {name: world.alone(name) for name in names}
    cases = [
        Case(world, name, 2 * rename + after)
        for name in names
        for rename in range(0, len(alone[name].renames), stride)
        for after in ((0, 1) if sides == 2 else (rename // stride % 2,))
    ]
    for name in names:
        for moments in alone[name].seconds * rng.uniform(0, 1, (runs, TIMES_A_RUN)):
            cases.append(Case(world, name, None, tuple(map(float, moments))))
    figures: dict[str, dict[str, Any]] = {
        name: {
            "title": world.commands[name].title,
            "seconds_alone": ended.seconds,
            "renames": len(ended.renames),
            "files": len(contents(world.base / name / "alone")),
            "kills_at_renames": 0,
            "kills_at_random": 0,
            "ended_first": 0,
            "faults": [],
        }
        for name, ended in alone.items()
    }
    with ProcessPoolExecutor(lanes, mp_context=get_context("fork")) as pool:
        for case, (kills, faults) in zip(cases, tqdm(pool.map(check, cases), total=len(cases)), strict=True):
            entry = figures[case.name]
            entry["kills_at_renames" if case.edge is not None else "kills_at_random"] += kills
            entry["ended_first"] += int(kills == 0)
            for fault in faults:
                logger.warning("%s, %s: %s", case.name, case.label, fault)
            entry["faults"] += [f"{case.label}: {fault}" for fault in faults]
    return figures


def check(case: Case) -> tuple[int, list[str]]:
    """Runs a case; returns the number of kills that hit a running command, and what was wrong."""
    world, faults, kills = case.world, list[str](), 0
    folder = world.folder(case.name, case.label)
    try:
        for moment in case.moments or (None,):
            running = world.begin(case.name, folder, edge=case.edge)
            if moment is not None and not running.wait(moment):
                running.signal(signal.SIGKILL)
            ended = running.end()
            faults += _lasting(ended)
            if ended.code != -signal.SIGKILL:
                break
            kills += 1
        if ended.code == -signal.SIGKILL:
            ended = world.begin(case.name, folder).end()
            faults += _lasting(ended)
    except RuntimeError as error:
        return kills, [*faults, str(error)]
    if ended.code != 0:
        faults.append(f"exit code {ended.code}: {ended.printed[-2000:]}")
    else:
        faults += differences(world, case.name, case.label)
    if not faults:
        shutil.rmtree(folder)
    return kills, faults


def differences(world: World, name: str, label: str) -> list[str]:
    """Returns in what a command's working folder differs from that of a run that was left alone."""
    folder = world.base / name / label
    expected, actual = contents(world.base / name / "alone"), contents(folder)
    return [
        *(f"{path} stays" for path in left_behind(folder)),
        *(f"{path} is missing" for path in sorted(expected.keys() - actual.keys())),
        *(f"{path} is too many" for path in sorted(actual.keys() - expected.keys())),
        *(f"{path} differs" for path in sorted(expected.keys() & actual.keys()) if expected[path] != actual[path]),
    ]


def _lasting(ended: Ended) -> list[str]:
    return [f"a child process survives: {command}" for command in ended.survivors]
