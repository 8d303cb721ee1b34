"""Files and folders are whole or not there, say what a full disk lacks, and leave nothing behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
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
    file_digest,
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("write", [check_writable, lambda path: write_json(path, {})], ids=["check", "write"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, write: Callable[[Path], object]) -> None:
    """A rename over /dev/null would break the machine of whoever may do that."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("folder")
    before = {path.name: path.lstat().st_ino for path in tmp_path.iterdir()}
    for name in before:
        told = (
            "Is a directory" if name in ("folder", "linked") else "is a device, a pipe or a socket and is not replaced"
        )
        with pytest.raises(StorageError, match=told):
            write(tmp_path / name)
    assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == before


def test_a_name_that_is_too_long_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: File name too long"):
        check_writable(tmp_path / ("x" * 300 + ".npz"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_where_no_folder_can_be_made_another_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", "/proc/nowhere/cache")
    with pytest.raises(StorageError, match=r"a\.json cannot be written: .*GLIMPSE_CACHE"):
        write_json(cache_folder() / "a.json", {})


def test_other_errors_in_a_block_stay_as_they_are(tmp_path: Path) -> None:
    """An image that may not be read is no fault of the file that is written."""
    with pytest.raises(PermissionError) as raised, whole_file(tmp_path / "a.json"):
        raise PermissionError(errno.EACCES, "Permission denied", "/photos/1.png")
    assert not isinstance(raised.value, StorageError)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_may_be_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", "~/x")
    assert cache_folder() == Path.home() / "x"
    monkeypatch.setenv("GLIMPSE_CACHE", "~nobody-at-all/x")
    with pytest.raises(StorageError, match="GLIMPSE_CACHE=~nobody-at-all/x is below a home that nobody has"):
        cache_folder()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("read", [read_json, read_npz, file_digest], ids=lambda read: read.__name__)
def test_files_from_which_reading_might_never_end_are_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(ArtifactError, match=f"{name} is no regular file"):
            read(tmp_path / name)


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(tmp_path / "a.json") == {"a": 1}


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
    with zipfile.ZipFile(tmp_path / "no arrays", "w") as archive:
        archive.writestr("a.npy", b"no array")
    pickled = tmp_path / "objects.npy"
    np.save(pickled, np.array([{}], dtype=object))
    for damage in (
        b"",
        content[:200],
        bytes(flipped),
        b"PK\x03\x04",
        pickled.read_bytes(),
        (tmp_path / "no arrays").read_bytes(),
    ):
        (tmp_path / "a.npz").write_bytes(damage)
        with pytest.raises(ArtifactError, match=r"a\.npz is no readable archive"):
            read_npz(tmp_path / "a.npz")
    for text in ("", "[]", "null", '{"a": ', "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"a\.json"):
            read_json(tmp_path / "a.json")
