"""The paper's own experiment: networks that look and classify, with partial supervision and without.

python scripts/paper_experiment.py --data birds mnist --methods ram ps-nogs --out runs/paper
"""

from dataclasses import dataclass, fields
from pathlib import Path

from agents.experiments.ram_tasks import RamAxes
from glimpse_env import cli


@dataclass(frozen=True)
class Args(RamAxes):
    """One training run for each combination of the grid's axes; called again it goes on where it was stopped."""

    workers: int | None = None
    """Number of runs side by side, each a process with one thread; default 2."""
    ray: str | None = None
    """Address of a Ray cluster that makes the runs instead, its nodes sharing --out; or "local"."""
    out: Path = Path("runs/paper")
    """Folder of results.json, results.md, the pictures and all runs."""
    into: Path | None = None
    """Page that the tables go into, between marks named like the folder --out."""


def main(args: Args) -> None:
    from agents.experiments.ram import PaperExperiment, RamGrid
    from agents.reports.ram.plots import draw_results
    from agents.reports.ram.tables import PUBLISHED, results_page
    from agents.reports.tables import replace_section
    from glimpse_env.files import whole_file, write_json
    from glimpse_env.versions import versions

    grid = RamGrid(**{item.name: getattr(args, item.name) for item in fields(RamAxes)})
    experiment = PaperExperiment(grid, args.out)
    experiment.run(args.workers, args.ray)
    cells, command = list(experiment.finished_results().values()), cli.command_line("paper_experiment", args)
    tables, verdicts = results_page(cells, args.data, args.architectures)
    text = f"`{command}`\n\n{tables}"
    with whole_file(args.out / "results.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    content = {"command": command, "verdicts": verdicts, "published": PUBLISHED, "cells": cells, "versions": versions()}
    write_json(args.out / "results.json", content)
    pictures = list(draw_results(experiment, cells))
    if args.into is not None:
        replace_section(text, args.into, args.out.name)
    print(f"\n{text}\n\nResults: {args.out / 'results.json'}, {', '.join(map(str, pictures))}")
    print(f"Curves: tensorboard --logdir {args.out / 'cells'}")


if __name__ == "__main__":
    cli.run(main, Args, goes_on=True)
