"""Downloads from a server on the loopback: checksums, resuming, unpacking, doing nothing twice."""

import errno
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from glimpse_env.datasets import download as module
from glimpse_env.datasets.cub import CUB200
from glimpse_env.datasets.digits import ClutteredMNIST
from glimpse_env.datasets.download import REGISTRY, Remote, download
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError, StorageError
from glimpse_env.files.whole import temporary_path
from tests.support.tiny_data import write_tiny_cub, write_tiny_mnist


class Server(ThreadingHTTPServer):
    """Serves ``files``; remembers each request's path and Range."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True
        """Whether Range requests are honoured."""
        self.cut_after: int | None = None
        """Bytes after which the next answer breaks off, once."""
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.requests.append((self.path, wanted))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end, server.cut_after = server.cut_after, None
        self.wfile.write(content[start:][:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits before it tries again
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def archive(members: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A gzipped tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in others:
            tar.addfile(member)
    return buffer.getvalue()


def serve_cub(server: Server, content: bytes) -> dict[str, Remote]:
    server.files["/CUB_200_2011.tgz"] = content
    return {"cub": Remote(server.url, {"CUB_200_2011.tgz": md5(content)}, "CUB_200_2011", "images.txt")}


@pytest.fixture
def cub(server: Server, tmp_path: Path) -> dict[str, Remote]:
    """A registry of the tiny birds, packed like the real ones: with another file beside the folder."""
    folder = write_tiny_cub(tmp_path / "published")
    members = {str(path.relative_to(folder.parent)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return serve_cub(server, archive({**members, "attributes.txt": b"1 has_bill_shape"}))


@pytest.fixture
def mnist(server: Server, tmp_path: Path) -> dict[str, Remote]:
    folder = write_tiny_mnist(tmp_path / "published")
    server.files.update({f"/{path.name}": path.read_bytes() for path in folder.iterdir()})
    checksums = {name.removeprefix("/"): md5(content) for name, content in server.files.items()}
    return {"mnist": Remote(server.url, checksums, "mnist")}


def test_birds_are_fetched_and_unpacked(cub: dict[str, Remote], tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = download("cub", root, registry=cub)
    assert folder == root / "CUB_200_2011"
    assert CUB200(root).fingerprint == CUB200(tmp_path / "published").fingerprint
    assert sorted(path.name for path in root.iterdir()) == ["CUB_200_2011"], "the archive is left behind"


def test_digits_are_fetched(mnist: dict[str, Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_DATA", str(tmp_path / "root"))
    folder = download("mnist", registry=mnist)
    assert folder == tmp_path / "root" / "mnist"
    assert ClutteredMNIST().fingerprint == ClutteredMNIST(tmp_path / "published").fingerprint
    assert sorted(path.name for path in folder.iterdir()) == sorted(mnist["mnist"].checksums)


@pytest.mark.parametrize("name", ["cub", "mnist"])
def test_a_second_call_does_nothing_and_says_so(
    name: str,
    server: Server,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    registry = request.getfixturevalue(name)
    folder = download(name, tmp_path / "root", registry=registry)
    assert f"{name} is now in {folder}" in caplog.text
    server.requests.clear()
    assert download(name, tmp_path / "root", registry=registry) == folder
    assert server.requests == []
    assert f"{name} is already in {folder}" in caplog.text


def test_only_what_is_missing_or_damaged_is_fetched(mnist: dict[str, Remote], server: Server, tmp_path: Path) -> None:
    folder = download("mnist", tmp_path / "root", registry=mnist)
    server.requests.clear()
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    download("mnist", tmp_path / "root", registry=mnist)
    assert {path for path, _ in server.requests} == {
        "/t10k-labels-idx1-ubyte.gz",
        "/train-labels-idx1-ubyte.gz",
    }
    assert ClutteredMNIST(folder).fingerprint == ClutteredMNIST(tmp_path / "published").fingerprint


def test_a_mirror_is_a_folder_or_the_archive_itself(cub: dict[str, Remote], server: Server, tmp_path: Path) -> None:
    server.files = {"/mirror/CUB_200_2011.tgz": server.files["/CUB_200_2011.tgz"]}
    for number, url in enumerate(("mirror", "mirror/", "mirror/CUB_200_2011.tgz")):
        assert CUB200(download("cub", tmp_path / str(number), f"{server.url}/{url}", cub)).size("train") == 12


@pytest.mark.parametrize("ranges", [True, False])
def test_a_partial_download_is_continued_where_the_server_can(
    cub: dict[str, Remote], server: Server, tmp_path: Path, ranges: bool
) -> None:
    content = server.files["/CUB_200_2011.tgz"]
    (tmp_path / "CUB_200_2011.tgz.part").write_bytes(content[:1000])
    server.ranges = ranges
    assert CUB200(download("cub", tmp_path, registry=cub)).size("train") == 12
    assert server.requests == [("/CUB_200_2011.tgz", "bytes=1000-")]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    cub: dict[str, Remote], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 111)
    server.cut_after = 777
    assert CUB200(download("cub", tmp_path, registry=cub)).size("train") == 12
    assert server.requests == [("/CUB_200_2011.tgz", None), ("/CUB_200_2011.tgz", "bytes=777-")]


def test_an_interrupted_download_is_kept_for_the_next_call(
    cub: dict[str, Remote], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, **options: object) -> None: ...

        def __enter__(self) -> "Interrupted":
            return self

        def __exit__(self, *error: object) -> None: ...

        def update(self, count: int) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "BLOCK", 500)
    with monkeypatch.context() as patch:
        patch.setattr(module, "tqdm", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            download("cub", tmp_path / "root", registry=cub)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["CUB_200_2011.tgz.part"]
    download("cub", tmp_path / "root", registry=cub)
    assert server.requests[1:] == [("/CUB_200_2011.tgz", "bytes=500-")]


def test_a_partial_file_that_is_too_long_is_fetched_anew(
    cub: dict[str, Remote], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "CUB_200_2011.tgz.part").write_bytes(server.files["/CUB_200_2011.tgz"] + b"more")
    assert CUB200(download("cub", tmp_path, registry=cub)).size("train") == 12
    assert [wanted is None for _, wanted in server.requests] == [False, True]


def test_a_partial_file_of_something_else_is_fetched_anew(
    cub: dict[str, Remote], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "CUB_200_2011.tgz.part").write_bytes(b"something else")
    assert CUB200(download("cub", tmp_path, registry=cub)).size("train") == 12
    assert [wanted for _, wanted in server.requests] == ["bytes=14-", None]


@pytest.mark.parametrize("name", ["cub", "mnist"])
def test_another_checksum_is_refused_with_a_remedy(
    name: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    registry = request.getfixturevalue(name)
    file = next(iter(registry[name].checksums))
    server.files[f"/{file}"] = b"<html>please log in</html>"
    with pytest.raises(DatasetFormatError, match=r"does not match the known hash.*try again") as caught:
        download(name, tmp_path / "root", registry=registry)
    assert f"{server.url}/{file}" in str(caught.value)
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == []


def test_a_file_that_the_server_lacks_is_named(mnist: dict[str, Remote], server: Server, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(DatasetNotFoundError, match=r"404.*--url") as caught:
        download("mnist", tmp_path / "root", registry=mnist)
    assert f"{server.url}/{next(iter(mnist['mnist'].checksums))}" in str(caught.value)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def pipe(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member


GOOD = {"CUB_200_2011/images.txt": b"1 a.jpg\n"}


@pytest.mark.parametrize(
    "content",
    [
        archive({**GOOD, "../escaped": b"!"}),
        archive({**GOOD, "CUB_200_2011/../../../escaped": b"!"}),
        archive(GOOD, link("CUB_200_2011/out", "../../escaped")),
        archive(GOOD, link("CUB_200_2011/out", "/etc/passwd")),
        archive(GOOD, link("CUB_200_2011/within", "images.txt")),
        archive({**GOOD, "/CUB_200_2011/absolute": b"!"}),
        archive({**GOOD, "C:\\escaped": b"!"}),
        archive(GOOD, link("CUB_200_2011/out", "../escaped", tarfile.LNKTYPE)),
        archive(GOOD, pipe("CUB_200_2011/pipe")),
        archive({**GOOD, "CUB_200_2011/images.txt/below": b"!"}),
        archive({"CUB_200_2011/images.txt/below": b"!", **GOOD}),
        archive(GOOD)[:-20],
        b"no archive",
    ],
    ids=[
        "parent",
        "nested-parent",
        "symlink",
        "absolute-symlink",
        "symlink-within",
        "absolute",
        "drive",
        "hardlink",
        "pipe",
        "file-then-folder",
        "folder-then-file",
        "truncated",
        "no-archive",
    ],
)
def test_archives_that_are_not_safe_are_refused(server: Server, tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "a" / "b" / "root"
    with pytest.raises(DatasetFormatError, match=r"(?s)cannot be unpacked safely.*fetch it") as caught:
        download("cub", root, registry=serve_cub(server, content))
    assert str(root / "CUB_200_2011.tgz") in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "root", "CUB_200_2011.tgz"]


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 99), ("MAX_MEMBERS", 2)])
def test_archives_that_unpack_to_too_much_are_refused(
    server: Server, tmp_path: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, value)
    registry = serve_cub(server, archive({**GOOD, "CUB_200_2011/a": bytes(50), "CUB_200_2011/b": bytes(50)}))
    with pytest.raises(DatasetFormatError, match="holds more than"):
        download("cub", tmp_path / "root", registry=registry)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["CUB_200_2011.tgz"]


def test_a_full_disk_and_what_a_killed_one_unpacked(
    cub: dict[str, Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    root = tmp_path / "root"
    left = root / temporary_path(root, "CUB_200_2011").name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    left.mkdir(parents=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(StorageError, match=r"CUB_200_2011 cannot be written: .* bytes are free"):
            download("cub", root, registry=cub)
    assert [path.name for path in root.iterdir()] == ["CUB_200_2011.tgz"]
    assert (download("cub", root, registry=cub) / "images.txt").is_file()


def test_an_archive_of_something_else_is_refused(server: Server, tmp_path: Path) -> None:
    registry = serve_cub(server, archive({"CUB_200_2010/images.txt": b""}))
    with pytest.raises(DatasetFormatError, match=r"holds no CUB_200_2011/images\.txt"):
        download("cub", tmp_path, registry=registry)


def test_another_folder_in_the_way_is_left_alone(cub: dict[str, Remote], server: Server, tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").mkdir()
    with pytest.raises(DatasetFormatError, match="move it away"):
        download("cub", tmp_path, registry=cub)
    assert server.requests == []


def test_unknown_data_sets_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cub, mnist"):
        download("imagenet")


def script() -> ModuleType:
    path = Path(__file__).parents[3] / "scripts" / "download_data.py"
    spec = importlib.util.spec_from_file_location("download_data", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_script_hands_its_arguments_on(
    mnist: dict[str, Remote], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download_data = script()
    monkeypatch.setitem(REGISTRY, "mnist", Remote("http://127.0.0.1:9", mnist["mnist"].checksums, "mnist"))
    download_data.main(download_data.Args("mnist", root=str(tmp_path), url=server.url))
    np.testing.assert_array_equal(ClutteredMNIST(tmp_path).load("test").labels, np.arange(40) % 10)
