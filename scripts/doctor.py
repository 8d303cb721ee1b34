"""Tells what is installed here and found: versions, device, cache, data sets and how to get them, extras.

python scripts/doctor.py --out doctor.json
"""

from dataclasses import dataclass
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args:
    """Prints versions, device, threads, the cache and its sizes, data sets and how to get those that are not found,
    and what each extra would add."""

    out: Path | None = None
    """File that the same is written to as JSON."""


def main(args: Args) -> None:
    from glimpse_env.console.doctor import as_text, examine
    from glimpse_env.files import write_json

    report = examine()
    print(as_text(report))
    if args.out is not None:
        write_json(args.out, report)


if __name__ == "__main__":
    cli.run(main, Args, one_thread=False)  # PyTorch's own number of threads is told
