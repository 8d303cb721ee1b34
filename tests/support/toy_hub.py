"""A small server on the loopback that speaks what huggingface_hub asks of the Hub for a push and a pull."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.toy_xet import ToyXet

TOKEN = "hf_toy"
LFS = (".safetensors", ".npz", ".png", ".gif")
"""Suffixes of the files that are uploaded apart from the commit."""


@dataclass
class Repo:
    """A repository with one branch."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    messages: list[str] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that are in the Xet store; ``files`` has nothing in their places."""

    @property
    def sha(self) -> str:
        """The commit's name, which every commit and file changes."""
        return hashlib.sha1(repr((self.messages, sorted(self.files.items()))).encode()).hexdigest()


@dataclass
class ToyHub:
    """The repositories of the server, by type and name like ``"models/me/agent"``."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """What was uploaded apart from commits, by its SHA-256."""
    lfs: tuple[str, ...] = LFS
    """Suffixes of the files that are to be uploaded apart from commits."""
    fetched: list[str] = field(default_factory=list)
    """Names of the files that were downloaded."""
    xet: ToyXet = field(default_factory=ToyXet)


class Handler(BaseHTTPRequestHandler):
    """Answers one request; the server's ``hub`` holds the state."""

    hub: ToyHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self._stored(path, body):
            return None
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid user token."}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
            there = name in self.hub.repos
            private = asked.get("visibility") == "private" or asked.get("private") is True  # as versions 2 and 1 say
            self.hub.repos.setdefault(name, Repo(private=private))
            url = f"{self.hub.url}/{name.removeprefix('models/')}"
            return self._json({"url": url, "error": "You already created this repo"}, 409 if there else 200)
        if path.endswith(".git/info/lfs/objects/batch"):
            upload = {
                one["oid"]: {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
                for one in json.loads(body)["objects"]
            }
            objects = [
                {"oid": one["oid"], "size": one["size"], "actions": upload[one["oid"]]}
                for one in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        match = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)/(preupload|commit)/main", path)
        if match is None or match[1] not in self.hub.repos:
            return self._missing()
        repo = self.hub.repos[match[1]]
        if match[2] == "preupload":
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(self.hub.lfs) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": modes})
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repo.messages.append(value["summary"])
            elif entry["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile" and value["oid"] in self.hub.xet.names:
                repo.files[value["path"]], repo.stored[value["path"]] = b"", value["oid"]
            elif entry["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.objects[value["oid"]]
        url = f"{self.hub.url}/{match[1].removeprefix('models/')}/commit/{repo.sha}"
        return self._json({"success": True, "commitUrl": url, "commitOid": repo.sha})

    def do_PUT(self) -> None:
        body = self._body()
        oid = hashlib.sha256(body).hexdigest()
        assert self.path == f"/lfs/{oid}"
        self.hub.objects[oid] = body
        self._json({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self._stored(path):
            return None
        if path == "/api/datasets":
            asked = parse_qs(urlsplit(self.path).query)
            names = [
                name.partition("/")[2] for name in self.hub.repos if name.startswith(f"datasets/{asked['author'][0]}/")
            ]
            names = [name for name in names if asked.get("search", [""])[0] in name]
            return self._json([{"id": name, "tags": [], "private": False} for name in names])
        match = re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/(revision|tree)/(\w+))?", path)
        if match is not None:
            repo = self._repo(match[1])
            if repo is None or match[3] not in (None, "main", repo.sha):
                return self._missing()
            files = [{"rfilename": name} for name in repo.files]
            if match[2] == "tree":
                return self._json(
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in repo.files.items()
                    ]
                )
            name = match[1].partition("/")[2]
            return self._json({"id": name, "sha": repo.sha, "siblings": files, "tags": [], "private": repo.private})
        match = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", path)
        repo = None if match is None else self._repo(f"{'datasets' if match[1] else 'models'}/{match[2]}")
        if match is None or repo is None:
            return self._missing()
        if match[4] not in repo.files:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        content = repo.files[match[4]]
        if self.command == "GET":
            self.hub.fetched.append(match[4])
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if match[4] in repo.stored:  # to be asked of the store
            sha256, kind = repo.stored[match[4]], "datasets" if match[1] else "models"
            headers |= {
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(self.hub.xet.size(sha256)),
                "X-Xet-Hash": self.hub.xet.names[sha256],
                "X-Xet-Refresh-Route": f"{self.hub.url}/api/{kind}/{match[2]}/xet-read-token/{match[3]}",
            }
        return self._answer(content, 200, "application/octet-stream", headers)

    def _stored(self, path: str, body: bytes = b"") -> bool:
        """Answers what is asked of the Xet store; returns whether it was."""
        content = self.hub.xet.answer(path, body, self.hub.url)
        if content is not None:
            headers, part = {}, "/xorbs/" in path and self.command == "GET"
            if part:  # which is all of it
                headers = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
            elif "-token/" in path:
                info = json.loads(content)
                headers = {"X-Xet-Cas-Url": info["casUrl"], "X-Xet-Access-Token": info["accessToken"]}
                headers |= {"X-Xet-Token-Expiration": str(info["exp"])}
            self._answer(content, 206 if part else 200, "application/json", headers)
        elif path.startswith(("/v1/", "/v2/")):  # newer ways, in place of which hf_xet takes others
            self._json({"error": "Not found"}, 404)
        return content is not None or path.startswith(("/v1/", "/v2/"))

    def _repo(self, name: str) -> Repo | None:
        """The repository of that name, where the asker may see it."""
        repo = self.hub.repos.get(name)
        hidden = repo is not None and repo.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        return None if hidden else repo

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _missing(self) -> None:
        self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _json(self, content: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(content).encode(), code, "application/json", headers or {})

    def _answer(self, content: bytes, code: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def use_hub(hub: ToyHub, patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Makes huggingface_hub talk to a hub, as HF_ENDPOINT and HF_TOKEN do before it is imported."""
    from huggingface_hub import _commit_api, constants

    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(_commit_api, "is_xet_available", lambda: False)  # its store is another server
    patch.setenv("HF_TOKEN", TOKEN)


@contextmanager
def toy_hub() -> Iterator[ToyHub]:
    """Serves an empty hub on a free port of the loopback."""
    hub = ToyHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
