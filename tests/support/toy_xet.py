"""The part of Xet, where the Hugging Face Hub stores files, that an upload and a download by hf_xet need.

Files are cut into chunks, which are packed into xorbs; a shard says which chunks of which xorbs a file has.
"""

import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any

TOKENS = re.compile(r"/api/(?:models|datasets)/[^/]+/[^/]+/xet-(?:read|write)-token/\w+")


@dataclass(frozen=True)
class Term:
    """A part of a file: chunks of one xorb."""

    xorb: str
    bytes: int
    first: int
    last: int
    """Number of the chunk behind the part."""


@dataclass
class ToyXet:
    """A store that keeps xorbs as they come, and gives them out whole."""

    xorbs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, list[Term]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Xet's name of a file by its SHA-256."""

    def size(self, sha256: str) -> int:
        """Bytes of a file."""
        return sum(term.bytes for term in self.files[self.names[sha256]])

    def answer(self, path: str, body: bytes, url: str) -> bytes | None:
        """What a request is answered, JSON or a xorb; None where it is not known."""
        if TOKENS.fullmatch(path):
            return _json({"casUrl": url, "accessToken": "xet", "exp": 2**33})
        kind, _, name = path.removeprefix("/v1/").partition("/")
        name = name.rpartition("/")[2]
        if not path.startswith("/v1/"):
            return None
        if kind == "xorbs" and body:
            self.xorbs[name] = body
            return _json({"was_inserted": True})
        if kind == "xorbs":
            return self.xorbs.get(name)
        if kind == "shards":
            self._read_shard(body)
            return _json({"result": 1})
        if kind == "reconstructions" and name in self.files:
            return _json(self._reconstruction(self.files[name], url))
        return None

    def _read_shard(self, shard: bytes) -> None:
        at = 48
        while shard[at : at + 32] != b"\xff" * 32:
            name, (flags, count) = _hash(shard[at:]), struct.unpack_from("<II", shard, at + 32)
            rows = range(at + 48, at + 48 * (count + 1), 48)
            self.files[name] = [Term(_hash(shard[row:]), *struct.unpack_from("<4x3I", shard, row + 32)) for row in rows]
            at += 48 * (1 + count + count * (flags >> 31))  # besides the parts, digests of them
            self.names[_hash(shard[at:])] = name
            at += 48

    def _reconstruction(self, terms: list[Term], url: str) -> dict[str, Any]:
        whole = {
            term.xorb: [
                {
                    "range": {"start": 0, "end": _chunks(self.xorbs[term.xorb])},
                    "url": f"{url}/v1/xorbs/default/{term.xorb}",
                    "url_range": {"start": 0, "end": len(self.xorbs[term.xorb]) - 1},
                }
            ]
            for term in terms
        }
        parts = [
            {"hash": term.xorb, "unpacked_length": term.bytes, "range": {"start": term.first, "end": term.last}}
            for term in terms
        ]
        return {"offset_into_first_range": 0, "terms": parts, "fetch_info": whole}


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _hash(raw: bytes) -> str:
    """A hash as it is written: the bytes of each of its four numbers from the last to the first."""
    return "".join(raw[k : k + 8][::-1].hex() for k in range(0, 32, 8))


def _chunks(xorb: bytes) -> int:
    """The number of chunks in a xorb, each behind a header with its packed size."""
    at = count = 0
    while at < len(xorb):
        at += 8 + int.from_bytes(xorb[at + 1 : at + 4], "little")
        count += 1
    return count
