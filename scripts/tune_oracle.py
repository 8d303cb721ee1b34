"""Compares configurations of the oracle on validation images: python scripts/tune_oracle.py --env GlimpseBirds-v0"""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import tyro

from agents.evaluation import choose_images, evaluate
from glimpse_env.files import write_json
from glimpse_env.registration import scales_of, source_of
from oracles.completion import CompletionConfig, Match
from oracles.epe import Criterion
from oracles.judging import ensure_judge
from oracles.oracle import OracleConfig
from oracles.policies import make_policy


@dataclass(frozen=True)
class Args:
    """Plays the oracle in every combination of the options on validation images and prints how it did."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    images: int = 300
    """Validation images."""
    criteria: tuple[str, ...] = get_args(Criterion)
    """What is minimised."""
    matches: tuple[str, ...] = get_args(Match)
    """How glimpses are compared."""
    effective_samples: tuple[float, ...] = (10.0, 25.0)
    """Effective sample sizes of the completions."""
    label_weights: tuple[float, ...] = (0.0, 1.0)
    """Exponents of the completions' labels' posterior."""
    out: Path = Path("runs/tune_oracle.json")
    """Where the figures go."""


def main(args: Args) -> None:
    source = source_of(args.env, args.root, args.dataset_options)
    scales = scales_of(args.env, args.scales)
    judge = ensure_judge(source, scales=scales)
    dataset = source.load("val")
    images = choose_images(dataset, args.images)
    rows = []
    grid = itertools.product(args.criteria, args.matches, args.effective_samples, args.label_weights)
    for criterion, match, effective, weight in grid:
        completion = CompletionConfig(match=match, effective_samples=effective, label_weight=weight)
        config = OracleConfig(criterion=criterion, completion=completion)
        policy = make_policy("oracle", source, judge, config=config)
        name = f"{criterion}, {match}, ESS {effective:g}, label weight {weight:g}"
        evaluation = evaluate(policy, dataset, judge, source.geometry, images, name=name, scales=scales)
        low, high = evaluation.interval()
        print(
            f"{name:50s} {100 * evaluation.success_rate:5.1f} % ({100 * low:.1f} to {100 * high:.1f}), "
            f"log-loss {evaluation.log_loss[-1]:.3f}, {1000 * evaluation.seconds / len(images):.0f} ms a sequence"
        )
        rows.append({"config": asdict(config), **evaluation.to_json()})
        write_json(args.out, rows)
    print(f"Figures in {args.out}")


if __name__ == "__main__":
    main(tyro.cli(Args))
