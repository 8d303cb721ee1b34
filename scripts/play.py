"""You choose the glimpses, in a browser or a window, against the oracle: python scripts/play.py --web"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glimpse_env import cli

FORMAT = 2
"""Version of the file of scores."""


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """You choose the glimpses, the judge names the class, and the oracle plays the same images.

    Each image that was played is kept as a demonstration.
    """

    web: bool = False
    """Whether to play in a browser in place of a window; several players can, each with a game of their own."""
    host: str = "127.0.0.1"
    """Address at which --web serves; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """Port at which --web serves; 0 takes one that is free."""
    open: bool = True
    """Whether --web opens a browser, where there is a screen."""
    player: str = "player"
    """Your name, which is kept with your games; in a browser each player can choose one."""
    keep: Path | None = None
    """File of the games (.npz), to which they are added; default runs/play/<env>-<split>.npz."""
    split: Literal["train", "val", "test"] = "train"
    """Split of the data set. Agents learn from games on train, each image of which is judged by a network that never
    saw it; games on test make a row for a table."""
    episodes: int = 10
    """Number of images of a game."""
    seed: int = 0
    """Seed of the order of the images; those that a player has in --keep are left out."""
    out: Path | None = None
    """File of the scores (.json); default none, they are only printed."""


def main(args: Args) -> None:
    import contextlib

    from agents.play.game import score_lines
    from agents.play.keeping import checked_player
    from agents.play.match import Match
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions

    if args.out is not None and args.out.suffix != ".json":
        raise ConfigurationError(f"--out {args.out} must end in .json.")
    cli.check_least(args, seed=0)
    player = checked_player(args.player)
    keep = args.keep or Path("runs") / "play" / f"{args.env.rpartition(':')[2]}-{args.split}.npz"
    with in_browser(args) if args.web else in_window() as play:
        match = Match(
            args.source(),
            args.env,
            split=args.split,
            episodes=args.episodes,
            seed=args.seed,
            keep=keep,
            device=find_device(args.device),
        )
        try:
            with contextlib.suppress(KeyboardInterrupt):
                play(match, player)
        finally:  # also where an error ended the game
            for name, game in match.played:
                match.kept.keep(game, name)
                print("\n".join([f"{name}:", *score_lines(game)]))
            if match.kept.path.is_file():
                print(f"Games in {match.kept.path}")
            if args.out is not None:
                write_json(args.out, {"format": FORMAT, "seed": args.seed, **match.to_json(), "versions": versions()})
                print(f"Scores in {args.out}")


@contextmanager
def in_window() -> Iterator[Callable[[Any, str], None]]:
    """Yields what plays one game of a match in a window."""
    from agents.play.window import Session, display

    def play(match: Any, player: str) -> None:
        game = match.new_game(player)
        session = Session(pygame, game, on_round=lambda: match.kept.keep(game, player))
        session.run(f"{match.env}: you against the oracle")

    with display() as pygame:
        yield play


@contextmanager
def in_browser(args: Args) -> Iterator[Callable[[Any, str], None]]:
    """Yields what serves the games of a match."""
    from agents.play.browser import listening_at, serve, show

    with listening_at(args.host, args.port) as (listening, address):

        def play(match: Any, player: str) -> None:
            match.prepare()
            print(f"Play at {address}\nCtrl-C ends it.", flush=True)
            if args.open:
                show(address)
            serve(match, player, listening, args.host)

        yield play


if __name__ == "__main__":
    cli.run(main, Args)
