"""Draws how fast the oracle's estimates near the exact ones in toy worlds: python scripts/measure/epe_convergence.py"""

from dataclasses import dataclass
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Estimates the criteria from more and more samples in random worlds of 3 x 3 pixels, where they are known."""

    picture: Path = Path("runs/epe_convergence.png")
    """File of the picture."""
    out: Path = Path("runs/epe_convergence.json")
    """File of the figures."""
    sizes: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048, 4096)
    """Numbers of samples, ascending."""
    repetitions: int = 40
    """Number of banks drawn for each size and world."""
    worlds: int = 6
    """Number of random worlds, each with a history of two pixels."""
    seed: int = 0
    """Seed of all that is random."""

    def __post_init__(self) -> None:
        cli.check_least(self, sizes=8, repetitions=2, worlds=1, seed=0)


def main(args: Args) -> None:
    from agents.reports.oracle.plots import convergence
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from oracles.boed.completion import CompletionConfig
    from oracles.boed.oracle import OracleConfig
    from oracles.validation.convergence import slope, squared_errors

    if len(args.sizes) < 2:
        raise ConfigurationError(f"--sizes {args.sizes} must be two or more numbers, as a slope is fitted to them.")
    # what the oracle does where no image of the bank shows the very glimpses seen: a wide kernel, and labels as well
    as_run = OracleConfig(completion=CompletionConfig(match="embedding", effective_samples=10.0, label_weight=1.0))
    squared = squared_errors(
        args.sizes,
        repetitions=args.repetitions,
        worlds=args.worlds,
        seed=args.seed,
        extra={"entropy as run on birds": as_run},
    )
    slopes = {name: slope(args.sizes, errors) for name, errors in squared.items()}
    for name, errors in squared.items():
        roots = " ".join(f"{value:.4f}" for value in errors.mean(axis=1) ** 0.5)
        print(f"{name:24s} slope {slopes[name]:+.3f}   error {roots}")
    note = (
        f"{args.worlds} random worlds of 3 × 3 pixels, two pixels seen, {args.repetitions} banks a size; "
        "bands: one standard error."
    )
    convergence(args.picture, args.sizes, squared, slopes, note=note)
    figures = {
        name: {"slope": slopes[name], "rmse": [float(value) for value in errors.mean(axis=1) ** 0.5]}
        for name, errors in squared.items()
    }
    write_json(args.out, {"sizes": args.sizes, "repetitions": args.repetitions, "worlds": args.worlds} | figures)
    print(f"Picture in {args.picture}, figures in {args.out}.")


if __name__ == "__main__":
    cli.run(main, Args)
