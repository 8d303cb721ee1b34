"""Files and folders are whole or not there, say what a full disk lacks, and leave nothing behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glimpse_env.errors import ArtifactError, StorageError
from glimpse_env.files import (
    array_is_whole,
    cache_folder,
    check_writable,
    load_array,
    new_array,
    read_json,
    read_npz,
    whole_file,
    whole_folder,
    write_json,
    write_npz,
)
from glimpse_env.files.whole import ABANDONED_AFTER, temporary_path

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from glimpse_env.files import whole_file, whole_folder

with whole_file(Path(sys.argv[1]) / "x.npy") as file, whole_folder(Path(sys.argv[1]) / "y") as folder:
    file.write_text("half")
    (folder / "z").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    write_json(tmp_path / "other.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


def test_temporary_files_of_the_living_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another machine, whose processes cannot be seen, until they are a week old."""
    with whole_file(tmp_path / "x.npz") as ours:
        write_json(tmp_path / "y.json", {})
        assert ours.is_file()
        ours.write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr("glimpse_env.files.whole._machine", lambda: "0" * 8)
        young, old = (temporary_path(tmp_path, name, ".npy") for name in "ab")
        for path in (young, old):
            path.touch()
    then = time.time() - ABANDONED_AFTER - 60
    os.utime(old, (then, then))
    (tmp_path / ".hidden.tmp-file").touch()
    write_json(tmp_path / "y.json", {})
    assert young.is_file()
    assert not old.exists()
    assert (tmp_path / ".hidden.tmp-file").exists()


def test_results_have_the_rights_of_other_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "x.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)
        with whole_folder(tmp_path / "folder") as folder:
            (folder / "a").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 4096 bytes within the block; nor may pytest's own output, where that is a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_weights(path: Path) -> None:
    with whole_file(path) as temporary:
        save_file({"a": torch.zeros(9999)}, temporary)


def write_checkpoint(path: Path) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(torch.zeros(9999), file)


WRITERS = {
    "safetensors": write_weights,
    "checkpoint": write_checkpoint,
    "array": lambda path: new_array(path, (100, 100), np.uint8),
    "json": lambda path: write_json(path, ["x"] * 9999),
    "npz": lambda path: write_npz(path, {"a": np.random.default_rng(0).random(9999)}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_too_large_a_file_is_one_sentence(kind: str, fresh_cache: Path) -> None:
    path = fresh_cache / "x" / f"a.{kind}"
    path.parent.mkdir(parents=True)
    message = r"a\.\w+ cannot be written: .*ulimit -f.*GLIMPSE_CACHE\.$"
    with pytest.raises(StorageError, match=message) as raised, small_files():
        WRITERS[kind](path)
    assert raised.value.errno == errno.EFBIG
    if kind == "array":
        assert "10000 bytes are needed" in str(raised.value)
    else:
        assert list(path.parent.iterdir()) == []


def test_a_full_disk_says_how_much_is_needed(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fresh_cache.mkdir()
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageError, match=r"a\.npy cannot be written: 4000 bytes are needed and \d+ bytes are free"):
        new_array(fresh_cache / "a.npy", (10, 100), np.float32)
    monkeypatch.delattr("os.posix_fallocate")  # as on macOS
    assert new_array(fresh_cache / "b.npy", (10, 100), np.float32).shape == (10, 100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3000}))
    with pytest.raises(StorageError, match="4000 bytes are needed and 3000 bytes are free"):
        new_array(fresh_cache / "c.npy", (10, 100), np.float32)


def test_the_room_of_an_array_is_reserved(tmp_path: Path) -> None:
    new_array(tmp_path / "a.npy", (100, 4096), np.uint8)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 100 * 4096


def test_a_folder_that_is_none_or_not_writable_is_named(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_cache.write_text("a file")
    for write in (check_writable, lambda path: write_json(path, {})):
        with pytest.raises(StorageError, match=r"j\.json cannot be written: .*GLIMPSE_CACHE"):
            write(fresh_cache / "judges" / "j.json")

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StorageError, match="Permission denied; choose another folder"):
        write_json(fresh_cache.parent / "runs" / "a.json", {})


def test_other_errors_in_a_block_stay_as_they_are(tmp_path: Path) -> None:
    """An image that may not be read is no fault of the file that is written."""
    with pytest.raises(PermissionError) as raised, whole_file(tmp_path / "a.json"):
        raise PermissionError(errno.EACCES, "Permission denied", "/photos/1.png")
    assert not isinstance(raised.value, StorageError)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_may_be_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", "~/x")
    assert cache_folder() == Path.home() / "x"


def test_damaged_files_are_one_exception(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000))
    content = (tmp_path / "a.npy").read_bytes()
    assert array_is_whole(tmp_path / "a.npy")
    assert not array_is_whole(tmp_path / "none.npy")
    for damage in (b"", content[:60], content[:900], b"\x93NUMPY", b"rubbish" * 40):
        (tmp_path / "a.npy").write_bytes(damage)
        assert not array_is_whole(tmp_path / "a.npy")
        with pytest.raises(ArtifactError, match=r"a\.npy is damaged"):
            load_array(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(1000), b=np.arange(3))
    content = (tmp_path / "a.npz").read_bytes()
    flipped = bytearray(content)
    flipped[100] ^= 255
    pickled = tmp_path / "objects.npy"
    np.save(pickled, np.array([{}], dtype=object))
    for damage in (b"", content[:200], bytes(flipped), b"PK\x03\x04", pickled.read_bytes()):
        (tmp_path / "a.npz").write_bytes(damage)
        with pytest.raises(ArtifactError, match=r"a\.npz is no readable archive"):
            read_npz(tmp_path / "a.npz")
    for text in ("", "[]", "null", '{"a": ', "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"a\.json"):
            read_json(tmp_path / "a.json")
