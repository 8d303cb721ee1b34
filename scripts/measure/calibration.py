"""How well calibrated the judge is where each policy looks.

python scripts/measure/calibration.py --env GlimpseBirds-v0 --picture docs/images/calibration_birds.png
"""

import logging
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from tqdm.auto import tqdm

from agents.evaluation.calibration import Calibration, calibrate
from agents.evaluation.evaluate import TITLES, choose_images, start_on
from agents.reports.oracle_plots import reliability
from agents.reports.oracle_tables import calibration_table
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.files import write_json
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.registration import source_of
from glimpse_env.rollout import play
from glimpse_env.versions import versions
from oracles.registry import make_policy
from oracles.training.judge import ensure_judge


@dataclass(frozen=True)
class Args:
    """Plays policies on test images and holds the judge's confidence after each glimpse against its accuracy."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    policies: tuple[str, ...] = ("random", "centre", "fixed", "hgs", "boed", "lookahead")
    """Whose histories; hgs is left out where there are no parts."""
    images: int = 2000
    """Test images, at most."""
    network: int | None = None
    """Ask this one of the judge's networks alone, 0 the first; default as in episodes, the mean of all."""
    seed: int = 0
    """Of what is random in policies and bootstrap."""
    picture: Path | None = None
    """Where the reliability diagrams go (.png); default runs/calibration-<data set>.png."""
    out: Path | None = None
    """Where the figures go as JSON; default nowhere."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        run(args)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def run(args: Args) -> None:
    """Plays, measures, prints the table and draws the picture."""
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    judge, test = ensure_judge(source), source.load("test")
    if args.network is not None:
        if not 0 <= args.network < len(judge.networks):
            raise ConfigurationError(f"--network {args.network} must lie in 0..{len(judge.networks) - 1}.")
        test = replace(test, folds=np.full(len(test), args.network))
    indices = choose_images(test, args.images)
    found: dict[str, list[Calibration]] = {}
    for name in args.policies:
        if name == "hgs" and not source.part_names:
            continue
        logging.info("%s: %d test images of %s", TITLES.get(name, name), len(indices), source.name)
        policy = make_policy(name, source, judge, network=args.network, seed=args.seed)
        rollouts = play(policy, test, judge, indices, start=start_on(policy, test))
        probabilities = judge_sequences(test, judge, indices, rollouts.corners)
        found[name] = [
            calibrate(probabilities[:, t], rollouts.labels, seed=args.seed)
            for t in tqdm(range(source.geometry.num_glimpses), desc="Bootstrap", unit="glimpse")
        ]
    print(calibration_table(found))
    picture = args.picture or Path("runs") / f"calibration-{source.name}.png"
    reliability(
        picture,
        {name: steps[-1] for name, steps in found.items()},
        title=f"Judge of {source.name} after {source.geometry.num_glimpses} glimpses, by who chose them",
        note=f"{len(indices)} test images; points: bins of equally many images, with 95 % intervals.",
    )
    logging.info("Picture: %s", picture)
    if args.out is not None:
        settings = {name: value for name, value in asdict(args).items() if not isinstance(value, Path)}
        content = {
            "args": settings,
            "dataset": source.name,
            "fingerprint": source.fingerprint,
            "judge": judge.identity,
            "policies": {name: [step.to_json() for step in steps] for name, steps in found.items()},
            "versions": versions(),
        }
        write_json(args.out, content)


if __name__ == "__main__":
    main(tyro.cli(Args))
