"""Runs of commands in processes of their own, forked from one that has imported everything: starting takes no time."""

import atexit
import importlib
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.soak import hook

ROOT = Path(__file__).parents[2]
"""The repository."""
PATIENCE = 900.0
"""Seconds after which a run counts as hanging."""
GRACE = 120.0
"""Seconds that processes of a killed command have to end; one that imports PyTorch ends when it has."""
LATE = (
    "torch._dynamo",
    "matplotlib.pyplot",
    "scipy.stats",
    "sklearn.datasets",
    "tensorboard.compat.proto.event_pb2",
    "agents.experiments.benchmark",
    "agents.experiments.ram",
    "agents.experiments.train",
    "agents.reports.benchmark.run",
    "agents.reports.episodes",
    "agents.reports.ram.plots",
)
"""Modules that commands import late."""


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    code: int
    """Exit code; negative the signal that killed it."""
    seconds: float
    """Wall time."""
    printed: str
    """What it wrote to standard output and standard error."""
    renames: list[str]
    """Paths that it renamed files and folders to."""
    faults: list[str]
    """Its processes that were alive :data:`GRACE` seconds after its end, in words."""


class Running:
    """A command that runs in a session of its own."""

    def __init__(
        self,
        script: str,
        words: Sequence[str],
        folder: Path,
        edge: int = -1,
        number: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Begins ``scripts/<script>.py`` with ``words`` in a working folder, whose subfolder ``cache`` is its cache.

        Args:
            script: name of the script.
            words: its command line.
            folder: the working folder, which paths in ``words`` may be relative to.
            edge: at which it gets a signal, see :data:`agents.soak.hook.EDGE`; negative for none.
            number: that signal.
        """
        self.began = time.perf_counter()
        self._work = Path(tempfile.mkdtemp(prefix="soak-run-"))
        for name in ("printed", "renames"):
            (self._work / name).touch()
        (self._work / "sitecustomize.py").write_text(f"import runpy\nrunpy.run_path({hook.__file__!r})\n")
        variables = {
            "GLIMPSE_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(self._work), str(ROOT)]),
            hook.LOG: str(self._work / "renames"),
            hook.EDGE: str(edge),
            hook.SIGNAL: str(int(number)),
        }
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            _become(script, words, folder, variables, self._work / "printed")

    def kill(self) -> None:
        """Kills the command's own process."""
        os.kill(self.process, signal.SIGKILL)

    def printed(self) -> str:
        """Returns what it has written so far."""
        return (self._work / "printed").read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = PATIENCE, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits until its own process has ended, or something is so, at most so long; returns whether it has ended."""
        deadline = time.perf_counter() + seconds
        while os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.perf_counter() >= deadline or until():
                return False
            time.sleep(0.005)
        return True

    def end(self) -> Ended:
        """Waits until it has ended, and then for its processes, which are killed if they stay."""
        faults = []
        if not self.wait():
            faults.append(f"it hangs: {self.printed()[-2000:]}")
            self.kill()
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        seconds = time.perf_counter() - self.began
        deadline = time.monotonic() + GRACE
        while (members := session_of(self.process)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process, command in members.items():
            faults.append(f"a child process survives: {command}")
            os.kill(process, signal.SIGKILL)
        printed, renames = self.printed(), (self._work / "renames").read_text().split("\n")[:-1]
        shutil.rmtree(self._work)
        return Ended(code, seconds, printed, renames, faults)


def session_of(leader: int) -> dict[int, str]:
    """Returns the command lines of the processes of a session, by number."""
    members: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                members[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return members


def _become(script: str, words: Sequence[str], folder: Path, variables: Mapping[str, str], printed: Path) -> None:
    """Runs a script in this process, which ends with it."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        output = os.open(printed, os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for own, other in ((0, nothing), (1, output), (2, output)):
            os.dup2(other, own)
        os.chdir(folder)
        os.environ.update(variables, **{hook.LEADER: str(os.getpid())})
        hook.install()
        sys.argv = [f"scripts/{script}.py", *words]
        path = ROOT / "scripts" / f"{script}.py"
        sys.path.insert(0, str(path.parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def import_all() -> None:
    """Imports what commands import late, so that forks of this process need not; nothing is computed, for a fork of a
    process in which PyTorch has threads can hang."""
    for name in LATE:
        with suppress(ImportError):
            importlib.import_module(name)
