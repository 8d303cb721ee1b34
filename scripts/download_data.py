"""Fetches CUB-200-2011 (1.1 GB) or MNIST (11 MB) to where the environments look for them.

python scripts/download_data.py cub
python scripts/download_data.py mnist --root data
"""

from dataclasses import dataclass
from typing import Literal

import tyro

from glimpse_env import cli
from glimpse_env.datasets.download import download


@dataclass(frozen=True)
class Args:
    """Fetches a published data set, checks it against its checksum and unpacks it."""

    dataset: tyro.conf.Positional[Literal["cub", "mnist"]]
    """Name of the data set."""
    root: str | None = None
    """Folder to put it in; default the environment variable GLIMPSE_DATA, else a per-user cache folder."""
    url: str | None = None
    """A mirror: the folder that has the same files, or the archive itself; default the publisher's."""


def main(args: Args) -> None:
    download(args.dataset, root=args.root, url=args.url)


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
