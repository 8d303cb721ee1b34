"""The window of the game: a person's clicks and keys go to the game, and the board is shown."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from gymnasium.error import DependencyNotInstalled

from agents.play.board import HEIGHT, WIDTH, Board
from agents.play.game import Game
from glimpse_env.errors import ConfigurationError

POLL = 100
"""Milliseconds after which the loop comes round without an event, so that Ctrl-C is heard."""


@contextlib.contextmanager
def display() -> Iterator[Any]:
    """Yields pygame, ready to open a window; its display is closed after.

    Raises:
        DependencyNotInstalled: if pygame is missing.
        ConfigurationError: if there is no screen.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise DependencyNotInstalled(
            "the window of the game needs pygame: pip install pygame; `--web` plays in a browser."
        ) from error
    remedy = "play where there is a screen"
    try:
        pygame.display.init()
        # SDL's last resort is a window that nobody sees
        if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
            raise ConfigurationError(f"no window can be opened without a screen; {remedy}.")
        yield pygame
    except pygame.error as error:
        raise ConfigurationError(f"the window failed ({error}); {remedy}.") from error
    finally:
        pygame.display.quit()


class Session:
    """The window: hands the person's clicks and keys to the game and shows how it stands."""

    def __init__(self, pygame: Any, game: Game, on_round: Callable[[], None] = lambda: None):
        """
        Args:
            pygame: what :func:`display` yields.
            game: the game.
            on_round: called when an image was played to its end.
        """
        self.pygame, self.game, self.on_round = pygame, game, on_round
        self.pointer: tuple[int, int] | None = None
        self.help_shown = True

    def run(self, title: str) -> None:
        """Shows the game until the person closes the window or leaves the finished game."""
        pygame = self.pygame
        pygame.display.set_mode((WIDTH, HEIGHT), pygame.RESIZABLE)
        pygame.display.set_caption(title)
        self.show()
        while True:
            events = [event for event in (pygame.event.wait(POLL), *pygame.event.get()) if event.type != pygame.NOEVENT]
            if not all(self.handle(event) for event in events):
                return
            if events:
                self.show()

    def handle(self, event: Any) -> bool:
        """Does what an event asks for and returns False where it asks to stop."""
        rounds = len(self.game.rounds)
        goes_on = self._handled(event)
        if len(self.game.rounds) > rounds:
            self.on_round()
        return goes_on

    def _handled(self, event: Any) -> bool:
        pygame, game, forward = self.pygame, self.game, False
        if event.type == pygame.QUIT:
            return False
        if event.type == pygame.WINDOWLEAVE:
            self.pointer = None
        elif event.type == pygame.MOUSEMOTION:
            self.pointer = event.pos
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_LEFT:
            self.pointer = event.pos
            forward = self.board.on_button(event.pos, game)
            aimed = self.board.pixel_at(event.pos, game)
            if aimed is not None:
                game.click(*aimed)
        elif event.type == pygame.MOUSEWHEEL:
            game.widen(-event.y)
        elif event.type == pygame.KEYDOWN:
            if event.key in (pygame.K_ESCAPE, pygame.K_q):
                return False
            if event.key == pygame.K_m:
                game.toggle_map()
            elif event.key == pygame.K_h:
                self.help_shown = not self.help_shown
            stopped = event.key == pygame.K_RETURN and game.stop()
            forward = event.key in (pygame.K_SPACE, pygame.K_RETURN) and not stopped
        if forward and game.finished:
            return False
        if forward:
            game.next()
        return True

    @property
    def board(self) -> Board:
        """The board at the size that the window has now."""
        return Board(*self.pygame.display.get_window_size())

    def show(self) -> None:
        """Draws the board into the window."""
        pygame = self.pygame
        picture = self.board.draw(self.game, self.pointer, help_shown=self.help_shown)
        surface = pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB")
        pygame.display.get_surface().blit(surface, (0, 0))
        pygame.display.flip()
