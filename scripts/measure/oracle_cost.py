"""Measures what a sequence of the oracle costs, by the size of its bank, and beside the published way.

python scripts/measure/oracle_cost.py
python scripts/measure/oracle_cost.py --banks 1000 10000 --out runs/a.json --page runs/a.md --picture runs/a.png
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from agents.evaluation.cost.settings import QUICK, CostSettings
from glimpse_env import cli
from glimpse_env.files import whole_file


@dataclass(frozen=True)
class Args(CostSettings):
    """Measures what a sequence of the oracle costs on drawn birds, with 169 locations and the shipped judge.

    A run that was stopped goes on from the last cell in --out. What it makes meanwhile lies in a temporary folder, some
    20 GB for 100 000 images, and is removed.
    """

    work: Path | None = None
    """Folder that the temporary folder is made in; default the system's."""
    quick: bool = False
    """Measure a few images and sequences only, to see that it runs."""
    out: Path = Path("runs/oracle_cost.json")
    """File of the figures."""
    page: Path = Path("runs/oracle_cost.md")
    """File of the page with the tables, written anew."""
    picture: Path = Path("runs/oracle_cost.png")
    """File of the plot."""


def main(args: Args) -> None:
    from agents.evaluation.cost.oracle import measure
    from agents.reports.oracle.cost import cost_page, cost_plot

    if args.quick:
        args = replace(args, **QUICK)
    command = cli.command_line("measure/oracle_cost", replace(args, work=None))
    report = measure(args, args.out, command=command, work=args.work)
    cost_plot(report, args.picture)
    links = (os.path.relpath(path, args.page.parent) for path in (args.out, args.picture))
    page = cost_page(report, *links)
    with whole_file(args.page) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"{page}\nFigures in {args.out}, tables in {args.page}, plot in {args.picture}.")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
