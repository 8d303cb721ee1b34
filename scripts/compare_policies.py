"""Makes the table of all policies on a data set.

python scripts/compare_policies.py --env GlimpseBirds-v0 GlimpseMNIST-v0 GlimpseCUB-v0
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays every policy once on the same images and sets them side by side; a run that was stopped goes on when called
    again."""

    env: tuple[str, ...] = ("GlimpseBirds-v0",)  # type: ignore[assignment] # a table for each
    """Environment ids, or names of data sets."""
    policies: tuple[str, ...] | None = None
    """Names of policies; default all that the data set supports, without the rivals."""
    encoder: str | None = None
    """Encoder of the judge, e.g. convolutional for one trained from scratch; default the data set's own. With it the
    table's and the figures' name is that of the data set, a hyphen and the encoder."""
    images: int = 1000
    """Maximum number of images."""
    split: Literal["val", "test"] = "test"
    """Split that the images are from."""
    evaluations: Path | None = None
    """Folder of finished evaluations, which are not played again; default in the cache. An empty one plays all policies
    anew, as after a change of their code or for their times on a quiet machine."""
    out: Path = Path("runs/policies.json")
    """File of the figures, an entry for each data set; those of other data sets stay."""
    into: Path | None = None
    """Page that the tables go into, that of data set NAME between `<!-- table:NAME -->` and `<!-- /table:NAME -->`."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1)


def main(args: Args) -> None:
    from agents.evaluation.comparison import kept_evaluation
    from agents.evaluation.evaluate import TITLES, choose_images
    from agents.reports.policies import PolicyComparison, choose_policies
    from agents.reports.tables import replace_entry, replace_section
    from glimpse_env.devices import find_device
    from glimpse_env.registration import source_of
    from oracles.training.judge import ensure_judge

    device = find_device(args.device)
    for env in args.env:
        source = source_of(env, args.root, args.dataset_options, args.scales, args.zooms)
        names = choose_policies(source, args.policies)
        judge = ensure_judge(source, args.encoder, device=device)
        dataset = source.load(args.split)
        images = choose_images(dataset, args.images)
        evaluations = {}
        for name in names:
            logging.info("%s: %s, %d %s images", source.name, TITLES.get(name, name), len(images), args.split)
            evaluations[name] = kept_evaluation(name, source, judge, dataset, images, folder=args.evaluations)
        comparison = PolicyComparison(env, source, judge, evaluations)
        text = comparison.to_markdown()
        print(f"\n{env}\n\n{text}\n")
        entry = source.name if args.encoder is None else f"{source.name}-{args.encoder}"
        replace_entry(args.out, entry, comparison.to_json(cli.command_line("compare_policies", args)))
        if args.into is not None:
            replace_section(text, args.into, f"table:{entry}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
