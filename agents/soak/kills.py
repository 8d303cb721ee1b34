"""Commands that are killed at every rename and at random moments, or stopped by signals, and go on afterwards."""

import logging
import shlex
import shutil
import signal
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
    """One run that is killed or stopped at a rename, or killed at random moments, and then goes on to its end."""

    world: World
    name: str
    """Name of the command."""
    edge: int = -1
    """See :data:`agents.soak.hook.EDGE`; negative for random moments."""
    number: signal.Signals = signal.SIGKILL
    """The signal."""
    moments: tuple[float, ...] = ()
    """Seconds after its start at which it is killed, the first for the first run."""

    @property
    def label(self) -> str:
        """Name of its working folder."""
        return f"{self.number.name}-{self.edge if self.edge >= 0 else f'random-{self.moments[0]:.6f}'}"

    @property
    def kind(self) -> str:
        """What its signals count as."""
        return "random" if self.edge < 0 else self.number.name


STOPS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that stop a command, which says how to go on."""
KINDS = ("SIGKILL", "random", "SIGTERM", "SIGHUP")
"""Kinds of cases: killed at a rename, killed at random moments, stopped at a rename."""


def measure_kills(
    world: World, name: str, *, stride: int = 1, runs: int = 3, lanes: int = 1, seed: int = 0
) -> dict[str, Any]:
    """Kills and stops a command; returns how often, and what was wrong afterwards.

    Args:
        world: where it runs.
        name: its name.
        stride: every how many renames there is a kill, before the rename and after it in turn; SIGTERM and SIGHUP, in
            turn, come at every third of these.
        runs: runs that are killed at random moments, :data:`TIMES_A_RUN` times each.
        lanes: runs side by side.
        seed: of the moments.
    """
    alone = world.alone(name)
    figures: dict[str, Any] = {
        "title": world.commands[name].title,
        "seconds_alone": alone.seconds,
        "renames": len(alone.renames),
        "files": len(contents(world.base / name / "alone")),
        **dict.fromkeys(KINDS, 0),
        "faults": [],
    }
    edges = [2 * rename + rename // stride % 2 for rename in range(0, len(alone.renames), stride)]
    moments = alone.seconds * np.random.default_rng(seed).uniform(0, 1, (runs, TIMES_A_RUN))
    cases = [
        *(Case(world, name, edge) for edge in edges),
        *(Case(world, name, edge, STOPS[place % 2]) for place, edge in enumerate(edges[::3])),
        *(Case(world, name, moments=tuple(row)) for row in moments.tolist()),
    ]
    with ProcessPoolExecutor(lanes, mp_context=get_context("fork")) as pool:
        for case, (hits, faults) in zip(cases, tqdm(pool.map(check, cases), name, len(cases)), strict=True):
            figures[case.kind] += hits
            for fault in faults:
                logger.warning("%s, %s: %s", name, case.label, fault)
            figures["faults"] += [f"{case.label}: {fault}" for fault in faults]
    return figures


def check(case: Case) -> tuple[int, list[str]]:
    """Runs a case; returns the number of signals that hit a running command, and what was wrong."""
    world, faults, hits = case.world, list[str](), 0
    folder = world.folder(case.name, case.label)
    words = None
    for moment in case.moments or (None,):
        running = world.begin(case.name, folder, case.edge, case.number)
        if moment is not None and not running.wait(moment):
            running.kill()
        ended = running.end()
        faults += ended.faults
        if ended.code not in (-signal.SIGKILL, 128 + case.number):
            break
        hits += 1
    else:
        if ended.code > 0:
            words = _goes_on(ended)
            faults += [] if words else [f"it does not say how to go on: {ended.printed[-2000:]}"]
        if not differences(world, case.name, case.label):  # it was behind its last step
            return hits, faults
        ended = world.begin(case.name, folder, words=words).end()
        faults += ended.faults
    if ended.code != 0:
        faults.append(f"exit code {ended.code}: {ended.printed[-2000:]}")
    else:
        faults += differences(world, case.name, case.label)
    if not faults:
        shutil.rmtree(folder)
    return hits, faults


def _goes_on(ended: Ended) -> list[str] | None:
    """Returns the arguments of the command that a stopped one printed last; None where there is none."""
    told = [line for line in ended.printed.splitlines() if line.startswith("  python ") and "scripts/" in line]
    return shlex.split(told[-1])[2:] if told else None


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
