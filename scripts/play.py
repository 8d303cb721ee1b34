"""Opens a window in which you choose the glimpses, against the oracle: python scripts/play.py --env GlimpseBirds-v0"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli

FORMAT = 1
"""Version of the file of scores."""


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """You choose the glimpses with the mouse, the judge names the class, and the oracle plays the same images."""

    split: Literal["val", "test"] = "test"
    """Split of the data set; no network of the judge was trained on either."""
    episodes: int = 10
    """Number of images to play."""
    seed: int = 0
    """Seed of the choice of images and their order."""
    out: Path | None = None
    """File of the scores (.json); default none, they are only printed."""


def main(args: Args) -> None:
    import contextlib

    import numpy as np

    from agents.play.game import Game
    from agents.play.window import Session, display, score_lines
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions
    from oracles.registry import make_policy, policy_settings
    from oracles.training.judge import ensure_judge

    if args.out is not None and args.out.suffix != ".json":
        raise ConfigurationError(f"--out {args.out} must end in .json.")
    if args.seed < 0:
        raise ConfigurationError(f"--seed {args.seed} must be at least 0.")
    with display() as pygame:
        source = args.source()
        dataset = source.load(args.split)
        if not 1 <= args.episodes <= len(dataset):
            raise ConfigurationError(f"--episodes {args.episodes} must lie in 1..{len(dataset)} for {args.split}.")
        judge = ensure_judge(source, device=find_device(args.device))
        images = np.random.default_rng(args.seed).permutation(len(dataset))[: args.episodes]
        oracle = make_policy("oracle", source, judge)
        game = Game(dataset, judge, oracle, images)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                Session(pygame, game).run(f"{args.env}: you against the oracle")
        finally:  # also where an error ended the game
            print("\n".join(score_lines(game)))
            if args.out is not None:
                settings = {"env": args.env, "seed": args.seed, "oracle": policy_settings("oracle", source, judge)}
                write_json(args.out, {"format": FORMAT, **settings, **game.to_json(), "versions": versions()})
                print(f"Scores in {args.out}")


if __name__ == "__main__":
    cli.run(main, Args)
