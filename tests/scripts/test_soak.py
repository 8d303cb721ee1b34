"""The soak at toy size, and that it sees what it looks for."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agents.soak import hook, stepping
from agents.soak.commands import Command, World
from agents.soak.compare import contents, left_behind
from agents.soak.kills import Case, check, differences
from agents.soak.report import tables
from agents.soak.runs import Ended, session_of
from agents.soak.together import measure_taking_over, measure_together
from glimpse_env import CLASSIFY_IDS, ENV_IDS
from tests.support.toy import write_toy_world

ROOT = Path(__file__).parents[2]
RENAMES = """
import os
for number in range(3):
    open("new", "w").close()
    [os.rename, os.replace][number % 2]("new", f"file-{number}")
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="the soak reads /proc")


def test_commands_are_killed_and_stopped_and_begun_at_once_and_nothing_is_wrong(tmp_path: Path) -> None:
    out, page = tmp_path / "figures.json", tmp_path / "page.md"
    flags = "--parts kills together --commands demos --stride 5 --runs 0 --processes 2 --lanes 1"
    command = [sys.executable, "scripts/measure/soak.py", *flags.split(), "--out", str(out), "--into", str(page)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = json.loads(out.read_text())
    killed = figures["kills"]["demos"]
    assert killed["faults"] == []
    assert (killed["SIGKILL"], killed["SIGTERM"]) == (-(-killed["renames"] // 5), 1)
    assert killed["files"] > 10
    assert [entry["faults"] for entry in figures["together"].values()] == [[], []]
    assert figures["together"]["taken over"]["waiting"] == 1
    assert tables(figures) in page.read_text()
    assert not list(tmp_path.glob("soak*")), "the temporary folders are gone"


def test_each_edge_of_each_rename_kills(tmp_path: Path) -> None:
    for edge, expected in enumerate((0, 1, 1, 2, 2, 3, 3)):
        folder = tmp_path / str(edge)
        folder.mkdir()
        code = f"import os, runpy; os.environ[{hook.LEADER!r}] = str(os.getpid()); runpy.run_path({hook.__file__!r})"
        variables = {hook.LOG: str(folder / "log"), hook.EDGE: str(edge)}
        ended = subprocess.run([sys.executable, "-c", code + RENAMES], cwd=folder, env={**os.environ, **variables})
        assert ended.returncode == (-signal.SIGKILL if edge < 6 else 0)
        assert len(list(folder.glob("file-*"))) == expected


def write_run(folder: Path) -> None:
    (folder / "cache" / "locks").mkdir(parents=True)
    (folder / "cache" / "locks" / f"{time.time_ns()}.lock").touch()
    (folder / "a.npz").write_bytes(b"arrays")
    figures = {"success": 0.5, "seconds": time.perf_counter(), "stages": [{"t": 3}], "out": str(folder / "x")}
    (folder / "a.json").write_text(json.dumps(figures))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("data", json.dumps({"gamma": 1, "start_time": time.time_ns()}))
        archive.writestr("policy.pth", b"weights")


def test_runs_are_compared_without_times_and_whatever_else_differs_is_seen(tmp_path: Path) -> None:
    world = World(tmp_path)
    for case in ("alone", "again"):
        write_run(tmp_path / "demos" / case)
    folder = tmp_path / "demos" / "again"
    assert differences(world, "demos", "again") == []
    assert len(contents(folder)) == 3
    (folder / "a.json").write_text((folder / "a.json").read_text().replace("0.5", "0.25"))
    (folder / "a.npz").unlink()
    (folder / "b.npz").touch()
    with zipfile.ZipFile(folder / "a.zip", "a") as archive:
        archive.writestr("more", b"")
    (folder / "cache" / ".b.tmp-0-0-0.npz").touch()
    found = ["cache/.b.tmp-0-0-0.npz stays", "a.npz is missing", "b.npz is too many", "a.json differs", "a.zip differs"]
    assert differences(world, "demos", "again") == found
    assert left_behind(folder) == ["cache/.b.tmp-0-0-0.npz"]


class Toy:
    """In place of :class:`Running`: a command that makes a.npz and b.json, one rename each; ``fault`` says what it does
    wrong."""

    fault = ""

    def __init__(self, script: str, words: Any, folder: Path, edge: int = -1, number: int = signal.SIGKILL) -> None:
        self.resumed, self.folder, self.number, self.renames = "--again" in words, folder, number, list[str]()
        self.code = 0
        for k, name in enumerate(("a.npz", "b.json")):
            for now in (2 * k, 2 * k + 1):
                if now % 2:
                    (folder / name).write_text(
                        json.dumps("other" if self.resumed and self.fault == "differs" else name)
                    )
                    self.renames.append(str(folder / name))
                if now == edge:
                    self.code = -number if number == signal.SIGKILL else 128 + number
                    return

    def wait(self, seconds: float = 0, until: Any = lambda: False) -> bool:
        return False

    def kill(self) -> None:
        (self.folder / "b.json").unlink()
        self.code = -signal.SIGKILL

    def printed(self) -> str:
        return "Stopped. Go on with\n  python scripts/toy.py --again\n" if self.fault != "silent" else "Stopped."

    def end(self) -> Ended:
        if self.fault == "stays" and self.code < 0:
            (self.folder / ".a.tmp-0-0-0.npz").touch()
        code = 1 if self.fault == "fails" and self.resumed else self.code
        return Ended(
            code, 1.0, self.printed(), self.renames, ["a child process survives: it"] * (self.fault == "child")
        )


def toy_world(base: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> World:
    monkeypatch.setattr("agents.soak.commands.Running", Toy)
    monkeypatch.setattr(Toy, "fault", "")
    world = World(base)
    world.commands["toy"] = Command("toy", "toy", "toy", ("--first",), start="judge", resumes="run")
    assert world.alone("toy") is world.alone("toy")
    monkeypatch.setattr(Toy, "fault", fault)
    return world


@pytest.mark.parametrize(
    ("fault", "number", "expected"),
    [
        ("", signal.SIGKILL, []),
        ("", signal.SIGTERM, []),
        ("stays", signal.SIGKILL, [".a.tmp-0-0-0.npz stays"]),
        ("silent", signal.SIGTERM, ["it does not say how to go on: Stopped."]),
        ("differs", signal.SIGHUP, ["a.npz differs", "b.json differs"]),
        ("child", signal.SIGKILL, ["a child process survives: it"] * 2),
        ("fails", signal.SIGTERM, ["exit code 1: "]),
    ],
)
def test_what_a_signal_leaves_wrong_is_told(
    fault: str, number: signal.Signals, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits, faults = check(Case(toy_world(tmp_path, monkeypatch, fault), "toy", edge=1, number=number))
    assert hits == 1
    assert len(faults) == len(expected)
    assert all(found.startswith(told) for found, told in zip(faults, expected, strict=True))
    assert (tmp_path / "toy" / f"{number.name}-1").exists() == bool(faults), "what is wrong can be looked at"


def test_kills_at_random_moments_come_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world(tmp_path, monkeypatch, "")
    assert check(Case(world, "toy", moments=(0.1, 0.2))) == (2, [])
    assert check(Case(world, "toy", edge=3)) == (1, []), "it was behind its last rename"


def test_a_command_that_fails_when_left_alone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^demos ended with 0, \['a child process survives: it'\]:"):
        toy_world(tmp_path, monkeypatch, "child").alone("demos")


def test_what_processes_make_at_once_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world(tmp_path, monkeypatch, "")
    assert measure_together(world, 1) | {"title": ""} == {"title": "", "made": 2, "waiting": 0, "faults": []}
    twice = ["a.npz is made 2 times", "b.json is made 2 times"]
    faults = measure_together(world, 2)["faults"]
    assert [fault.rpartition("/")[2] for fault in faults] == twice
    monkeypatch.setattr("agents.soak.together.NAME", "late")
    monkeypatch.setattr(Toy, "kill", lambda self: setattr(self, "code", -signal.SIGKILL))
    assert measure_taking_over(world)["faults"] == []
    monkeypatch.setattr("agents.soak.together.NAME", "later")
    monkeypatch.setattr(Toy, "kill", lambda self: None)
    assert measure_taking_over(world)["faults"] == ["the first ended with 0 before it was killed"]


def test_processes_of_a_session_are_seen() -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()']).pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        child = int(process.stdout.readline())
        assert session_of(process.pid).keys() == {process.pid, child}
        process.kill()
        process.stdout.close()
    deadline = time.monotonic() + 20
    while session_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_of(process.pid) == {}


def test_all_ids_play_in_all_modes_and_refuse_wrong_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = stepping.makers(write_toy_world(tmp_path, monkeypatch), ("glimpse",))
    assert {env_id for env_id, _ in modes} == {*ENV_IDS, *CLASSIFY_IDS}
    steps = stepping.measure_steps(modes, 2.0)
    assert steps["faults"] == []
    assert steps["refused"] > 5
    assert f"| {steps['title']} |" in tables({"play": {"steps": {"command": "", **steps}}})
    made = stepping.measure_makes(modes, 20)
    assert made["further_files"] <= 0
    assert (steps["open_files"], made["open_files"]) > (0, 0)


def test_a_leak_is_seen_and_none_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    files, memory = itertools.count(10), itertools.count(100, 0.5)
    for leak in ("memory", "files", "nothing"):
        meter = stepping.Meter()
        with monkeypatch.context() as patch:
            patch.setattr(stepping, "anonymous_mib", lambda leak=leak: next(memory) if leak == "memory" else 100.0)
            patch.setattr(stepping, "open_files", lambda leak=leak: next(files) if leak == "files" else 10)
            for step in range(2000):
                meter.measure(step, step / 2000)
        figures = meter.figures()
        assert figures["growth_mib"] == pytest.approx(24.5 if leak == "memory" else 0, rel=0.01)
        assert figures["further_files"] == (49 if leak == "files" else 0)


def test_an_environment_that_takes_a_wrong_action_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless:
        def __init__(self, env: Any) -> None:
            self.env = env

        def __getattr__(self, name: str) -> Any:
            return getattr(self.env, name)

        def step(self, action: Any) -> Any:
            if isinstance(action, str | None):
                return None
            return self.env.step(action)

    options = {"observation": "glimpse", "split": "test"}
    make = stepping.make
    monkeypatch.setattr(stepping, "make", lambda *mode: Careless(make(*mode)))
    monkeypatch.setattr(stepping, "WRONG_SHARE", 0.5)
    faults = stepping.measure_steps([("GlimpseDigits-v0", options)], 1.0)["faults"]
    assert len(faults) == 2
    assert all("takes None" in fault or "takes 'left'" in fault for fault in faults)
