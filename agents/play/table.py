"""All games of a server, one for each player."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agents.play.game import Game
from agents.play.view import view

MAX_GAMES = 64
"""Games at a time."""
IDLE = 3600.0
"""Seconds without a request after which a game gives way to a new one, where there are :data:`MAX_GAMES`."""


class RefusedError(Exception):
    """What a player asked for cannot be done; nothing has changed.

    Args:
        status: of the answer, as HTTP has it.
        sentence: what is wrong.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass
class Seat:
    """A player's place at the table."""

    player: str
    game: Game
    used: float = field(default_factory=time.monotonic)
    """Time of the last request."""


class Table:
    """All games of a server. They are played in one thread, one request after the other, as they share the oracle.

    Args:
        title: of the page: the environment.
        player: suggested as the name of a player.
        new_game: makes the game of a player.
        keep: keeps the rounds of a game that were not kept yet.
    """

    def __init__(self, title: str, player: str, new_game: Callable[[str], Game], keep: Callable[[Game, str], None]):
        self.title, self.player, self._new_game, self._keep = title, player, new_game, keep
        self.seats: dict[str, Seat] = {}
        self._thread = ThreadPoolExecutor(1, "game")

    async def run(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does work in the table's thread; it is done even if its request is gone meanwhile."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def close(self) -> None:
        """Waits until all that was begun is done."""
        self._thread.shutdown()

    def begin(self, token: str, player: str) -> dict[str, Any]:
        """Begins a game, in place of the one that ``token`` has.

        Raises:
            RefusedError: if there are too many games.
        """
        if token not in self.seats and len(self.seats) >= MAX_GAMES:
            idlest = min(self.seats, key=lambda other: self.seats[other].used)
            if time.monotonic() - self.seats[idlest].used < IDLE:
                raise RefusedError(429, f"{MAX_GAMES} games are being played; come back later.")
            del self.seats[idlest]
        self.seats[token] = Seat(player, self._new_game(player))
        return self.state(token)

    def state(self, token: str | None) -> dict[str, Any]:
        """Returns what the page shows; without a game what it needs to begin one."""
        seat = self.seats.get(token or "")
        if seat is None:
            return {"title": self.title, "player": self.player, "game": None}
        seat.used = time.monotonic()
        return {"title": self.title, "player": seat.player, "game": view(seat.game)}

    def move(self, token: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Does a move of the player and returns the state after it.

        Raises:
            RefusedError: if it cannot be done; nothing has changed then.
        """
        seat = self.seats.get(token)
        if seat is None:
            raise RefusedError(409, "There is no game yet; begin one.")
        game = seat.game
        if (values["image"], values["step"]) != (game.number + 1, len(game.corners)) or game.finished:
            raise RefusedError(409, "The game has gone on since; this was asked of an earlier image or glimpse.")
        if (name == "next") != game.over:
            raise RefusedError(409, f"The image is {'over' if game.over else 'not over yet'}.")
        if name == "look":
            self._look(game, values["location"])
        elif name == "stop" and not game.stop():
            raise RefusedError(409, "Glimpses have no price here, and there is no stopping.")
        elif name == "map" and game.map_shown != values["shown"]:
            game.toggle_map()
        elif name == "next":
            game.next()
        self._keep(game, seat.player)
        return self.state(token)

    @staticmethod
    def _look(game: Game, location: int) -> None:
        last = len(game.grid) - 1
        if not 0 <= location <= last:
            raise RefusedError(422, f"location {location} must lie in 0..{last}.")
        if not game.look(location):
            raise RefusedError(409, f"location {location} was looked at before.")
