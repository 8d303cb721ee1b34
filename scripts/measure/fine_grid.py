"""Measures judge and oracle on CelebA-HQ's 2500 locations, with drawn birds of its size in its place.

python scripts/measure/fine_grid.py
"""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glimpse_env import cli

MARK = "Drawn birds on 2500 locations"
"""Name of the section of the page."""


@dataclass(frozen=True)
class Args:
    """Measures what a judge and BOED cost on 50 x 50 unevenly spaced locations: drawn birds of 224 x 224, one mark.

    The judge is trained now and put into the cache, where gymnasium.make and the other scripts find it.
    """

    attribute: str = "eye ring"
    """Mark that the judge tells from its absence."""
    num_train: int = 1000
    """Number of training images, which are BOED's bank."""
    num_judge: int = 6000
    """Number of images that the judge is trained on."""
    passes: int = 24
    """Number of passes of the judge's training."""
    rounds: int = 1
    """Number of rounds in which histories that the oracle visits are collected."""
    images: int = 100
    """Number of validation images that are played."""
    threads: int = 1
    """Number of torch's threads."""
    seed: int = 0
    """Seed of all that is random."""
    out: Path = Path("runs/fine_grid.json")
    """File of the figures."""
    into: Path | None = None
    """Page that the table goes into, between marks named like its section."""

    def __post_init__(self) -> None:
        cli.check_least(self, num_train=1, num_judge=1, passes=1, rounds=0, images=1, threads=1, seed=0)


def main(args: Args) -> None:
    import torch

    from agents.reports.oracle.cost import grid_section, policy_cost, training_cost
    from agents.reports.tables import replace_section
    from glimpse_env.datasets.birds.source import Birds
    from glimpse_env.files import write_json
    from glimpse_env.judge.judge import judge_path
    from glimpse_env.versions import versions
    from oracles.presets import preset_of
    from oracles.training.judge import train_judge

    torch.set_num_threads(args.threads)
    source = Birds(
        size=224,
        attribute=args.attribute,
        num_train=args.num_train,
        num_val=args.images,
        num_test=args.images,
        num_judge=args.num_judge,
        num_oracle=args.num_train,
    )
    for split in ("train", "val", "judge"):
        source.load(split)  # painted before anything is timed
    plan = replace(preset_of(source).judge, passes=args.passes, rounds=args.rounds)
    command = cli.command_line("measure/fine_grid", args)
    report: dict[str, Any] = {
        "command": command,
        "settings": {k: v for k, v in asdict(args).items() if k not in ("out", "into")},
        "options": source.options,
        "locations": 2500,
        "versions": versions(),
        "training": training_cost(source, plan, args.seed),
    }
    judge = train_judge(source, plan, seed=args.seed, command=command, out=judge_path(source))
    report["judge"] = judge.card.scores
    report["policies"] = {name: policy_cost(name, source, judge, args.images, args.seed) for name in ("random", "boed")}
    write_json(args.out, report)
    text = grid_section(report, os.path.relpath(args.out, args.out.parent if args.into is None else args.into.parent))
    print(f"{text}\n\nFigures in {args.out}.")
    if args.into is not None:
        replace_section(text, args.into, MARK)


if __name__ == "__main__":
    cli.run(main, Args)
