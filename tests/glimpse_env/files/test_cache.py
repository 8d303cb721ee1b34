"""What is kept in the cache is made once, made again where it is damaged, and elsewhere where it may not be written."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.datasets.digits import Digits
from glimpse_env.errors import StorageError
from glimpse_env.files import kept, only_process, place_for, read_json, write_json
from glimpse_env.judge.tables import EmbeddingTable
from tests.support.toy import toy_dataset, toy_judge

ROOT = Path(__file__).parents[3]
MAKER = """
import logging, os, sys, time
from pathlib import Path
from glimpse_env.files import cache_folder, kept, read_json, write_json

def make(path):
    (cache_folder() / f"made-{os.getpid()}").touch()
    time.sleep(1)
    write_json(path, {"a": 1})

if len(sys.argv) > 1:
    import errno, fcntl
    def flock(*_):
        raise OSError(getattr(errno, sys.argv[1]), "no locks")
    fcntl.flock = flock
(cache_folder() / f"ready-{os.getpid()}").touch()
while len(list(cache_folder().glob("ready-*"))) < int(os.environ["TOGETHER"]):
    time.sleep(0.01)
assert kept(cache_folder() / "things" / "thing.json", read_json, make) == {"a": 1}
"""


def together(count: int, *words: str) -> list[str]:
    """What so many processes that need the same thing at once write to standard error."""
    command = [sys.executable, "-c", MAKER, *words]
    environment = {**os.environ, "TOGETHER": str(count)}
    begun = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]
    told = [process.communicate()[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * count, told
    return told


@pytest.mark.parametrize("count", [2, 4])
def test_of_several_processes_one_makes_a_thing_and_the_others_wait(fresh_cache: Path, count: int) -> None:
    fresh_cache.mkdir()
    told = together(count)
    assert len(list(fresh_cache.glob("made-*"))) == 1
    assert sum("Another process is making things/thing.json; waiting for it." in line for line in told) == count - 1


@pytest.mark.parametrize("error", ["ENOSYS", "ENOLCK"])
def test_without_locks_all_make_it(fresh_cache: Path, error: str) -> None:
    fresh_cache.mkdir()
    together(2, error)
    assert len(list(fresh_cache.glob("made-*"))) == 2


def test_a_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    code = "import sys, time\nfrom pathlib import Path\nfrom glimpse_env.files import only_process\n"
    code += "with only_process([Path(sys.argv[1])]):\n    print('held', flush=True)\n    time.sleep(99)"
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
    began = time.perf_counter()
    with only_process([tmp_path / "x"]) as waited:
        assert not waited
    assert time.perf_counter() - began < 5


def test_threads_take_turns_and_a_caller_may_hold_the_lock(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with only_process([tmp_path / "x"]) as waited:
            order.append(f"other {waited}")

    with only_process([tmp_path / "x"]):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.5)
        with only_process([tmp_path / "x"]) as waited:
            order.append(f"within {waited}")
    thread.join()
    assert order == ["within False", "other True"]


@pytest.fixture
def read_only(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache that may not be written, also by root."""
    fresh_cache.write_text("a file, where no folder can be made")
    yield fresh_cache
    monkeypatch.undo()
    os.environ.pop("GLIMPSE_SPARE_CACHE", None)


def test_what_a_read_only_cache_lacks_is_made_elsewhere(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        write_json(path, {"a": 1})

    for name in ("x", "y", "x"):
        assert kept(read_only / "things" / f"{name}.json", read_json, make) == {"a": 1}
    assert [path.name for path in made] == ["x.json", "y.json"]
    assert caplog.text.count("until this process ends") == 1
    assert "GLIMPSE_CACHE" in caplog.text
    assert all(str(path).startswith(os.environ["GLIMPSE_SPARE_CACHE"]) for path in made)
    judge = toy_judge()
    assert EmbeddingTable(toy_dataset(), judge, 0).array.shape == (24, 64, 32)
    assert len(Digits().load("val")) > 0
    (read_only.parent / "file").touch()
    with pytest.raises(StorageError, match="choose another folder"):
        place_for(read_only.parent / "file" / "z")  # not in the cache


def test_damage_is_mended_and_told(fresh_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Digits()
    images = np.array(source.load("val").images)
    (folder,) = fresh_cache.glob("arrays/digits-*/val-*")
    for damage in ("purged", "cut", "empty", "other", "folder", "pipe", "link"):
        path = folder / "labels.npy"
        content = path.read_bytes()
        if damage not in ("cut", "empty"):
            path.unlink()
        if damage == "other":
            np.save(path, np.zeros(3))
        elif damage == "folder":
            path.mkdir()
        elif damage == "pipe":
            os.mkfifo(path)
        elif damage == "link":
            path.symlink_to(path)
        elif damage != "purged":
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        caplog.clear()
        np.testing.assert_array_equal(source.load("val").images, images)
        assert str(folder) in caplog.text
        assert "made again" in caplog.text
    dataset, judge = toy_dataset(), toy_judge()
    expected = np.array(EmbeddingTable(dataset, judge, 0).array)
    (path,) = fresh_cache.glob("embeddings/*.npy")
    path.write_bytes(path.read_bytes()[:-10])
    np.testing.assert_array_equal(EmbeddingTable(dataset, judge, 0).array, expected)
