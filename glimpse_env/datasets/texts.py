"""Files of data sets: regular ones only, and texts with or without a byte order mark."""

import os
import stat
import unicodedata
from pathlib import Path

from glimpse_env.errors import DatasetFormatError, DatasetNotFoundError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def require_regular(path: str | Path) -> os.stat_result:
    """Returns the state of a regular file, or of the one that a link leads to, without opening it.

    Raises:
        DatasetNotFoundError: if it is missing.
        DatasetFormatError: if it cannot be reached, or reading might never end: a named pipe, a device, a socket.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"{path} is gone; make the data set again.") from error
    except (OSError, ValueError) as error:
        raise DatasetFormatError(f"{path} cannot be read ({error}); remove or replace it.") from error
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "a special file")
        raise DatasetFormatError(f"{path} is {kind} and no regular file; remove or replace it.")
    return state


def require_label(name: str) -> str:
    """Returns the name of a class if it is one line of text that can be written down.

    Raises:
        ValueError: saying what is wrong with it.
    """
    bad = next((sign for sign in name if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")), None)
    if bad is not None:
        raise ValueError(f"the name {name!a} of a class has the control sign or half a sign {bad!a}")
    return name


def read_text(path: Path, remedy: str) -> str:
    """Returns the content of a UTF-8 text file without its byte order mark, if it has one.

    Args:
        path: the file.
        remedy: how to get a good one, the end of the error's sentence.

    Raises:
        DatasetNotFoundError: if it is missing.
        DatasetFormatError: if it cannot be read, or is no regular file or no text.
    """
    try:
        require_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:  # DatasetNotFoundError is one
        raise DatasetNotFoundError(f"{path} is missing; {remedy}.") from error
    except UnicodeDecodeError as error:
        raise DatasetFormatError(f"{path}: not a text file ({error}); {remedy}.") from error
    except OSError as error:
        raise DatasetFormatError(f"{path} cannot be read ({error.strerror}); {remedy}.") from error
