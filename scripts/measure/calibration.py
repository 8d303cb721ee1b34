"""How well calibrated the judge is where each policy looks.

python scripts/measure/calibration.py --env GlimpseBirds-v0 --picture docs/images/calibration_birds.png
"""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays policies on test images and holds the judge's confidence after each glimpse against its accuracy."""

    policies: tuple[str, ...] = ("random", "centre", "fixed", "hgs", "human", "boed", "lookahead")
    """Policies whose histories are judged; hgs and human are left out where there are no parts and no gaze."""
    images: int = 2000
    """Maximum number of test images."""
    network: int | None = None
    """Index of the judge's network that is asked alone, from 0; default as in episodes, the mean of all."""
    seed: int = 0
    """Seed of policies and bootstrap."""
    picture: Path | None = None
    """File of the reliability diagrams (.png); default runs/calibration_<data set>.png."""
    out: Path | None = None
    """File of the figures (.json); default runs/calibration_<data set>.json."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1, seed=0)


def main(args: Args) -> None:
    """Plays, measures, prints the table and draws the picture."""
    import numpy as np
    from tqdm.auto import tqdm

    from agents.evaluation.calibration import Calibration, calibrate
    from agents.evaluation.evaluate import TITLES, choose_images, start_on
    from agents.reports.oracle.plots import reliability
    from agents.reports.oracle.tables import calibration_table
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.judge.sequences import judge_sequences
    from glimpse_env.rollout import play
    from glimpse_env.versions import versions
    from oracles.registry import make_policy, unavailable_reason
    from oracles.training.judge import ensure_judge

    source = args.source()
    judge, test = ensure_judge(source, device=find_device(args.device)), source.load("test")
    if args.network is not None:
        if not 0 <= args.network < len(judge.networks):
            raise ConfigurationError(f"--network {args.network} must lie in 0..{len(judge.networks) - 1}.")
        test = replace(test, folds=np.full(len(test), args.network))
    indices = choose_images(test, args.images)
    calibrations: dict[str, list[Calibration]] = {}
    for name in args.policies:
        if name in ("hgs", "human") and unavailable_reason(name, source) is not None:
            continue
        logging.info("%s: %d test images of %s", TITLES.get(name, name), len(indices), source.name)
        policy = make_policy(name, source, judge, network=args.network, seed=args.seed)
        rollouts = play(policy, test, judge, indices, start=start_on(policy, test))
        probabilities = judge_sequences(test, judge, indices, rollouts.corners)
        calibrations[name] = [
            calibrate(probabilities[:, t], rollouts.labels, seed=args.seed)
            for t in tqdm(range(source.geometry.num_glimpses), desc="Bootstrap", unit="glimpse")
        ]
    print(calibration_table(calibrations))
    picture = args.picture or Path(f"runs/calibration_{source.name}.png")
    reliability(
        picture,
        {name: steps[-1] for name, steps in calibrations.items()},
        title=f"Judge of {source.name} after {source.geometry.num_glimpses} glimpses, by who chose them",
        note=f"{len(indices)} test images; points: bins of equally many images, with 95 % intervals.",
    )
    out = args.out or Path(f"runs/calibration_{source.name}.json")
    content = {
        "args": {name: value for name, value in asdict(args).items() if not isinstance(value, Path)},
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "judge": judge.identity,
        "policies": {name: [step.to_json() for step in steps] for name, steps in calibrations.items()},
        "versions": versions(),
    }
    write_json(out, content)
    print(f"Picture in {picture}, figures in {out}.")


if __name__ == "__main__":
    cli.run(main, Args)
