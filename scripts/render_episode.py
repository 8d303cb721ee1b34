"""Draws an episode of one policy, or of several side by side, as a PNG or a GIF.

python scripts/render_episode.py --policies oracle --index 3 --out episode.png
python scripts/render_episode.py --policies oracle random --out episode.gif
python scripts/render_episode.py --env GlimpseMNIST-v0 --policies runs/GlimpseMNIST-v0-ppo-oracle-s0
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Draws an episode: after each glimpse what was seen, what the judge makes of it, and the oracle's EPE map."""

    policies: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--policy",))] = ("oracle",)
    """Names of policies, e.g. random, centre, fixed, hgs, human, oracle or clairvoyant, or the folder of a run or a
    file of an agent; several stand side by side."""
    algo: str | None = None
    """Algorithm of an SB3 zip that is in no folder of a run, as for train-agent."""
    trust: bool = False
    """Whether to read an agent from an SB3 zip without a card beside it, and to run the code that a card names. A file
    of somebody else can do anything then that you can do."""
    index: int = 0
    """Index of the image in the split."""
    split: Literal["train", "val", "test"] = "test"
    """Split of the data set. On training images the oracle leaves the very image out of its bank."""
    out: Path = Path("episode.png")
    """File to write: one picture with all steps (.png), or an animation (.gif)."""
    photographs: bool = True
    """Whether the image is shown; else what the glimpses have seen of it, as for images that may not be passed on."""
    width: int = 1000
    """Maximum width of an animation in pixels."""
    seconds: float = 1.0
    """Seconds that each step of an animation stays; the last one stays three times as long."""
    seed: int = 0
    """Seed of policies that are random."""

    def __post_init__(self) -> None:
        cli.check_least(self, width=1, seconds=0.01, seed=0)


def main(args: Args) -> None:
    import numpy as np

    from agents.evaluation.recordings import episode_frames, record
    from agents.networks.encoders import observation_of
    from agents.recording import is_agent
    from agents.reports.episodes import beside, check_picture, save_episode
    from agents.saving import load_agent
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.presets import anytime_options
    from oracles.registry import POLICIES, make_policy, priced
    from oracles.training.judge import ensure_judge

    check_picture(args.out)
    source = args.source()
    dataset = source.load(args.split)
    if not 0 <= args.index < len(dataset):
        raise ConfigurationError(f"--index {args.index} must lie in 0..{len(dataset) - 1} for {args.split}.")
    judge = ensure_judge(source, device=find_device(args.device))
    image, fold = np.array([args.index]), int(dataset.folds[args.index])
    columns = []
    for name in args.policies:
        title, observation = name, "history"
        if is_agent(name):
            title = (Path(name) if Path(name).is_dir() else Path(name).parent).name or name
            policy: Any = load_agent(name, trust=args.trust, algo=args.algo, device=judge.device)
            observation = observation_of(policy.observation_space) or observation
        elif ":" not in name and name not in POLICIES:
            raise ConfigurationError(f"policy {name} is no file and none of {', '.join(POLICIES)}.")
        else:
            own, config = priced(name, source, anytime_options(args.env).get("glimpse_cost"))
            network = None if fold == -1 else fold
            policy = make_policy(own, source, judge, network=network, seed=args.seed, config=config)
        recording = record(policy, dataset, judge, image, observation=observation)
        columns.append(episode_frames(recording, 0, dataset, name=title, whole=args.photographs))
    across = 2 if len(columns) == 1 else 1
    save_episode(args.out, beside(columns), columns=across, width=args.width, seconds=args.seconds)
    logging.info("Wrote %s: image %d of %s/%s.", args.out, args.index, source.name, args.split)


if __name__ == "__main__":
    cli.run(main, Args)
