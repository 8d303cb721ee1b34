"""Draws an episode of one policy, or of several side by side, as a PNG or a GIF.

python scripts/render_episode.py --policies oracle --index 3 --out episode.png
python scripts/render_episode.py --policies oracle random --out episode.gif
python scripts/render_episode.py --env GlimpseMNIST-v0 --policies runs/GlimpseMNIST-v0-ppo-oracle-s0/model.zip
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image

from agents.evaluation.recordings import episode_frames, record
from agents.registry import algorithm_of
from agents.reports import episodes as figures
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.files import whole_file
from glimpse_env.judge.judge import Judge
from glimpse_env.registration import source_of
from oracles.registry import POLICIES, make_policy
from oracles.training.judge import ensure_judge


@dataclass(frozen=True)
class Args:
    """Draws an episode: after each glimpse what was seen, what the judge makes of it, and the oracle's EPE map."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    policies: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--policy",))] = ("oracle",)
    """Whose episode: random, centre, fixed, hgs, oracle, clairvoyant, or the file of a model; several side by side."""
    algo: str = "ppo"
    """Algorithm of a model that is given as a file: ppo, a2c or maskable_ppo."""
    index: int = 0
    """Which image of the split."""
    split: Literal["train", "val", "test"] = "test"
    """Of the data set. On training images the oracle leaves the very image out of its bank."""
    out: Path = Path("episode.png")
    """What to write: one picture with all steps (.png), or an animation (.gif)."""
    width: int = 1000
    """Of an animation in pixels, at most."""
    seconds: float = 1.0
    """Each step of an animation stays; the last one three times as long."""
    scales: int | None = None
    """Concentric windows of a glimpse; default the environment's."""
    seed: int = 0
    """Of policies that are random."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        draw(args)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def draw(args: Args) -> None:
    """Plays the episode and writes the picture."""
    if args.out.suffix not in (".png", ".gif"):
        raise ConfigurationError(f"--out {args.out} must end in .png or .gif.")
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    dataset = source.load(args.split)
    if not 0 <= args.index < len(dataset):
        raise ConfigurationError(f"--index {args.index} must lie in 0..{len(dataset) - 1} for {args.split}.")
    judge = ensure_judge(source)
    image = np.array([args.index])
    columns = []
    for name in args.policies:
        policy = _policy(name, args, source, judge, int(dataset.folds[args.index]))
        recording = record(policy, dataset, judge, image)
        title = Path(name).parent.name or name
        columns.append(episode_frames(recording, 0, dataset, name=name if name in POLICIES else title))
    if len(columns) == 1:
        pictures, across = columns[0], 2
    else:
        pictures, across = [np.concatenate(step, axis=1) for step in zip(*columns, strict=True)], 1
    with whole_file(args.out) as temporary:
        if args.out.suffix == ".png":
            Image.fromarray(figures.tile(pictures, across)).save(temporary)
        else:
            _animate(temporary, pictures, args)
    logging.info("Wrote %s: image %d of %s/%s.", args.out, args.index, source.name, args.split)


def _policy(name: str, args: Args, source: DataSource, judge: Judge, fold: int) -> Any:
    """The reference policy ``name``, or the model in the file ``name``."""
    if name in POLICIES:
        return make_policy(name, source, judge, network=None if fold == -1 else fold, seed=args.seed)
    if not Path(name).is_file():
        raise ConfigurationError(f"policy {name} is no file and none of {', '.join(POLICIES)}.")
    return algorithm_of(args.algo).model.load(name, device="cpu")


def _animate(path: Path, pictures: list[np.ndarray], args: Args) -> None:
    """Writes pictures as an endless GIF."""
    height, width = pictures[0].shape[:2]
    share = min(1.0, args.width / width)
    size = (round(width * share), round(height * share))
    frames = [
        Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS).quantize(256, kmeans=2) for picture in pictures
    ]
    stays = [round(1000 * args.seconds)] * (len(frames) - 1) + [round(3000 * args.seconds)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=stays, loop=0, optimize=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
