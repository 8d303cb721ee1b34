"""Shows a trained agent beside the oracle on the same image: python scripts/share/watch.py GlimpseBirds-v0"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """Plays an episode of a trained agent and of the oracle, and shows what they looked at."""

    env: tyro.conf.Positional[str] = "GlimpseBirds-v0"
    """Environment id."""
    agent: Path | None = None
    """Folder of a run or of what was pulled, or a file of an agent; default the one that comes with the package."""
    trust: bool = False
    """Whether to read an agent from an SB3 zip without a card beside it, and to run the code that a card names. A file
    of somebody else can do anything then that you can do."""
    index: int | None = None
    """Index of the image in the test split; default one by chance."""
    beside: tuple[str, ...] = ("oracle",)
    """Names of the policies beside it."""
    out: Path = Path("watch.gif")
    """Picture to write: an animation (.gif), or all steps in one (.png)."""
    window: bool = False
    """Whether to show it in a window too; needs pygame and a screen."""
    width: int = 1200
    """Maximum width of an animation, and of the window, in pixels."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON."""

    def __post_init__(self) -> None:
        cli.check_least(self, width=1, index=0)


def main(args: Args) -> None:
    import numpy as np

    from agents.reports.episodes import check_picture, save_episode, show_episode
    from agents.saving import load_agent
    from agents.sharing.subjects import check_fits
    from agents.sharing.watch import watch
    from glimpse_env.devices import find_device
    from glimpse_env.presets import anytime_options
    from glimpse_env.registration import source_of
    from oracles.registry import make_policy, priced
    from oracles.training.judge import ensure_judge

    check_picture(args.out)
    source = source_of(args.env, args.root, args.dataset_options, None, None)
    agent = load_agent(args.agent or args.env, trust=args.trust, device=find_device(args.device))
    judge = ensure_judge(source, device=find_device(args.device))
    check_fits(agent, source, judge)
    policies: dict[str, Any] = {"agent": agent}
    for name in args.beside:
        own, config = priced(name, source, anytime_options(args.env).get("glimpse_cost"))
        policies[name] = make_policy(own, source, judge, config=config)
    test = source.load("test")
    index = int(np.random.default_rng().integers(len(test))) if args.index is None else args.index
    pictures, lines = watch(policies, test, judge, index)
    save_episode(args.out, pictures, columns=1, width=args.width)
    print("\n".join([*lines, f"Picture: {args.out}"]))
    if args.window:
        show_episode(pictures, title=f"{args.env}, image {index}", width=args.width)


if __name__ == "__main__":
    cli.run(main, Args)
