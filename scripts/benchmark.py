"""Runs a grid of agents against the oracle, and reports scores, speed and spread.

python scripts/benchmark.py --envs GlimpseBirds-v0 --algos ppo a2c --demos none oracle --out runs/benchmark
"""

import logging
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from agents.experiments.benchmark import Benchmark, BenchmarkGrid
from agents.reports.benchmark import ReportContext, summary_table, write_report
from agents.reports.benchmark_examples import example_figures
from agents.reports.tables import command_line, insert
from glimpse_env.errors import GlimpseError
from glimpse_env.files import whole_file, write_json
from glimpse_env.versions import versions


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
    """What reads the history: gru, attention, canvas, mlp."""
    seeds: int = 5
    """Seeds 0 to this less one."""
    timesteps: int = 500_000
    """Environment steps of each run, the demonstrations' own not among them."""
    num_demos: tuple[int, ...] = (1000,)
    """Demonstrations."""
    variants: tuple[str, ...] = ("default",)
    """Ablations: default, no_warm_up, no_kept_loss, neither, argmax, sparse_reward."""
    observation: Literal["history", "embedding"] = "embedding"
    """What agents are shown of each glimpse: its pixels or the judge's embedding."""
    validations: int = 16
    """Points of each learning curve."""
    val_images: int = 2000
    """Validation images behind each point, at most."""
    eval_images: int = 4000
    """Test images, at most."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA."""
    options: str = "{}"
    """Further settings of scripts/train_agent.py for all runs, as JSON, e.g. '{"clone_passes": 20, "group": 8}'."""
    workers: int | None = None
    """Runs side by side, each a process with one thread; default 2."""
    ray: str | None = None
    """Address of a Ray cluster that makes the runs instead, its nodes sharing --out; or "local"."""
    against: str = "boed"
    """Policy that the best agent of each environment is compared with image by image."""
    out: Path = Path("runs/benchmark")
    """Folder of results.parquet, results.md, report.html, plots, and all runs."""
    into: Path | None = None
    """A page that a summary goes into, between marks named like the folder."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        grid = BenchmarkGrid(**{item.name: getattr(args, item.name) for item in fields(BenchmarkGrid)})
        benchmark = Benchmark(grid, args.out)
        benchmark.run(args.workers, args.ray)
        report(args, benchmark)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print(f"\nStopped. Go on with\n  {command_line('benchmark', args)}")
        sys.exit(130)


def report(args: Args, benchmark: Benchmark) -> None:
    """Writes all that comes of a finished grid."""
    results, against = benchmark.results(), benchmark.against(args.against)
    with whole_file(args.out / "results.parquet") as temporary:
        results.to_parquet(temporary, index=False)
    grid, command = benchmark.grid, command_line("benchmark", args)
    write_json(
        args.out / "results.json", {"command": command, "seeds": grid.seeds, "against": against, "versions": versions()}
    )
    context = ReportContext(
        title="Hard attention: agents against the oracle",
        command=command,
        versions=versions(),
        protocol={
            "budget": f"{grid.timesteps:,} environment steps a run",
            "seeds": f"0 to {grid.seeds - 1}",
            "learning curves": f"{grid.validations + 1} evaluations on up to {grid.val_images} validation images",
            "final scores": f"up to {grid.eval_images} test images, weights chosen on validation images",
            "agents are shown": "glimpses and locations" if grid.observation == "history" else "embeddings of glimpses",
        },
        figures=example_figures(benchmark),
        notes=[_sentence(env, entry) for env, entry in against.items()],
    )
    for path in write_report(args.out, results, context)[:2]:
        print(f"Wrote {path}")
    if args.into is not None:
        told = [f"`{command}`", summary_table(results), *(f"- {note}" for note in context.notes)]
        insert("\n\n".join(told), args.into, args.out.name)
    for env, entry in against.items():
        print(_sentence(env, entry))
    print(f"Curves and hyperparameters: tensorboard --logdir {args.out / 'cells'}")


def _sentence(env: str, entry: dict) -> str:
    """How the best agent stands to the policy that it is compared with."""
    method, difference, log_loss = entry["method"], entry["difference"], entry["log_loss_difference"]
    low, high = difference["interval"] or (float("nan"), float("nan"))
    least, most = log_loss["interval"] or (float("nan"), float("nan"))
    return (
        f"{env}: best on validation images is {method['algo']} with {method['architecture']} and {method['num_demos']} "
        f"demonstrations ({method['demos']}); on {entry['images']} test images it is right on {entry['success']:.1%} "
        f"(mean of {entry['seeds']} seeds), {entry['reference']} on {entry['reference_success']:.1%}: "
        f"{100 * difference['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), and "
        f"{log_loss['value']:+.3f} nats of log-loss ({least:+.3f} to {most:+.3f})."
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
