"""Chooses hyperparameters on validation images, with demonstrations and without, by searches of one budget.

python scripts/tune_agents.py --trials 10 --timesteps 100000
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """A search for each algorithm and each way to start; called again it goes on where it was stopped."""

    env: str = "GlimpseBirds-v0"
    """Environment id."""
    algos: tuple[str, ...] = ("ppo", "a2c", "reinforce")
    """Names of algorithms, as for train-agent."""
    architecture: str = "gru"
    """Network that reads the history: gru, attention, canvas or mlp."""
    observation: Literal["history", "embedding", "features"] = "embedding"
    """Form in which agents see each glimpse: its pixels, the judge's embedding, or the frozen features it reads."""
    demos: str = "oracle"
    """Policy whose demonstrations runs start from, in the search with demonstrations."""
    num_demos: int = 1000
    """Number of demonstrations."""
    trials: int = 10
    """Number of trials in each search."""
    timesteps: int = 100_000
    """Environment steps of each trial."""
    workers: int = 2
    """Number of trials that run side by side."""
    ray: str | None = None
    """Address of a Ray cluster that runs the trials, its nodes sharing --out; or "local"."""
    into: Path | None = None
    """JSON file that the best hyperparameters go into; agents/tuned.json makes them the defaults."""
    out: Path = Path("runs/tuning")
    """Folder of tuning.json, the searches' journals and all runs."""

    def __post_init__(self) -> None:
        cli.check_least(self, num_demos=10, trials=1, timesteps=1, workers=1)


def main(args: Args) -> None:
    from agents.experiments.tuning import STARTS, search, write_tuned
    from agents.presets import Args as TrainArgs
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions

    shared = ("env", "architecture", "observation", "demos", "num_demos", "timesteps", "device")
    base = TrainArgs(**{name: getattr(args, name) for name in shared})
    results: dict[str, Any] = {"command": cli.command_line("tune_agents", args), "versions": versions()}
    for algo in args.algos:
        for start in STARTS:
            entry = search(algo, start, base, args.out, trials=args.trials, workers=args.workers, ray=args.ray)
            results.setdefault(algo, {})[start] = entry
            print(f"{algo} from {start}: {entry['score']:.3f} with {entry['best']}")
            if args.into is not None:
                write_tuned(args.into, algo, start, entry["best"])
    write_json(args.out / "tuning.json", results)
    print(f"Results: {args.out / 'tuning.json'}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
