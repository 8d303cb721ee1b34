"""Runs a grid of agents against the oracle, and reports scores, speed and spread.

python scripts/benchmark.py --envs GlimpseBirds-v0 --algos ppo a2c --demos none oracle --out runs/benchmark
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """One training run for each combination of the axes below; called again it goes on where it was stopped."""

    envs: tuple[str, ...] = ("GlimpseBirds-v0",)
    """Environment ids."""
    algos: tuple[str, ...] = ("ppo", "a2c", "reinforce")
    """Algorithms of scripts/train_agent.py, or Python files that set ALGORITHM (docs/benchmark.md)."""
    demos: tuple[str, ...] = ("none", "oracle")
    """Demonstrators: none, oracle, hgs, fixed, random, or ps-ram: the agent that was trained without."""
    architectures: tuple[str, ...] = ("gru",)
    """Networks that read the history: gru, attention, canvas, mlp."""
    seeds: int = 5
    """Number of seeds, from 0."""
    timesteps: int = 500_000
    """Environment steps of each run, without those of its demonstrations."""
    num_demos: tuple[int, ...] = (1000,)
    """Numbers of demonstrations."""
    variants: tuple[str, ...] = ("default",)
    """Ablations: default, no_warm_up, no_kept_loss, neither, argmax, sparse_reward."""
    observation: Literal["history", "embedding"] = "embedding"
    """Form in which agents see each glimpse: its pixels, or the judge's embedding."""
    validations: int = 16
    """Number of points of each learning curve."""
    val_images: int = 2000
    """Maximum number of validation images behind each point."""
    eval_images: int = 4000
    """Maximum number of test images."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA."""
    options: str = "{}"
    """Further settings of scripts/train_agent.py for all runs, as JSON, e.g. '{"clone_passes": 20, "group": 8}'."""
    workers: int | None = None
    """Number of runs side by side, each a process with one thread; default 2."""
    ray: str | None = None
    """Address of a Ray cluster that makes the runs instead, its nodes sharing --out; or "local"."""
    against: str = "boed"
    """Policy that the best agent of each environment is compared with image by image."""
    out: Path = Path("runs/benchmark")
    """Folder of results.parquet, results.md, report.html, plots, and all runs."""
    into: Path | None = None
    """Page that a summary goes into, between marks named like the folder --out."""


def main(args: Args) -> None:
    from agents.experiments.benchmark import Benchmark
    from agents.experiments.benchmark_grid import BenchmarkGrid
    from agents.reports.benchmark import summary_table
    from agents.reports.benchmark_run import report_benchmark
    from agents.reports.tables import replace_section

    benchmark = Benchmark(
        BenchmarkGrid(**{item.name: getattr(args, item.name) for item in fields(BenchmarkGrid)}), args.out
    )
    benchmark.run(args.workers, args.ray)
    command = cli.command_line("benchmark", args)
    paths, sentences = report_benchmark(benchmark, command, args.against)
    for path in paths[:2]:
        print(f"Wrote {path}")
    if args.into is not None:
        parts = [f"`{command}`", summary_table(benchmark.results()), *(f"- {sentence}" for sentence in sentences)]
        replace_section("\n\n".join(parts), args.into, args.out.name)
    print("\n".join(sentences))
    print(f"Curves and hyperparameters: tensorboard --logdir {args.out / 'cells'}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
