"""Trains an agent to choose glimpses, from the oracle's demonstrations to a table between chance and the oracle.

python scripts/train_agent.py
python scripts/train_agent.py --env GlimpseMNIST-v0 --demos oracle --seed 1
python scripts/train_agent.py --env GlimpseCUB-v0 --demos nogs_sequences_cub
python scripts/train_agent.py --resume runs/GlimpseBirds-v0-ppo-oracle-s0
"""

import logging
import sys

import tyro

from agents.experiments.train import run
from agents.presets import Args
from agents.reports.training import draw_run
from glimpse_env.errors import GlimpseError


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        pictures = draw_run(run(args))
        logging.info("Pictures: %s", ", ".join(map(str, pictures)))
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(tyro.cli(Args))
