"""Computes tables of frozen features: python scripts/encode_features.py --env GlimpseCUB-v0"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Encodes the glimpses at all grid locations into the cache, once for judges, oracles and agents; a run that was
    stopped goes on when called again."""

    encoder: str = "efficientnet_lite0"
    """Frozen encoder: efficientnet_lite0, timm:NAME, module:name, or a program that torch.export.save wrote (.pt2)."""
    width: int = 256
    """Numbers that a glimpse's features are reduced to; 0 to keep them all."""
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """Splits whose images are encoded."""
    mirrored: bool = False
    """Encode mirror images of the training images too."""
    shift: int = 0
    """Pixels by which further copies of the training images are moved in each of the four directions; 0 for none."""
    workers: int = 1
    """Number of processes that encode side by side; the tables are the same for any number."""
    ray: str | None = None
    """Address of a Ray cluster that encodes in place of workers, or "local" for one on this machine."""
    out: Path | None = None
    """File for time and sizes (.json)."""

    def __post_init__(self) -> None:
        cli.check_least(self, width=0, shift=0)


def main(args: Args) -> None:
    from glimpse_env.datasets.copies import ORIGINAL, copies_of
    from glimpse_env.devices import find_device
    from glimpse_env.encoding.features import glimpse_features
    from glimpse_env.encoding.table import FeatureTable, table_path
    from glimpse_env.files import write_json
    from glimpse_env.parallel import check_means

    check_means(args.workers, args.ray)
    source = args.source()
    began = time.perf_counter()
    features = glimpse_features(source, args.encoder, args.width, find_device(args.device))
    splits: dict[str, dict[str, float]] = {}
    report = {
        "dataset": source.name,
        "fingerprint": source.fingerprint,
        "features": features.identity,
        "width": features.width,
        "reduction_seconds": round(time.perf_counter() - began, 1),
        "splits": splits,
    }
    for split in args.splits:
        dataset = source.load(split)
        copies = copies_of(args.mirrored, args.shift) if split == "train" else (ORIGINAL,)
        missing = sum(not table_path(dataset, features, copy).is_file() for copy in copies)
        began = time.perf_counter()
        table = FeatureTable(dataset, features, copies, workers=args.workers, ray=args.ray)
        seconds, size = time.perf_counter() - began, sum(array.nbytes for array in table.arrays)
        glimpses = len(copies) * len(dataset) * len(dataset.geometry.grid)
        splits[split] = {
            "images": len(dataset),
            "copies": len(copies),
            "copies_computed": missing,
            "glimpses": glimpses,
            "bytes": size,
            "seconds": round(seconds, 1),
        }
        print(
            f"{source.name}/{split}: {glimpses} glimpses of {len(copies)} x {len(dataset)} images, "
            f"{size / 2**20:.0f} MiB; {missing} of {len(copies)} copies computed now, {seconds:.1f} s"
        )
    print(f"Features: {features.identity}")
    if args.out is not None:
        write_json(args.out, report)


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
