"""Kills commands, stops them, begins them beside each other and plays for long, and counts what is wrong afterwards.

python scripts/measure/soak.py --commands demos --parts kills --stride 4
python scripts/measure/soak.py --minutes 10 --makes 2000 --into docs/reliability.md
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glimpse_env import cli

Part = Literal["kills", "together", "play"]


@dataclass(frozen=True)
class Args:
    """Injects faults into commands on tiny data, with a temporary cache; Linux only. Parts and commands that are left
    out keep the figures in --out."""

    parts: tuple[Part, ...] = ("kills", "together", "play")
    """What is measured: commands killed and stopped, commands begun at once, long random play."""
    commands: tuple[str, ...] = ("judge", "oracle", "demos", "demos-2", "agent", "benchmark", "paper")
    """Commands that are killed and stopped."""
    stride: int = 1
    """Every how many renames there are kills, before the rename and after it in turn."""
    runs: int = 3
    """Runs of each command that are killed at random moments, twice in a row."""
    processes: tuple[int, ...] = (2, 4)
    """Numbers of processes that are begun at once."""
    minutes: float = 0.1
    """Minutes of random play."""
    makes: int = 200
    """Environments that are made and closed."""
    lanes: int = 2
    """Runs side by side."""
    seed: int = 0
    """Seed of the moments and of the play."""
    out: Path = Path("runs/reliability.json")
    """File of the figures (.json)."""
    into: Path | None = None
    """Page that the tables go into, between marks named soak."""

    def __post_init__(self) -> None:
        cli.check_least(self, stride=1, runs=0, processes=2, minutes=0, makes=1, lanes=1, seed=0)


def main(args: Args) -> None:
    from agents.reports.tables import replace_section
    from agents.soak.commands import NAMES, World, write_photos
    from agents.soak.report import tables
    from agents.soak.runs import import_all
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.files import read_json, write_json
    from glimpse_env.versions import versions

    if set(args.commands) - set(NAMES):
        raise ConfigurationError(f"--commands {' '.join(args.commands)} must name some of {', '.join(NAMES)}.")
    if not Path("/proc/self/stat").is_file():
        raise ConfigurationError("The soak reads processes in /proc, which is not here; run it on Linux.")
    figures: dict[str, Any] = {}
    command = cli.command_line("measure/soak", args)
    import_all()
    base = Path(tempfile.mkdtemp(prefix="soak-"))  # TemporaryDirectory is removed when a fork ends
    try:
        write_photos(base)
        for part, name, entry in measured(args, World(base)):
            figures = read_json(args.out) if args.out.is_file() else {}  # others may measure other parts meanwhile
            figures.setdefault(part, {})[name] = {"command": command, **entry}
            write_json(args.out, {**figures, "versions": versions()})
    finally:
        shutil.rmtree(base, ignore_errors=True)
    text = tables(figures)
    if args.into is not None:
        replace_section(text, args.into, "soak")
    print(f"\n{text}\n\nFigures in {args.out}.")


def measured(args: Args, world: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields the figures of each part, with names; play comes last, which begins PyTorch's threads."""
    from agents.soak import stepping
    from agents.soak.commands import PHOTOS
    from agents.soak.kills import measure_kills
    from agents.soak.together import measure_taking_over, measure_together

    if "kills" in args.parts:
        for name in args.commands:
            how = {"stride": args.stride, "runs": args.runs, "lanes": args.lanes, "seed": args.seed}
            yield "kills", name, measure_kills(world, name, **how)
    if "together" in args.parts:
        for count in args.processes:
            yield "together", str(count), measure_together(world, count)
        yield "together", "taken over", measure_taking_over(world)
    if "play" in args.parts:
        os.environ |= {"GLIMPSE_CACHE": str(world.base / "cache"), "GLIMPSE_DATA": str(world.base)}  # drawn data only
        modes = stepping.makers(stepping.own_arguments(world.base / PHOTOS))
        yield "play", "steps", stepping.measure_steps(modes, 60 * args.minutes, args.seed)
        yield "play", "makes", stepping.measure_makes(modes, args.makes, args.seed)


if __name__ == "__main__":
    cli.run(main, Args)
