"""The server of the game: what it answers to which request, and what it refuses."""

import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.play.keeping import checked_player
from agents.play.table import RefusedError, Table
from glimpse_env.errors import ConfigurationError

FILES = {
    "/": ("index.html", "text/html"),
    "/play.css": ("play.css", "text/css"),
    "/play.js": ("play.js", "text/javascript"),
}
PAGE = Path(__file__).with_name("page")
MAX_BODY = 4096
"""Bytes of a request, at most."""
MAX_WAIT = 10.0
"""Seconds that a request may take to arrive."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def application(table: Table, *, hosts: frozenset[str] | None, cookie: str = "glimpse") -> Starlette:
    """Returns the server's application.

    Args:
        table: its games.
        hosts: names that requests may call the server by, in lower case; None for any address in numbers as well as
            ``localhost``.
        cookie: name of the cookie that tells players apart.
    """
    fields: dict[str, dict[str, type]] = {
        "look": {"image": int, "step": int, "location": int},
        "stop": {"image": int, "step": int},
        "map": {"image": int, "step": int, "shown": bool},
        "next": {"image": int, "step": int},
    }

    async def state(request: Request) -> Response:
        token = request.cookies.get(cookie)
        return JSONResponse(await table.run(lambda: table.state(token)))

    async def begin(request: Request) -> Response:
        values = await _values(request, {"player": str})
        try:
            player = checked_player(values["player"])
        except ConfigurationError as error:
            raise RefusedError(422, str(error)) from error
        known = request.cookies.get(cookie)
        token = known if known in table.seats else secrets.token_urlsafe(24)
        response = JSONResponse(await table.run(lambda: table.begin(token, player)))
        response.set_cookie(cookie, token, httponly=True, samesite="strict")
        return response

    async def move(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in fields:
            raise RefusedError(404, "There is nothing at this address.")
        values, token = await _values(request, fields[name]), request.cookies.get(cookie, "")
        return JSONResponse(await table.run(lambda: table.move(token, name, values)))

    routes = [Route(path, _file(*file)) for path, file in FILES.items()]
    routes += [
        Route("/api/game", state, methods=["GET"]),
        Route("/api/begin", begin, methods=["POST"]),
        Route("/api/{name}", move, methods=["POST"]),
    ]
    refused: Any = _refused
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: refused, RefusedError: refused, 500: refused},
    )


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return Response((PAGE / name).read_bytes(), media_type=kind)

    return send


async def _values(request: Request, fields: dict[str, type]) -> dict[str, Any]:
    """Returns the fields of a request's JSON object.

    Raises:
        RefusedError: if it is none, or has not exactly these fields of these types.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "Send JSON, with Content-Type: application/json.")
    body = b""
    try:
        with anyio.fail_after(MAX_WAIT):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise RefusedError(413, f"The request has more than {MAX_BODY} bytes.")
    except TimeoutError as error:
        raise RefusedError(408, f"The request took longer than {MAX_WAIT:g} seconds to arrive.") from error
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "The request is no JSON.") from error
    fits = isinstance(values, dict) and values.keys() == fields.keys()
    if not fits or any(type(values[name]) is not kind for name, kind in fields.items()):
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in fields.items())
        raise RefusedError(422, f"The request must be a JSON object of {wanted}.")
    return values


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        return JSONResponse({"error": error.sentence}, error.status)
    if isinstance(error, HTTPException):
        sentences = {404: "There is nothing at this address.", 405: "This address takes another method."}
        return JSONResponse({"error": sentences.get(error.status_code, error.detail)}, error.status_code, error.headers)
    return JSONResponse({"error": "The server made a mistake, which its terminal tells of."}, 500)


class Guard:
    """Refuses requests that other pages sent or that call the server by a foreign name, and adds headers to answers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        sentence = self._refusal(Headers(scope=scope))
        if sentence is None:
            await self.app(scope, receive, send_with_headers)
        else:
            await JSONResponse({"error": sentence}, 403)(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._known(hostname(host)):
            return f"This server is not called {host[:100]!r}; use the address that its terminal shows."
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return "Another page sent this request; use the address that the server's terminal shows."
        return None

    def _known(self, name: str) -> bool:
        if self.hosts is not None:
            return name in self.hosts
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost"
        return True


def hostname(host: str) -> str:
    """Returns the name in a Host header, in lower case, without port and brackets; empty where it is none."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d*)?", host.strip().lower())
    return "" if match is None else match[1] or match[2]


def known_hosts(host: str) -> frozenset[str] | None:
    """Returns the names by which a server that listens at ``host`` may be called, see :func:`application`."""
    loopback = frozenset({"localhost", "127.0.0.1", "::1"})
    if host in loopback:
        return loopback
    try:
        anywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        anywhere = False
    return None if anywhere else loopback | {host.lower()}
