"""DAgger beside cloning the oracle's own sequences, at equal numbers of questions to the oracle.

python scripts/measure/dagger.py --out runs/dagger --into docs/benchmark.md
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """Clones agents from demonstrations of either kind and tests them without fine-tuning; called again it goes on."""

    env: str = "GlimpseBirds-v0"
    """Environment id."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA."""
    num_demos: tuple[int, ...] = (100, 300, 1000)
    """Numbers of sequences; the oracle is asked once for each of their glimpses."""
    rounds: int = 4
    """Rounds of DAgger."""
    seeds: int = 5
    """Number of seeds, from 0."""
    algo: str = "ppo"
    """Algorithm whose policy learns."""
    eval_images: int = 4000
    """Maximum number of test images."""
    out: Path = Path("runs/dagger")
    """Folder of dagger.json and of all runs."""
    into: Path | None = None
    """Page that the table goes into, between marks named like the folder --out."""

    def __post_init__(self) -> None:
        cli.check_least(self, rounds=1, seeds=1, eval_images=2)


WAYS: dict[str, dict[str, Any]] = {
    "the oracle's own states": {"demos": "oracle"},
    "DAgger, beta 1, 0, 0, 0": {"demos": "dagger", "dagger_schedule": "first"},
    "DAgger, beta linear": {"demos": "dagger", "dagger_schedule": "linear"},
}
"""Settings of scripts/train_agent.py by what the oracle is asked about."""


def main(args: Args) -> None:
    """Trains, tests and writes the table."""
    import numpy as np

    from agents.evaluation.statistics import bootstrap
    from agents.experiments.train import Experiment
    from agents.presets import Args as RunArgs
    from agents.reports.tables import count_seeds, format_estimate, markdown_table, replace_section
    from glimpse_env.files import read_json, write_json
    from glimpse_env.versions import versions

    found: dict[tuple[str, int], list[float]] = {}
    steps = 0
    for seed in range(args.seeds):
        for num in args.num_demos:
            for number, (way, settings) in enumerate(WAYS.items()):
                folder = args.out / f"{num}-{number}-s{seed}"
                if not (folder / "tested.json").is_file():
                    given: dict[str, Any] = {"env": args.env, "root": args.root, "device": args.device}
                    given |= {"algo": args.algo, "observation": "embedding", "num_demos": num, "timesteps": 0}
                    given |= {"seed": seed, "eval_images": args.eval_images, "dagger_rounds": args.rounds}
                    experiment = Experiment.opened(RunArgs(**given, **settings, out=folder))
                    experiment.clone()
                    glimpses = experiment.source.geometry.num_glimpses
                    success = experiment.test().success_rate
                    write_json(folder / "tested.json", {"success": success, "glimpses": glimpses})
                tested = read_json(folder / "tested.json")
                steps = tested["glimpses"]
                found.setdefault((way, num), []).append(tested["success"])
                logging.info("%s, %d sequences, seed %d: %.1f %%", way, num, seed, 100 * tested["success"])
    rows = [["questions to the oracle", *WAYS, *(f"{way}: gain, points" for way in list(WAYS)[1:])]]
    for num in args.num_demos:
        scores = {way: np.array(found[way, num]) for way in WAYS}
        base = next(iter(scores.values()))
        gains = [bootstrap(np.mean, one - base) for one in list(scores.values())[1:]]
        shown = [format_estimate(bootstrap(np.mean, one), 1, scale=100) for one in scores.values()]
        rows.append([f"{num * steps:,}", *shown, *(format_estimate(gain, 1, scale=100) for gain in gains)])
    command = cli.command_line("measure/dagger", args)
    text = (
        f"`{command}`\n\n{markdown_table(rows)}\n\n{args.env}: right on test images in %, agents cloned without "
        f"fine-tuning; {count_seeds(args.seeds)}, gains paired by seed."
    )
    cells = [{"way": way, "num_demos": num, "success": scores} for (way, num), scores in found.items()]
    write_json(args.out / "dagger.json", {"command": command, "cells": cells, "versions": versions()})
    if args.into is not None:
        replace_section(text, args.into, args.out.name)
    print(text)


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
