"""Puts the glimpse sequences that the paper's authors published beside ours, on the same images.

python scripts/measure/published.py $GLIMPSE_DATA/nogs_sequences_cub --out docs/published_cub.json
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """Compares published sequences, the same shuffled over the images, and policies of ours, image by image."""

    sequences: tyro.conf.Positional[Path]
    """Folder of published sequences, or a text file of them."""
    root: str | None = None
    """Folder of CUB-200-2011; default GLIMPSE_DATA."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}'."""
    policies: tuple[str, ...] | None = None
    """Policies to compare with beside the oracle; default hgs, human where there is gaze, centre, fixed and random."""
    draws: int = 20
    """Number of shuffles of the published sequences, and of seeds of the random policy, that are averaged over."""
    shown: int = 4
    """Number of images in the picture of disagreements, from the one whose published choices stand highest on our maps
    to the lowest."""
    photographs: bool = True
    """That picture shows the photographs, whose rights are their owners'; else their annotated parts."""
    seed: int = 0
    """Seed of all that is random."""
    pictures: Path = Path("runs/published")
    """Folder for the pictures: published_steps.png, published_coverage.png and published_maps.png."""
    out: Path = Path("runs/published.json")
    """File of the figures."""

    def __post_init__(self) -> None:
        cli.check_least(self, draws=1, shown=1, seed=0)


def main(args: Args) -> None:
    import numpy as np

    from agents.evaluation import published
    from agents.evaluation.published import EXCHANGED, OURS, PUBLISHED, SHUFFLED
    from agents.reports.oracle import plots as oracle_plots
    from agents.reports.oracle.tables import last_differences, percentile_table, reach_table, steps_table, success_table
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import write_json
    from glimpse_env.registration import source_of
    from glimpse_env.versions import versions
    from oracles.exchange.published import cropped_cub, read_published
    from oracles.registry import unavailable_reason
    from oracles.training.judge import ensure_judge

    source = cropped_cub(source_of("GlimpseCUB-v0", args.root, args.dataset_options))
    judge, train = ensure_judge(source, device=find_device(args.device)), source.load("train")
    demonstrations = read_published(args.sequences, source, judge)
    indices, theirs = demonstrations.indices, demonstrations.locations
    if len(indices) < 2:
        raise ConfigurationError(f"{args.sequences} has {len(indices)} sequence of a training image; bring 2 or more.")
    logging.info("%d published sequences of images in %s/train", len(indices), source.name)

    shifts = published.official_training_images(source, source.image_ids("train")[indices])
    logging.info("For training in CUB's own split, with this added to the ids: %s", shifts)

    names = args.policies
    if names is None:
        beside = ("hgs", "human", "centre", "fixed", "random")
        names = tuple(name for name in beside if unavailable_reason(name, source) is None)
    rng = np.random.default_rng(args.seed)
    mixed = published.shuffled(theirs, args.draws, rng)
    draws = {PUBLISHED: theirs[None], SHUFFLED: mixed}
    for name in (OURS, *(name for name in names if name != OURS)):
        logging.info("Sequences of %s", name)
        seeds = range(args.seed, args.seed + (args.draws if name == "random" else 1))
        draws[name] = np.stack([published.chosen_by(name, source, judge, indices, seed=seed) for seed in seeds])
    judged = {name: published.Judged.of(train, judge, indices, locations) for name, locations in draws.items()}
    both = {name + EXCHANGED: published.transposed(draws[name], judge.grid) for name in (PUBLISHED, SHUFFLED)}
    reached = {
        name: published.reach(train, judge.grid, indices, locations) for name, locations in (draws | both).items()
    }
    logging.info("Our maps along the published sequences")
    maps = published.maps_along(source, judge, indices, theirs)
    rank, percentile = published.ranks(maps, theirs, theirs)
    others = np.mean([published.ranks(maps, theirs, choices)[1] for choices in mixed], axis=0)

    apart = published.differences(judged[PUBLISHED], judged[SHUFFLED])
    print(f"\nPublished less shuffled, after the last glimpse: {last_differences(apart)}")
    for table in (success_table(judged), *(steps_table(judged, name) for name in ("log_loss", "entropy"))):
        print(f"\n{table}")
    print(f"\n{reach_table(reached)}\n\n{percentile_table(percentile, others)}\n")

    note = f"{len(indices)} images of {source.name}/train, each judged by the network that never saw it"
    title = f"Glimpses on {len(indices)} images of CUB"
    oracle_plots.step_curves(
        args.pictures / "published_steps.png", judged, title=title, note=f"{note}; 95 % intervals."
    )
    parts = train.parts[indices]
    oracle_plots.coverage(
        args.pictures / "published_coverage.png",
        {name: draws[name][0] for name in (PUBLISHED, OURS)},
        judge.grid,
        parts=parts[parts[..., 2] > 0][:, :2],
        title=title,
        note="Light blue: where annotated parts are frequent.",
    )
    order = np.argsort(-percentile[:, 1:].mean(axis=1), kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(args.shown, len(order))).round().astype(np.int64)]
    oracle_plots.disagreement(
        args.pictures / "published_maps.png",
        train,
        indices[rows],
        theirs[rows],
        draws[OURS][0][rows],
        maps[rows],
        judge.grid,
        photographs=args.photographs,
        note="Images by the mean percentile of their published choices, from the highest of all to the lowest.",
    )
    logging.info("Pictures in %s", args.pictures)
    settings = {name: value for name, value in asdict(args).items() if not isinstance(value, Path)}
    content = {
        "args": settings | {"sequences": args.sequences.name},
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "judge": judge.identity,
        "images": len(indices),
        "sequences": published.to_json(judged),
        "official_training_images_by_shift_of_ids": shifts,
        "published_less_shuffled": published.estimates_to_json(apart),
        "reach": {
            name: {what: published.mean_estimate(values).to_json() for what, values in measured.items()}
            for name, measured in reached.items()
        },
        "percentiles": {
            name: [published.mean_estimate(column).to_json() for column in values.T]
            for name, values in (("own", percentile), ("others", others), ("difference", percentile - others))
        },
        "mean_rank": rank.mean(axis=0).tolist(),
        "versions": versions(),
    }
    write_json(args.out, content)


if __name__ == "__main__":
    cli.run(main, Args)
