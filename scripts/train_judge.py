"""Trains the judge of an environment's data set: python scripts/train_judge.py --env GlimpseBirds-v0"""

from dataclasses import dataclass, replace
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Trains the judge of a data set, calibrates it on held-out images and saves it with its card."""

    passes: int | None = None
    """Number of passes over the training images; default the data set's own."""
    rounds: int | None = None
    """Number of rounds in which histories that the oracle visits are collected; default the data set's own."""
    encoder: str | None = None
    """Encoder of glimpses: convolutional, or a frozen one (efficientnet_lite0, timm:NAME, module:name, or the file of a
    program that torch.export.save wrote, .pt2); default the data set's own."""
    width: int | None = None
    """Numbers to which a frozen encoder's features are reduced, 0 to keep them all; default the data set's own."""
    seed: int = 0
    """Seed of all that is random."""
    out: Path | None = None
    """File of the weights (.safetensors; the card beside it); default in the cache, where gym.make finds it."""

    def __post_init__(self) -> None:
        cli.check_least(self, passes=1, rounds=0, width=0, seed=0)


def main(args: Args) -> None:
    from glimpse_env.devices import find_device
    from glimpse_env.files import write_json
    from glimpse_env.judge.judge import judge_path
    from oracles.presets import preset_of
    from oracles.training.judge import train_judge

    source = args.source()
    changes = {name: value for name in ("passes", "rounds", "width") if (value := getattr(args, name)) is not None}
    plan = replace(preset_of(source, args.encoder).judge, **changes)
    command = cli.command_line("train_judge", args)
    out = args.out or judge_path(source, plan.encoder)
    judge = train_judge(source, plan, seed=args.seed, command=command, out=out, device=find_device(args.device))
    write_json(out.with_suffix(".plan.json"), vars(plan))
    print(f"Judge of {source.name} ({source.fingerprint}) in {out}")
    for kind in ("random", "visited"):
        scores = [judge.card.scores[f"{kind}_{name}"] for name in ("accuracy", "log_loss", "calibration_error")]
        for t, (accuracy, loss, error) in enumerate(zip(*scores, strict=True), start=1):
            print(f"  {t} {kind} glimpses: accuracy {accuracy:.3f}, log-loss {loss:.3f}, calibration error {error:.3f}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
