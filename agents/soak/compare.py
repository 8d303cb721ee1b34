"""What a working folder holds when its command is finished, without the times in it."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from glimpse_env.files import digest

TIMES = frozenset(
    {"seconds", "policy_seconds", "wall_time", "wall_time_s", "making_s", "start_time", "t", "wall_s", "ep_info_buffer"}
)
"""Keys of JSON objects, and columns of tables, that hold times."""
_SECONDS = re.compile(r"\d+\.\d(?=, \d+/\d+| minutes)")
"""A number of seconds in the benchmark's report, before the share of runs that arrive, and minutes in the paper's."""


def left_behind(folder: Path) -> list[str]:
    """Returns the temporary files and folders below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".tmp-" in path.name)


def contents(folder: Path) -> dict[str, str]:
    """Returns a digest of each finished file below a folder, by its path: of its bytes, but for

    - JSON: without values of :data:`TIMES`, without the digest of SB3's zip, and with the folder's own path replaced;
    - SB3's zip: of its members, of its JSON without times and without pickled objects, which hold addresses;
    - parquet: without columns of :data:`TIMES`;
    - Markdown and HTML: without numbers of seconds and minutes.
    """
    return {
        str(path.relative_to(folder)): digest(_content(path, folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tfevents" not in path.name and path.parent.name != "locks" and ".tmp-" not in path.name
    }


def _content(path: Path, folder: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json":
        return _untimed(content.replace(str(folder).encode(), b"FOLDER"))
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["data"] = _untimed(members["data"])
        return b"".join(name.encode() + members[name] for name in sorted(members))
    if path.suffix == ".parquet":
        import pandas  # an optional package

        frame = pandas.read_parquet(io.BytesIO(content))
        return bytes(frame.drop(columns=[name for name in frame if name in TIMES]).to_json(), "utf-8")
    if path.suffix in (".md", ".html"):
        return _SECONDS.sub("", content.decode("utf-8")).encode()
    return content


def _untimed(content: bytes) -> bytes:
    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(one) for one in value]
        if not isinstance(value, dict) or ":serialized:" in value:
            return None if isinstance(value, dict) else value
        return {key: without(one) for key, one in value.items() if key not in TIMES and key != "zip"}

    return json.dumps(without(json.loads(content))).encode()
