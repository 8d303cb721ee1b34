"""Chooses hyperparameters on validation images, with demonstrations and without, by searches of one budget.

python scripts/tune_agents.py --trials 10 --timesteps 100000
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from agents.experiments.tuning import STARTS, search, write_tuned
from agents.presets import TUNED
from agents.presets import Args as TrainArgs
from agents.reports.tables import command_line
from glimpse_env.errors import GlimpseError
from glimpse_env.files import write_json
from glimpse_env.versions import versions


@dataclass(frozen=True)
class Args:
    """A search for each algorithm and each way to start; called again it goes on where it was stopped."""

    env: str = "GlimpseBirds-v0"
    """Environment id."""
    algos: tuple[str, ...] = ("ppo", "a2c", "reinforce")
    """Algorithms."""
    architecture: str = "gru"
    """What reads the history."""
    observation: Literal["history", "embedding"] = "embedding"
    """What agents are shown of each glimpse."""
    demos: str = "oracle"
    """Demonstrations of the runs that start from some."""
    num_demos: int = 1000
    """How many."""
    trials: int = 10
    """Of each search."""
    timesteps: int = 100_000
    """Environment steps of each trial."""
    workers: int = 2
    """Trials side by side."""
    ray: str | None = None
    """Address of a Ray cluster that runs the trials, its nodes sharing --out; or "local"."""
    keep: bool = True
    """Whether the best become the defaults, in agents/tuned.json."""
    out: Path = Path("runs/tuning")
    """Folder of tuning.json, the searches' journals and all runs."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    base = TrainArgs(
        env=args.env,
        architecture=args.architecture,
        observation=args.observation,
        demos=args.demos,
        num_demos=args.num_demos,
        timesteps=args.timesteps,
    )
    found: dict = {"command": command_line("tune_agents", args), "versions": versions()}
    try:
        for algo in args.algos:
            for start in STARTS:
                entry = search(algo, start, base, args.out, trials=args.trials, workers=args.workers, ray=args.ray)
                found.setdefault(algo, {})[start] = entry
                print(f"{algo} from {start}: {entry['score']:.3f} with {entry['best']}")
                if args.keep:
                    write_tuned(TUNED, algo, start, entry["best"])
        write_json(args.out / "tuning.json", found)
        print(f"Results: {args.out / 'tuning.json'}")
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print(f"\nStopped. Go on with\n  {command_line('tune_agents', args)}")
        sys.exit(130)


if __name__ == "__main__":
    main(tyro.cli(Args))
