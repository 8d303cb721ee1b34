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
from agents.soak.commands import World
from agents.soak.compare import contents, left_behind
from agents.soak.kills import differences
from agents.soak.report import tables
from agents.soak.runs import session_of
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
