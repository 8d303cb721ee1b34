"""Makes demonstrations: python scripts/generate_demos.py --env GlimpseBirds-v0 --num 1000 --out demos.npz"""

from dataclasses import dataclass
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Records sequences of a policy on training images; a run that was stopped or killed goes on when called again."""

    out: Path
    """File to write (.npz; its manifest goes beside it as .json)."""
    policy: str = "oracle"
    """Name of a policy, e.g. oracle, hgs, human, fixed or random, or the folder of a run of train-agent.
    In an Anytime environment oracle is the one that stops."""
    num: int = 1000
    """Number of sequences, each on an image of its own."""
    seed: int = 0
    """Seed of the choice of images and all else that is random."""
    workers: int = 1
    """Number of processes that make sequences side by side; the file is the same for any number."""
    ray: str | None = None
    """Address of a Ray cluster that makes them in place of workers, or "local" for one on this machine."""

    trust: bool = False
    """Whether to read an agent from an SB3 zip without a card beside it, and to run the code that a card names. A file
    of somebody else can do anything then that you can do."""

    def __post_init__(self) -> None:
        cli.check_least(self, num=1, seed=0)


def main(args: Args) -> None:
    from agents.recording import is_agent, record_agent
    from glimpse_env.devices import find_device
    from glimpse_env.parallel import check_means
    from glimpse_env.presets import anytime_options
    from oracles.demonstrations import generate
    from oracles.training.judge import ensure_judge

    check_means(args.workers, args.ray)
    source = args.source()
    judge = ensure_judge(source, device=find_device(args.device))
    if is_agent(args.policy):
        path = Path(args.policy)
        demonstrations = record_agent(path, source, judge, args.num, seed=args.seed, trust=args.trust)
        demonstrations.save(args.out)
    else:
        demonstrations = generate(
            args.policy,
            source,
            judge,
            args.num,
            out=args.out,
            seed=args.seed,
            glimpse_cost=anytime_options(args.env).get("glimpse_cost"),
            workers=args.workers,
            ray=args.ray,
        )
    entropies = ", ".join(f"{value:.3f}" for value in demonstrations.entropies.mean(axis=0))
    print(f"{len(demonstrations)} sequences of {args.policy} on {source.name} ({source.fingerprint}) in {args.out}")
    if demonstrations.stops:
        print(f"Mean number of glimpses: {demonstrations.lengths.mean():.2f}")
    print(f"Mean entropy of the posterior after each glimpse: {entropies} nats")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
