"""Puts finished runs of train-agent side by side.

python scripts/compare_runs.py runs/GlimpseBirds-v0-ppo-oracle-s0 runs/GlimpseMNIST-v0-ppo-oracle-s0
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from agents.evaluation.evaluate import TITLES
from agents.experiments.run_folder import read_metrics
from agents.reports.tables import MISSING, markdown_table, percent, plain, replace_section
from glimpse_env import cli
from glimpse_env.errors import ArtifactError
from glimpse_env.files import write_json


@dataclass(frozen=True)
class Args:
    """Makes a table of the success rates of several runs, with their intervals."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs, one a column."""
    into: Path | None = None
    """Page that the table goes into, between `<!-- table -->` and `<!-- /table -->`, like README.md."""
    out: Path | None = None
    """File of the figures (.json); default none."""


def main(args: Args) -> None:
    if not args.runs:
        raise ArtifactError("no run was given; name the folders of finished runs of train_agent.")
    runs = [read_metrics(folder) for folder in args.runs]
    text = table(runs)
    print(text)
    if args.into is not None:
        replace_section(text, args.into, "table", begin=False)
    if args.out is not None:
        names = ("env", "command", "seed", "dataset", "policies", "gap_closed", "wall_time_s", "versions")
        write_json(args.out, [{name: run.get(name) for name in names} for run in runs])


def kept_as_cloned(run: dict[str, Any]) -> bool:
    """Returns whether no weights of fine-tuning did better on validation images than the cloned ones."""
    return "agent_cloned" in run["policies"] and run["selection"]["env_steps"] == run["curve"][0]["env_steps"]


def table(runs: list[dict[str, Any]]) -> str:
    """Returns Markdown with a row for each policy and a column for each run."""
    names = [name for name in TITLES if any(name in run["policies"] for run in runs)]
    rows = [["success on test images", *(plain(str(run["env"])) for run in runs)]]
    for name in names:
        evaluations = [run["policies"].get(name) for run in runs]
        rows.append(
            [
                TITLES[name],
                *(
                    MISSING
                    if one is None
                    else percent(one["success_rate"], one["interval"])
                    + (", kept as cloned" if name == "agent" and kept_as_cloned(run) else "")
                    for run, one in zip(runs, evaluations, strict=True)
                ),
            ]
        )
    closed = [run["gap_closed"] for run in runs]
    rows.append(
        ["*agent, of the way from random to oracle*", *(percent(one["value"], one["interval"], 0) for one in closed)]
    )
    rows.append(["test images", *(str(next(iter(run["policies"].values()))["num_images"]) for run in runs)])
    rows.append(["fingerprint of the data", *(f"`{run['dataset']['fingerprint']}`" for run in runs)])
    return markdown_table(rows)


if __name__ == "__main__":
    cli.run(main, Args)
