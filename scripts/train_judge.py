"""Trains the judge of an environment's data set: python scripts/train_judge.py --env GlimpseBirds-v0"""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from glimpse_env.files import write_json
from glimpse_env.judge.judge import judge_path
from glimpse_env.registration import source_of
from oracles.presets import preset_of
from oracles.training.judge import train_judge


@dataclass(frozen=True)
class Args:
    """Trains the judge of a data set, calibrates it on held-out images and saves it with its card."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    passes: int | None = None
    """Passes over the training images; default the data set's own."""
    rounds: int | None = None
    """Rounds of collecting histories that the oracle visits; default the data set's own."""
    seed: int = 0
    """Of all that is random."""
    out: Path | None = None
    """Where the weights go (.safetensors; the card beside them); default the cache, where gym.make finds them."""


def main(args: Args) -> None:
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    chosen = {name: value for name in ("passes", "rounds") if (value := getattr(args, name)) is not None}
    plan = replace(preset_of(source).judge, **chosen)
    command = shlex.join(["python", "scripts/train_judge.py", *sys.argv[1:]])
    judge = train_judge(source, plan, seed=args.seed, command=command)
    out = args.out or judge_path(source)
    judge.save(out)
    write_json(out.with_suffix(".plan.json"), vars(plan))
    print(f"Judge of {source.name} ({source.fingerprint}) in {out}")
    for kind in ("random", "visited"):
        scores = [judge.card.scores[f"{kind}_{name}"] for name in ("accuracy", "log_loss", "calibration_error")]
        for t, (accuracy, loss, error) in enumerate(zip(*scores, strict=True), start=1):
            print(f"  {t} {kind} glimpses: accuracy {accuracy:.3f}, log-loss {loss:.3f}, calibration error {error:.3f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
