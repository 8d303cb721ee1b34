"""Writes the report of a training run as one page: python scripts/share/inspect_.py runs/mine"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DeviceFlags):
    """Writes a page with the learning curve of a finished run, example episodes and maps, and where success is lost: by
    step, by class, and image by image beside the oracle."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run of train-agent."""
    out: Path | None = None
    """Page to write (.html), which needs no other file; default report.html in the folder."""
    lost: int = 3
    """Images on which the oracle was right and the agent was not, to play again and show, at most."""
    root: str | None = None
    """Folder of the data set, where it has moved."""
    trust: bool = False
    """Whether to run code that the agent's files name. Code of somebody else can do anything then that you can do."""

    def __post_init__(self) -> None:
        cli.check_least(self, lost=0)


def main(args: Args) -> None:
    from agents.reports.run_page import write_run_page
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError

    out = args.out or args.run / "report.html"
    if out.suffix != ".html":
        raise ConfigurationError(f"--out {out} must end in .html.")
    device = find_device(args.device)
    write_run_page(args.run, out, root=args.root, lost=args.lost, trust=args.trust, device=device)
    print(f"Page: {out} ({out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    cli.run(main, Args)
