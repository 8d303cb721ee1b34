"""Serves the games of a match to browsers."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager

from gymnasium.error import DependencyNotInstalled

from agents.play.match import Match
from agents.play.table import Table
from glimpse_env.checks import whole_number
from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError


@contextmanager
def listening_at(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Yields a socket that listens at an address, and the address of the page; port 0 takes one that is free.

    Raises:
        DependencyNotInstalled: if the server's packages are missing.
        ConfigurationError: if nothing can listen there.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled(
            f"--web needs a server, and importing it failed ({error}): {pip_extra('web')}."
        ) from error
    whole_number("port", port, 0, 65535)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"--host {host} --port {port}: nothing can listen there ({error}); name another port, or 0 for any."
        ) from error
    with listening:
        own, number = listening.getsockname()[:2]
        yield listening, f"http://{f'[{own}]' if ':' in own else own}:{number}/"


def show(address: str) -> None:
    """Opens a browser at an address where there is a screen; elsewhere it would take the terminal."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def serve(match: Match, player: str, listening: socket.socket, host: str) -> None:
    """Serves the games until Ctrl-C, which raises KeyboardInterrupt once all moves that were begun are done.

    Args:
        match: makes and keeps the games.
        player: suggested as the name of a player.
        listening: what :func:`listening_at` yields.
        host: the address that it was asked for.
    """
    import uvicorn

    from agents.play.server import application, known_hosts

    table = Table(match.env, player, match.new_game, match.kept.keep)
    app = application(table, hosts=known_hosts(host), cookie=f"glimpse-{listening.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        table.close()
