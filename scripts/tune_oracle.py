"""Compares settings of the oracle on validation images: python scripts/tune_oracle.py --env GlimpseBirds-v0"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays the data set's default oracle with one setting changed at a time, the paper's form and the best fixed
    sequence on the same images; a run that was stopped goes on when called again."""

    images: int = 480
    """Maximum number of images."""
    split: Literal["val", "train"] = "val"
    """Split that the images are from. Where it has few validation images, training images tell more apart: each is
    judged by the network that was not trained on it, and left out of banks and regressions."""
    criteria: tuple[str, ...] = ("entropy", "log_loss", "error")
    """Criteria to try: what the oracle minimises."""
    horizons: tuple[str, ...] = ("next", "last")
    """Horizons to try: the criterion counts after the next glimpse, or after the last."""
    histories: tuple[str, ...] = ("seen", "completion")
    """Histories to try: the candidate glimpse is added to the glimpses seen, or to the completion's own."""
    matches: tuple[str, ...] = ("pixels", "embedding")
    """Ways to compare glimpses that are tried."""
    label_weights: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    """Exponents of the posterior of the completions' labels that are tried."""
    effective_samples: tuple[float, ...] = (5.0, 10.0, 30.0, 100.0)
    """Effective sample sizes of the completions that are tried."""
    mirrored: tuple[bool, ...] = (False, True)
    """Banks and regressions with mirror images (True) and without (False), tried where the data set is mirror
    symmetric."""
    shifts: tuple[int, ...] = (0, 4)
    """Shifts of further copies in the bank that are tried, pixels up, down, left and right."""
    ridges: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    """Ridges of kernel BOED that are tried, where it is the data set's oracle."""
    sharpnesses: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Inverse widths of its kernel that are tried."""
    branches: tuple[int, ...] = (1, 3, 6)
    """Numbers of locations among which it chooses that are tried."""
    predicted: tuple[float, ...] = ()
    """Shares of the features predicted for all places in its distances that are tried."""
    further: str | None = None
    """Name of a data set, or path of an image folder, whose training images of other classes it regresses over as
    well, without labels; default none."""
    further_ridges: tuple[float, ...] = (3.0, 10.0, 30.0)
    """Ridges of these that are tried."""
    evaluations: Path | None = None
    """Folder of finished evaluations, which are not played again; default in the cache."""
    out: Path = Path("runs/oracle_ablation.json")
    """File of the figures, an entry for each data set; those of other data sets stay."""
    into: Path | None = None
    """Page that the table goes into, that of data set NAME between `<!-- ablation:NAME -->` and
    `<!-- /ablation:NAME -->`."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1)


def main(args: Args) -> None:
    from agents.evaluation.comparison import kept_evaluation
    from agents.evaluation.evaluate import choose_images
    from agents.reports.oracle.settings import oracle_settings, settings_entry, settings_table
    from agents.reports.tables import replace_entry, replace_section
    from glimpse_env.devices import find_device
    from oracles.training.judge import ensure_judge

    source = args.source()
    values = {"criterion": args.criteria, "horizon": args.horizons, "history": args.histories}
    names = ("matches", "label_weights", "effective_samples", "mirrored", "shifts")
    fields = ("match", "label_weight", "effective_samples", "mirrored", "shifts")
    completions = {field: getattr(args, name) for field, name in zip(fields, names, strict=True)}
    kernels = {
        "ridge": args.ridges,
        "sharpness": args.sharpnesses,
        "branches": args.branches,
        "mirrored": args.mirrored,
        "predicted": args.predicted,
    }
    further = {} if args.further is None else {args.further: args.further_ridges}
    settings = oracle_settings(source, values, completions, kernels, further)
    judge = ensure_judge(source, device=find_device(args.device))
    dataset = source.load(args.split)
    images = choose_images(dataset, args.images)
    evaluations = {}
    for number, (name, row) in enumerate(settings.items(), start=1):
        logging.info("%s: %s (%d of %d), %d images", source.name, name, number, len(settings), len(images))
        evaluations[name] = kept_evaluation(
            row.policy, source, judge, dataset, images, config=row.config, folder=args.evaluations
        )
    text = settings_table(source, evaluations)
    print(f"\n{args.env}\n\n{text}\n")
    command = {"env": args.env, "command": cli.command_line("tune_oracle", args)}
    replace_entry(args.out, source.name, command | settings_entry(source, settings, evaluations))
    if args.into is not None:
        replace_section(text, args.into, f"ablation:{source.name}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
