"""Trains an amortised oracle: python scripts/train_oracle.py --env GlimpseBirds-v0 --horizon last"""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from agents.evaluation.evaluate import choose_images, evaluate
from glimpse_env.registration import source_of
from oracles.amortised.oracle import oracle_path
from oracles.boed.criteria import Horizon
from oracles.presets import preset_of
from oracles.training.judge import ensure_judge
from oracles.training.scorer import train_oracle


@dataclass(frozen=True)
class Args:
    """Trains the networks of an amortised oracle, scores it on validation images and saves it with its card."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    horizon: Horizon = "next"
    """next: the criterion after the next glimpse, greedy; last: after the last one, looking ahead."""
    criterion: str | None = None
    """What is expected; default the data set's own."""
    images: int | None = None
    """Images that each network sees, counted with repetition; default the data set's own."""
    val_images: int = 1000
    """Validation images at most that the oracle is scored on."""
    seed: int = 0
    """Of all that is random."""
    out: Path | None = None
    """Where the weights go (.safetensors; the card beside them); default the cache, where the policies find them."""


def main(args: Args) -> None:
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    judge = ensure_judge(source)
    plan = preset_of(source).scorer(args.horizon)
    if args.images is not None:
        plan = replace(plan, images=args.images)
    oracle = train_oracle(
        source,
        judge,
        plan,
        criterion=args.criterion or preset_of(source).criterion,
        horizon=args.horizon,
        seed=args.seed,
        command=shlex.join(["python", "scripts/train_oracle.py", *sys.argv[1:]]),
    )
    out = args.out or oracle_path(source, judge, args.horizon)
    oracle.save(out)
    print(f"Amortised oracle ({args.horizon} glimpse, {oracle.card.criterion}) of {source.name} in {out}")
    val = source.load("val")
    images = choose_images(val, args.val_images)
    found = evaluate(oracle, val, judge, images, name="amortised")
    low, high = found.interval()
    print(
        f"On {len(images)} validation images: success {100 * found.success_rate:.1f} % ({100 * low:.1f} to "
        f"{100 * high:.1f}), log-loss {found.log_loss[-1]:.3f} nats"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
