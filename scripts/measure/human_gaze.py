"""Compares where policies look on CUB with where people look who tell its species apart.

python scripts/measure/human_gaze.py --env GlimpseCUB-v0 --out docs/human_cub.json --into docs/human.md
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Measures how well glimpses and maps of policies agree with human gaze: NSS, AUC and a distance of scanpaths,
    between what people agree among themselves and what the centre of the image gives."""

    env: str = "GlimpseCUB-v0"
    """GlimpseCUB-v0 or GlimpseCUBFull-v0."""
    policies: tuple[str, ...] = ("random", "fixed", "hgs", "oracle", "clairvoyant")
    """Names of policies."""
    images: int = 1000
    """Maximum number of images."""
    split: Literal["val", "test"] = "test"
    """Split that the images are from; the test split is for reporting only."""
    sigma: float | None = None
    """Blur of fixations and of glimpses' centres, the standard deviation of a Gaussian in pixels; default a quarter of
    a glimpse's side."""
    shown: int = 4
    """Number of images in the picture, from the one on which the policy agrees best with people to the worst."""
    photographs: bool = True
    """The picture shows the photographs, whose rights are their owners'; else their annotated parts."""
    seed: int = 0
    """Seed of policies that are random."""
    pictures: Path = Path("runs/human")
    """Folder for the pictures: NAME_agreement.png and NAME_examples.png of data set NAME."""
    out: Path = Path("runs/human.json")
    """File of the figures."""
    into: Path | None = None
    """Page that the tables go into, between `<!-- table:NAME -->` and `<!-- /table:NAME -->` of data set NAME."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=2, shown=1, seed=0, sigma=0.1)


def main(args: Args) -> None:
    import numpy as np

    from agents.evaluation.evaluate import TITLES, choose_images, evaluate
    from agents.evaluation.gaze import CENTRE, PEOPLE, People, compare, spread_about_centre
    from agents.evaluation.recordings import record
    from agents.reports.gaze import MAPS, agreement_plot, agreement_table, examples, runs_table, to_json
    from agents.reports.tables import plain, replace_section
    from glimpse_env.datasets.gaze import RUNS, CUBGaze, gaze_identity
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions
    from oracles.baselines import centre_out
    from oracles.human import HumanPolicy
    from oracles.registry import make_policy
    from oracles.training.judge import ensure_judge

    if not args.policies or {PEOPLE, CENTRE, "human"} & set(args.policies):
        raise ConfigurationError(
            f"--policies {' '.join(args.policies)} must name a policy and neither human nor centre, which the others "
            "are compared with."
        )
    source = args.source()
    gaze, identity, geometry = CUBGaze(source), gaze_identity(source), source.geometry
    judge, dataset, grid = ensure_judge(source, device=find_device(args.device)), source.load(args.split), geometry.grid
    people = People(gaze, args.split, choose_images(dataset, args.images))
    if len(people) < 2:
        raise ConfigurationError(
            f"{len(people)} of {args.images} {args.split} images were looked at in two runs; ask for more --images."
        )
    sigma = geometry.glimpse_size / 4 if args.sigma is None else args.sigma
    width, to_centre = spread_about_centre(gaze, "train"), geometry.glimpse_size / 2
    logging.info("People, and the centre: %d %s images of %s", len(people), args.split, source.name)
    outwards = grid.corners[centre_out(grid, geometry.num_glimpses)] + to_centre
    agreements = {PEOPLE: people.ceiling(sigma), CENTRE: people.of_centre(width, outwards)}
    recordings = {}
    for name in args.policies:
        logging.info("%s", TITLES.get(name, name))
        policy = make_policy(name, source, judge, seed=args.seed)
        recording = recordings[name] = record(policy, dataset, judge, people.indices)
        agreements[name] = people.of_glimpses(recording.corners + to_centre, sigma)
        if recording.maps is not None:
            agreements[f"{name}{MAPS}"] = people.of_maps(recording.maps, grid)
    sequences = {}
    for run in (None, *RUNS):
        looked = [run is None or any(look.run == run for look in looks) for looks in people.looks]
        images = people.indices[np.array(looked)]
        name = "all runs" if run is None else f"run {run}"
        policy = HumanPolicy(gaze, grid, geometry.num_glimpses, run)
        sequences[name] = evaluate(policy, dataset, judge, images, name="human")
    figures = compare(agreements)
    note = (
        f"{len(people)} {args.split} images of {plain(source.name)} (`{source.fingerprint}`), gaze `{identity}`, judge "
        f"`{judge.identity}`. 95 % bootstrap intervals over images, paired for differences; Wilson's for success. "
        "Distances are in percent of the image's side. † sees more of the image than its glimpses."
    )
    text = f"{agreement_table(figures)}\n\n{runs_table(sequences)}\n\n{note}"
    print(f"\n{text}\n")
    title = f"Where policies and people look on {len(people)} {args.split} images of {source.name}"
    agreement_plot(
        args.pictures / f"{source.name}_agreement.png",
        figures,
        title=title,
        note="Means over images with 95 % intervals. Dotted: chance. Diamonds: maps in place of glimpses. Distances in "
        "percent of the side, less is better.",
    )
    drawn = "oracle" if "oracle" in recordings else args.policies[-1]
    order = np.argsort(-agreements[drawn].nss, kind="stable")
    examples(
        args.pictures / f"{source.name}_examples.png",
        dataset,
        people,
        recordings[drawn],
        order[np.linspace(0, len(order) - 1, min(args.shown, len(order))).round().astype(np.int64)],
        name=drawn,
        sigma=sigma,
        photographs=args.photographs,
        title=title,
        note="From the image whose glimpses agree best with people (NSS) to the worst. Each run has a colour.",
    )
    logging.info("Pictures in %s", args.pictures)
    content = {
        "command": cli.command_line("measure/human_gaze", args),
        "args": {name: value for name, value in asdict(args).items() if not isinstance(value, Path)},
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "gaze": identity,
        "judge": judge.identity,
        "images": len(people),
        "sigma": sigma,
        "centre_width": width,
        "agreement": to_json(figures),
        "success": {name: float(recording.success.mean()) for name, recording in recordings.items()},
        "people_success": {
            name: {"value": one.success_rate, "interval": list(one.interval()), "log_loss": float(one.log_loss[-1])}
            for name, one in sequences.items()
        },
        "versions": versions(),
    }
    write_json(args.out, content)
    if args.into is not None:
        replace_section(text, args.into, f"table:{source.name}")


if __name__ == "__main__":
    cli.run(main, Args)
