"""Trains an agent to choose glimpses, from the oracle's demonstrations to a table between chance and the oracle.

python scripts/train_agent.py
python scripts/train_agent.py --env GlimpseMNIST-v0 --demos oracle --seed 1
python scripts/train_agent.py --env GlimpseCUB-v0 --demos nogs_sequences_cub
python scripts/train_agent.py --resume runs/GlimpseBirds-v0-ppo-oracle-s0
"""

import logging

from agents.presets import Args
from glimpse_env import cli


def again(args: Args) -> str:
    from agents.experiments.train import goes_on

    return goes_on(args)


def main(args: Args) -> None:
    from agents.experiments.train import run
    from agents.reports.episodes import draw_run, pictures_of

    folder = args.resume
    finished = folder is not None and (folder / "metrics.json").is_file()
    if folder is None or not finished or all(path.is_file() for path in pictures_of(folder)):
        folder = run(args)
    pictures = draw_run(folder)
    logging.info("Pictures: %s", ", ".join(map(str, pictures)))


if __name__ == "__main__":
    cli.run(main, Args, goes_on=again)
