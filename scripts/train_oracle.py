"""Trains an amortised oracle: python scripts/train_oracle.py --env GlimpseBirds-v0 --horizon last"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Trains the networks of an amortised oracle, scores it on validation images and saves it with its card."""

    horizon: Literal["next", "last"] = "next"
    """next: the criterion after the next glimpse, greedy; last: after the last one, looking ahead."""
    criterion: str | None = None
    """Criterion whose expectation is learned: entropy, log_loss, error or a registered one; default the data set's."""
    images: int | None = None
    """Number of images that each network sees, counted with repetition; default the data set's own."""
    val_images: int = 1000
    """Maximum number of validation images that the oracle is scored on."""
    seed: int = 0
    """Seed of all that is random."""
    out: Path | None = None
    """File of the weights (.safetensors; the card beside it); default in the cache, where the policies find it."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1, val_images=1, seed=0)


def main(args: Args) -> None:
    from agents.evaluation.evaluate import choose_images, evaluate
    from glimpse_env.devices import find_device
    from oracles.amortised.oracle import oracle_path
    from oracles.presets import preset_of
    from oracles.training.judge import ensure_judge
    from oracles.training.scorer import train_oracle

    source = args.source()
    judge = ensure_judge(source, device=find_device(args.device))
    plan = preset_of(source).scorer(args.horizon)
    if args.images is not None:
        plan = replace(plan, images=args.images)
    out = args.out or oracle_path(source, judge, args.horizon)
    oracle = train_oracle(
        source,
        judge,
        plan,
        criterion=args.criterion or preset_of(source).criterion,
        horizon=args.horizon,
        seed=args.seed,
        command=cli.command_line("train_oracle", args),
        out=out,
    )
    print(f"Amortised oracle ({args.horizon} glimpse, {oracle.card.criterion}) of {source.name} in {out}")
    val = source.load("val")
    images = choose_images(val, args.val_images)
    evaluation = evaluate(oracle, val, judge, images, name="amortised")
    low, high = evaluation.interval()
    print(
        f"On {len(images)} validation images: success {100 * evaluation.success_rate:.1f} % ({100 * low:.1f} to "
        f"{100 * high:.1f}), log-loss {evaluation.log_loss[-1]:.3f} nats"
    )


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
