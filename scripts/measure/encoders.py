"""What the judge of photographs gains by its encoder, by the width of its features and by the size of windows.

python scripts/measure/encoders.py --env GlimpseCUB-v0 --out runs/encoders_cub.json --into docs/photographs.md
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from glimpse_env import cli

JUDGES = (
    "efficientnet_lite0@256",
    "efficientnet_lite0@128",
    "efficientnet_lite0@192",
    "efficientnet_lite0@384",
    "efficientnet_lite0_64@256",
    "convolutional",
)


@dataclass(frozen=True)
class Args(cli.DatasetFlags):
    """Trains a judge for each encoder and width, and measures it on images it was not trained on, never on test images;
    called again it measures what the file of figures lacks."""

    env: str = "GlimpseCUB-v0"
    """Environment id of photographs, or the name of their data set."""
    judges: tuple[str, ...] = JUDGES
    """Encoder of each judge, and behind an @ the width its features are reduced to. The first one is what the others
    are compared with; efficientnet_lite0_64 enlarges windows to 64 x 64 pixels in place of 96 x 96."""
    images: int = 2000
    """Maximum number of validation images, and of training images, which the network judges that never saw them."""
    seed: int = 0
    """Seed of training, and of the random policy."""
    out: Path | None = None
    """File of the figures (.json); default runs/encoders_<data set>.json."""
    into: Path | None = None
    """Page that the tables go into, between marks named encoders:<data set>."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1, seed=0)


def main(args: Args) -> None:
    from agents.evaluation.encoders import Compared, Measured, encoder_tables, measure
    from agents.reports.tables import replace_section
    from glimpse_env.files import read_json, write_json
    from glimpse_env.versions import versions

    source = args.source()
    compared = list(dict.fromkeys(Compared.parse(text, source) for text in args.judges))
    out = args.out or Path(f"runs/encoders_{source.name}.json")
    command = cli.command_line("measure/encoders", args, always=("env",))
    settings = {
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "geometry": asdict(source.geometry),
        "images": args.images,
        "seed": args.seed,
    }
    content = read_json(out) if out.is_file() else {}
    known = content.get("judges", {}) if content.get("settings") == _as_json(settings) else {}
    measured = {}
    for one in compared:
        plan = _as_json(asdict(one.plan(source)))
        if known.get(one.title, {}).get("plan") != plan:
            logging.info("%s: a judge of %s", one.title, source.name)
            figures = measure(source, one, images=args.images, seed=args.seed).to_json()
            known = {**known, one.title: {"plan": plan, **figures}}
            write_json(out, {"command": command, "settings": settings, "judges": known, "versions": versions()})
        measured[one.title] = Measured.from_json({k: v for k, v in known[one.title].items() if k != "plan"})
    text = encoder_tables(measured, compared[0].title)
    if args.into is not None:
        replace_section(f"`{command}`\n\n{text}", args.into, f"encoders:{source.name}")
    print(f"{text}\n\nFigures in {out}.")


def _as_json(value: object) -> object:
    import json

    return json.loads(json.dumps(value))


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
