"""JSON files and fingerprints."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files.whole import whole_file


def write_json(path: str | Path, content: Any) -> None:
    """Writes ``content`` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def refuse_special(path: Path) -> None:
    """Checks that a file is no pipe, device or socket, from which reading might never end.

    Raises:
        FileNotFoundError: if there is no file.
        ArtifactError: if it is one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ArtifactError(f"{path} is no regular file but a pipe, a device or a socket; name another one.")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, with or without a byte order mark.

    Raises:
        FileNotFoundError: if there is no file.
        ArtifactError: if it holds none.
    """
    try:
        refuse_special(path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ArtifactError:
        raise
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds no JSON object but {type(content).__name__}.")
    return content


def card_path(path: Path) -> Path:
    """Returns where the card goes that describes a file: beside it, with the suffix ``.json``.

    Raises:
        ConfigurationError: if that is the file itself.
    """
    card = path.with_suffix(".json")
    if card == path:
        raise ConfigurationError(f"{path} cannot end in .json, as its description goes there; choose another suffix.")
    return card


def digest(*parts: Any) -> str:
    """Computes a 16-digit hexadecimal fingerprint of JSON values, bytes and arrays (by shape, dtype and content)."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bytes):
            state.update(part)
        elif hasattr(part, "tobytes"):
            state.update(f"{part.shape}{part.dtype}".encode())
            state.update(part.tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True).encode())
        state.update(b"\0")
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """Computes a 32-digit hexadecimal fingerprint of a file's bytes.

    Raises:
        ArtifactError: if it is no regular file.
    """
    refuse_special(path)
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
