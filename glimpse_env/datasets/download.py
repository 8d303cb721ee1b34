"""Fetches the published data sets: against pinned checksums, resumed, and unpacked whole or not at all."""

import gzip
import logging
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pooch
import requests
from tqdm.auto import tqdm

from glimpse_env.datasets.base import data_root
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import temporary_folder
from glimpse_env.files.storage import storage_errors

logger = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds to wait for a server's answer."""
BLOCK = 1 << 16
"""Bytes written at a time."""
MAX_BYTES, MAX_MEMBERS = 8 << 30, 1_000_000
"""Most bytes and most files and folders that are unpacked of an archive; CUB-200-2011 has 1.2e9 and 12 000."""


@dataclass(frozen=True)
class Remote:
    """A published data set."""

    base_url: str
    """Address of the folder that has the files."""
    checksums: Mapping[str, str]
    """Checksums by file name, as ``"md5:..."``."""
    folder: str
    """Folder of the data set below the data root."""
    unpacked: str | None = None
    """Name of a file that must be in ``folder``, where the one remote file is a tar archive of it; else None."""


REGISTRY: Mapping[str, Remote] = {
    "cub": Remote(
        base_url="https://data.caltech.edu/records/65de6-vp158/files",
        checksums={"CUB_200_2011.tgz": "md5:97eceeb196236b17998738112f37df78"},
        folder="CUB_200_2011",
        unpacked="images.txt",
    ),
    "mnist": Remote(
        base_url="https://ossci-datasets.s3.amazonaws.com/mnist",
        checksums={
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
        folder="mnist",
    ),
}


def download(
    name: str,
    root: str | Path | None = None,
    url: str | None = None,
    registry: Mapping[str, Remote] = REGISTRY,
) -> Path:
    """Fetches a data set unless it is there already.

    An interrupted download leaves ``*.part`` files, which the next call continues where the server can.

    Args:
        name: the data set, a key of ``registry``.
        root: folder to put it in; default ``GLIMPSE_DATA``, else a per-user cache folder.
        url: a mirror: the folder that has the same files, or the archive itself; default the publisher's.
        registry: the data sets that can be fetched.

    Returns:
        The data set's folder.

    Raises:
        ConfigurationError: if there is no such data set.
        DatasetNotFoundError: if the server does not give a file.
        DatasetFormatError: if a file has another checksum than the published one, an archive is damaged or
            would write outside its folder, or another folder is in the way.
        StorageError: if the disk is full, or the folder cannot be written to.
    """
    if name not in registry:
        raise ConfigurationError(f"dataset={name!r} must be one of {', '.join(registry)}.")
    remote = registry[name]
    target = data_root(root) / remote.folder
    base_url = (url or remote.base_url).rstrip("/")
    if remote.unpacked is None:
        missing = [file for file, checksum in remote.checksums.items() if not _matches(target / file, checksum)]
        for file in missing:
            _fetch(base_url, file, remote.checksums[file], target)
    else:
        missing = [] if (target / remote.unpacked).is_file() else list(remote.checksums)
        if missing and target.exists():
            raise DatasetFormatError(f"{target} is there without {remote.unpacked}; move it away and try again.")
        for file in missing:
            archive = _fetch(base_url.removesuffix(f"/{file}"), file, remote.checksums[file], target.parent)
            extract(archive, target, remote.unpacked)
            archive.unlink()
    logger.info("%s is %s %s", name, "now in" if missing else "already in", target)
    return target


def extract(archive: Path, target: Path, proof: str) -> None:
    """Unpacks the folder ``target.name`` of a tar archive to ``target``, whole or not at all.

    Args:
        archive: compressed or not.
        target: must not exist.
        proof: name of a file that the folder must have.

    Raises:
        DatasetFormatError: if the archive is damaged, has no such folder, unpacks to more than :data:`MAX_BYTES`
            or :data:`MAX_MEMBERS`, or a member would be written elsewhere or is neither a file nor a folder.
    """
    remedy = "delete it and fetch it from the publisher, without --url"
    with temporary_folder(target) as temporary:
        try:
            with tarfile.open(archive) as tar:
                _unpack(tar, temporary)
        except (
            *(tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, EOFError, ValueError, zlib.error),
            *(FileExistsError, NotADirectoryError, IsADirectoryError),  # a name is a file and a folder
        ) as error:
            raise DatasetFormatError(f"{archive} cannot be unpacked safely ({error}); {remedy}.") from error
        folder = temporary / target.name
        if not (folder / proof).is_file():
            raise DatasetFormatError(f"{archive} holds no {target.name}/{proof}; {remedy}.")
        os.rename(folder, target)


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpacks files and folders; a ValueError says what is not safe. Rights, owners and times are left behind."""
    total = 0
    for count, member in enumerate(tar, start=1):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or PureWindowsPath(member.name).drive:
            raise ValueError(f"{member.name!r} leads out of the folder")
        if not member.isreg() and not member.isdir():
            raise ValueError(f"{member.name!r} is neither a file nor a folder")
        total += member.size
        if total > MAX_BYTES or count > MAX_MEMBERS:
            raise ValueError(f"it holds more than {MAX_BYTES} bytes or {MAX_MEMBERS} members")
        target = folder / path
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        with content, open(target, "wb") as file:
            shutil.copyfileobj(content, file)


def _matches(path: Path, checksum: str) -> bool:
    algorithm, _, expected = checksum.partition(":")
    return path.is_file() and pooch.file_hash(path, alg=algorithm) == expected


def _fetch(base_url: str, file: str, checksum: str, folder: Path) -> Path:
    fetcher = pooch.create(path=folder, base_url=f"{base_url}/", registry={file: checksum}, retry_if_failed=1)
    try:
        with storage_errors(folder / file, folder):
            return Path(fetcher.fetch(file, downloader=_Resuming(folder / f"{file}.part")))
    except requests.RequestException as error:
        raise DatasetNotFoundError(
            f"{base_url}/{file} could not be fetched ({error}); try again, which continues a download cut "
            "short, or name a mirror with --url."
        ) from error
    except ValueError as error:
        raise DatasetFormatError(
            f"{base_url}/{file} is not the published file ({error}); try again, or name another mirror with --url."
        ) from error


class _Resuming:
    """A downloader for pooch that keeps what it has when a download breaks off, and continues it later."""

    def __init__(self, part: Path) -> None:
        self.part = part

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: pooch.Pooch | None) -> None:
        """Writes ``url`` to ``output_file``.

        Raises:
            requests.RequestException: if the server does not give the whole file.
        """
        have = self.part.stat().st_size if self.part.is_file() else 0
        with self._request(url, have) as response:
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0  # the server sends all of it
            rest = int(response.headers.get("Content-Length", 0))
            with (
                self.part.open("ab" if have else "wb") as part,
                tqdm(total=have + rest or None, initial=have, desc=self.part.stem, unit="B", unit_scale=True) as bar,
            ):
                for block in response.iter_content(BLOCK):
                    bar.update(part.write(block))
        os.replace(self.part, output_file)

    def _request(self, url: str, have: int) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}  # bytes as published: a .gz file stays one
        if have:
            headers["Range"] = f"bytes={have}-"
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            response.close()
            return self._request(url, 0)
        return response
