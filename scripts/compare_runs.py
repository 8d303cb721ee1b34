"""Puts finished runs of train_agent.py side by side.

python scripts/compare_runs.py runs/GlimpseBirds-v0-ppo-oracle-s0 runs/GlimpseMNIST-v0-ppo-oracle-s0
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from agents.evaluation.evaluate import TITLES
from glimpse_env.errors import ArtifactError, GlimpseError
from glimpse_env.files import whole_file, write_json


@dataclass(frozen=True)
class Args:
    """A table of the success rates of several runs, with their intervals."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished runs, one a column."""
    into: Path | None = None
    """A text whose part between `<!-- table -->` and `<!-- /table -->` the table takes the place of, like README.md."""
    out: Path | None = None
    """Where the figures go as JSON; default nowhere."""


START, END = "<!-- table -->", "<!-- /table -->"


def main(args: Args) -> None:
    try:
        if not args.runs:
            raise ArtifactError("no run was given; name the folders of finished runs of scripts/train_agent.py.")
        runs = [metrics_of(folder) for folder in args.runs]
        text = table(runs)
        print(text)
        if args.into is not None:
            insert(text, args.into)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    if args.out is not None:
        names = ("env", "command", "seed", "dataset", "policies", "gap_closed", "wall_time_s", "versions")
        write_json(args.out, [{name: run[name] for name in names} for run in runs])


def metrics_of(folder: Path) -> dict[str, Any]:
    """The metrics of a finished run."""
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder} holds no finished run ({error}); go on with --resume, or leave it out."
        ) from error
    return metrics


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: policies down, runs across."""
    names = [name for name in TITLES if any(name in run["policies"] for run in runs)]
    rows = [["success on test images", *(run["env"] for run in runs)], ["---"] * (len(runs) + 1)]
    for name in names:
        found = [run["policies"].get(name) for run in runs]
        rows.append(
            [TITLES[name], *("–" if one is None else _share(one["success_rate"], one["interval"], 1) for one in found)]
        )
    closed = [run["gap_closed"] for run in runs]
    rows.append(
        ["*agent, of the way from random to oracle*", *(_share(one["value"], one["interval"], 0) for one in closed)]
    )
    rows.append(["test images", *(str(run["policies"]["random"]["num_images"]) for run in runs)])
    rows.append(["fingerprint of the data", *(f"`{run['dataset']['fingerprint']}`" for run in runs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("| --- ", "|---").replace("--- |", "---|")


def insert(text: str, path: Path) -> None:
    """Writes ``text`` between the marks in the file at ``path``."""
    content = path.read_text(encoding="utf-8")
    before, found, rest = content.partition(START)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ArtifactError(f"{path} has no part between {START} and {END}; put the marks where the table belongs.")
    with whole_file(path) as temporary:
        temporary.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


def _share(value: float, interval: list[float], digits: int) -> str:
    low, high = interval
    return f"{100 * value:.{digits}f} % ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


if __name__ == "__main__":
    main(tyro.cli(Args))
