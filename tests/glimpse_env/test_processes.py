"""Signals that end a command let it save and say how to go on, and no child process survives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glimpse_env.processes import uninterrupted

ROOT = Path(__file__).parents[2]
COMMAND = """
import signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from glimpse_env import cli
from glimpse_env.files import whole_file

@dataclass(frozen=True)
class Args:
    out: Path
    \"\"\"Folder.\"\"\"

def main(args):
    try:
        with whole_file(args.out / "file") as file:
            file.write_text("half")
            print("begun", flush=True)
            time.sleep(60)
    except KeyboardInterrupt:
        (args.out / "saved").write_text("all")
        print("saving", flush=True)
        time.sleep(float(sys.argv.pop()))
        raise

wait = sys.argv[-1]
cli.run(main, Args, sys.argv[1:-1], goes_on=True)
"""
WORKERS = """
import os, sys, time
from glimpse_env.parallel import make_shards

class Task(str):
    size = "one"

class Make:
    def __call__(self, task):
        print(os.getpid(), flush=True)
        time.sleep(60)
        return {}

if __name__ == "__main__":
    from dataclasses import dataclass
    from glimpse_env import cli

    @dataclass(frozen=True)
    class Args:
        fresh: bool = False
        \"\"\"Fresh processes.\"\"\"

    def main(args):
        for _ in make_shards(Make(), [Task("a"), Task("b")], workers=2, fresh_process=args.fresh):
            pass

    cli.run(main, Args, goes_on=True)
"""


def begun(code: str, *words: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *([code] if code.endswith(".py") else ["-c", code]), *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (2, 1, 15)],
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_saves_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    with begun(COMMAND, "--out", str(tmp_path), "0") as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        printed, told = process.communicate()
    assert process.returncode == 128 + number, told
    assert printed.splitlines()[:4] == ["saving", "", "Stopped. Go on with", f"  python -c --out {tmp_path}"]
    assert "a second signal stops at once" in told
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    with begun(COMMAND, "--out", str(tmp_path), "60") as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "saving\n"
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert time.perf_counter() - began < 10
    assert process.returncode == -signal.SIGTERM
    assert (tmp_path / "saved").read_text() == "all"
    assert not (tmp_path / "file").exists()


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: int, fresh: bool, tmp_path: Path) -> None:
    """Also where all of a process group get the signal, as clusters send it."""
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    flags = ["--fresh"] if fresh else []
    with begun(str(script), *flags, start_new_session=True) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)
        else:
            process.kill()
        printed, told = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number, told
        assert "Stopped. Go on with" in printed
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def test_painters_of_birds_end_with_their_parent() -> None:
    code = (
        "import multiprocessing\n"
        "from glimpse_env.datasets.birds.source import draw_chunks\n"
        "for n, _ in enumerate(draw_chunks(0, 0, 100_000, workers=2)):\n"
        "    if n == 0:\n"
        "        print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
    )
    with begun(code) as process:
        painters = [int(word) for word in process.stdout.readline().split()]
        assert len(painters) == 2
        process.kill()
    deadline = time.monotonic() + 20
    while any(map(alive, painters)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, painters))


def test_a_block_that_is_not_interrupted_ends_first() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)

    @uninterrupted()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    with uninterrupted():
        pass
    assert signal.getsignal(signal.SIGINT) is before
