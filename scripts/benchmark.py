"""Runs a grid of agents against the oracle, and reports scores, speed and spread.

python scripts/benchmark.py --envs GlimpseBirds-v0 --algos ppo a2c --demos none oracle --out runs/benchmark
"""

from dataclasses import dataclass, fields
from pathlib import Path

from agents.experiments.benchmark_grid import BenchmarkGrid
from glimpse_env import cli


@dataclass(frozen=True)
class Args(BenchmarkGrid):
    """One training run for each combination of the grid's axes; called again it goes on where it was stopped."""

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
    from agents.reports.benchmark.run import report_benchmark
    from agents.reports.benchmark.tables import summary_table
    from agents.reports.tables import replace_section

    grid = BenchmarkGrid(**{item.name: getattr(args, item.name) for item in fields(BenchmarkGrid)})
    benchmark = Benchmark(grid, args.out)
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
