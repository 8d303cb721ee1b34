"""Makes demonstrations: python scripts/generate_demos.py --env GlimpseBirds-v0 --num 1000 --out demos.npz"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from agents.recording import is_agent, record_agent
from glimpse_env.registration import source_of
from oracles.demonstrations import generate
from oracles.parallel import check_means
from oracles.training.judge import ensure_judge


@dataclass(frozen=True)
class Args:
    """Records sequences of a policy on training images; a run that was stopped or killed goes on when called again."""

    out: Path
    """File to write (.npz; its manifest goes beside it as .json)."""
    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    policy: str = "oracle"
    """oracle, hgs, fixed, centre, random or clairvoyant, or the model.zip of a run of scripts/train_agent.py."""
    num: int = 1000
    """Sequences, each on an image of its own."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    seed: int = 0
    """Of the choice of images and all else that is random."""
    workers: int = 1
    """Processes that make sequences side by side; the file is the same for any number."""
    ray: str | None = None
    """Address of a Ray cluster that makes them in place of workers, or "local" for one on this machine."""


def main(args: Args) -> None:
    check_means(args.workers, args.ray)
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    judge = ensure_judge(source)
    if is_agent(args.policy):
        demonstrations = record_agent(Path(args.policy), source, judge, args.num, seed=args.seed)
        demonstrations.save(args.out)
    else:
        demonstrations = generate(
            args.policy, source, judge, args.num, out=args.out, seed=args.seed, workers=args.workers, ray=args.ray
        )
    entropies = ", ".join(f"{value:.3f}" for value in demonstrations.entropies.mean(axis=0))
    print(f"{len(demonstrations)} sequences of {args.policy} on {source.name} ({source.fingerprint}) in {args.out}")
    print(f"Mean entropy of the posterior after each glimpse: {entropies} nats")


if __name__ == "__main__":
    main(tyro.cli(Args))
