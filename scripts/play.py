"""Opens a window in which you choose the glimpses, against the oracle: python scripts/play.py --env GlimpseBirds-v0"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.error import DependencyNotInstalled

from agents.play.board import HEIGHT, WIDTH, Board
from agents.play.game import Game, Score
from glimpse_env import cli
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import write_json
from glimpse_env.versions import versions
from oracles.registry import make_policy, policy_settings
from oracles.training.judge import ensure_judge

FORMAT = 1
POLL = 100
"""Milliseconds after which the loop comes round without an event, so that Ctrl-C is heard."""


@dataclass(frozen=True)
class Args(cli.DatasetFlags):
    """You choose the glimpses with the mouse, the judge names the class, and the oracle plays the same images."""

    split: Literal["val", "test"] = "test"
    """Of the data set; no network of the judge was trained on either."""
    episodes: int = 10
    """Images to play."""
    seed: int = 0
    """Of the choice of images and their order."""
    out: Path | None = None
    """Where the scores go (.json); default nowhere, they are only printed."""


def main(args: Args) -> None:
    """Plays until the person stops, then prints the scores and writes them."""
    if args.out is not None and args.out.suffix != ".json":
        raise ConfigurationError(f"--out {args.out} must end in .json.")
    if args.seed < 0:
        raise ConfigurationError(f"--seed {args.seed} must be at least 0.")
    with display() as pygame:
        source = args.source()
        dataset = source.load(args.split)
        if not 1 <= args.episodes <= len(dataset):
            raise ConfigurationError(f"--episodes {args.episodes} must lie in 1..{len(dataset)} for {args.split}.")
        judge = ensure_judge(source)
        images = np.random.default_rng(args.seed).permutation(len(dataset))[: args.episodes]
        oracle = make_policy("oracle", source, judge)
        game = Game(dataset, judge, oracle, images)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                Session(pygame, game).run(f"{args.env}: you against the oracle")
        finally:  # also where an error ended the game
            print("\n".join(report(game)))
            if args.out is not None:
                settings = {"env": args.env, "seed": args.seed, "oracle": policy_settings("oracle", source, judge)}
                write_json(args.out, {"format": FORMAT, **settings, **game.to_json(), "versions": versions()})
                print(f"Scores in {args.out}")


@contextlib.contextmanager
def display() -> Iterator[Any]:
    """pygame, ready to open a window; its display is closed after.

    Raises:
        DependencyNotInstalled: if pygame is missing.
        ConfigurationError: if there is no screen.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise DependencyNotInstalled("scripts/play.py needs pygame: pip install pygame.") from error
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

    def __init__(self, pygame: Any, game: Game):
        self.pygame, self.game = pygame, game
        self.pointer: tuple[int, int] | None = None
        self.help_shown = True

    def run(self, title: str) -> None:
        """Until the person closes the window or leaves the finished game."""
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
        """Does what an event asks for; False where it asks to stop."""
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
        elif event.type == pygame.KEYDOWN:
            if event.key in (pygame.K_ESCAPE, pygame.K_q):
                return False
            if event.key == pygame.K_m:
                game.toggle_map()
            elif event.key == pygame.K_h:
                self.help_shown = not self.help_shown
            forward = event.key in (pygame.K_SPACE, pygame.K_RETURN)
        if forward and game.finished:
            return False
        if forward:
            game.next()
        return True

    @property
    def board(self) -> Board:
        """As large as the window is now."""
        return Board(*self.pygame.display.get_window_size())

    def show(self) -> None:
        pygame = self.pygame
        picture = self.board.draw(self.game, self.pointer, help_shown=self.help_shown)
        surface = pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB")
        pygame.display.get_surface().blit(surface, (0, 0))
        pygame.display.flip()


def report(game: Game) -> list[str]:
    """The score in words."""
    if not game.rounds:
        return ["No image was played to its end."]
    everything, assisted = game.score(), game.score(assisted=True)
    lines = [f"{everything.images} of {len(game.indices)} images played. {_words(everything)}"]
    if assisted.images:
        lines.append(f"Assisted by the oracle's map: {assisted.images}. {_words(assisted)}")
        unassisted = game.score(assisted=False)
        lines += [f"Without the map: {unassisted.images}. {_words(unassisted)}"] if unassisted.images else []
    return lines


def _words(score: Score) -> str:
    return (
        f"The judge was right {score.person_successes} times after your glimpses and {score.oracle_successes} times "
        f"after the oracle's; mean log-loss {score.person_log_loss:.2f} and {score.oracle_log_loss:.2f} nats."
    )


if __name__ == "__main__":
    cli.run(main, Args)
