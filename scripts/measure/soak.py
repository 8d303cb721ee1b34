"""Kills commands, stops them, begins them beside each other and plays for long, and counts what is wrong afterwards.

python scripts/measure/soak.py --commands demos --parts kills --stride 4
python scripts/measure/soak.py --minutes 10 --makes 2000 --out docs/reliability.json --into docs/reliability.md
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glimpse_env import cli

Part = Literal["kills", "together", "signals", "play"]


@dataclass(frozen=True)
class Args:
    """Injects faults into commands on tiny data, with a temporary cache; Linux only. Parts that are left out keep the
    figures in --out."""

    parts: tuple[Part, ...] = ("kills", "together", "signals", "play")
    """What is measured: commands killed, begun at once, stopped by signals, and long random play."""
    commands: tuple[str, ...] = ("judge", "oracle", "demos", "demos-2", "agent", "benchmark", "paper")
    """Commands that are killed and stopped."""
    sides: Literal[1, 2] = 1
    """Kills at a rename: 1 just before it or just after it, in turn, or both."""
    stride: int = 1
    """Every how many renames there are kills."""
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

    if not args.commands or set(args.commands) - set(NAMES):
        raise ConfigurationError(f"--commands {' '.join(args.commands)} must name some of {', '.join(NAMES)}.")
    if not Path("/proc/self/stat").is_file():
        raise ConfigurationError("The soak reads processes in /proc, which is not here; run it on Linux.")
    figures: dict[str, Any] = read_json(args.out) if args.out.is_file() else {}
    import_all()
    base = Path(tempfile.mkdtemp(prefix="soak-"))  # TemporaryDirectory is removed when a fork ends
    try:
        write_photos(base)
        world = World(base)
        for part in (part for part in PARTS if part in args.parts):  # play comes last: it begins PyTorch's threads
            figures[part] = {"command": cli.command_line("measure/soak", args), **PARTS[part](args, world)}
            write_json(args.out, {**figures, "versions": versions()})
    finally:
        shutil.rmtree(base, ignore_errors=True)
    text = tables(figures)
    if args.into is not None:
        replace_section(text, args.into, "soak")
    print(f"\n{text}\n\nFigures in {args.out}.")


def kills(args: Args, world: Any) -> dict[str, Any]:
    """Kills each command and lets it go on."""
    from agents.soak.kills import measure_kills

    measured = measure_kills(
        world, args.commands, sides=args.sides, stride=args.stride, runs=args.runs, lanes=args.lanes, seed=args.seed
    )
    return {"commands": measured}


def together(args: Args, world: Any) -> dict[str, Any]:
    """Begins several processes that need the same things, and kills one over them."""
    from agents.soak.together import measure_taking_over, measure_together

    at_once = [measure_together(world, count) for count in args.processes]
    return {"at_once": at_once, "taken_over": measure_taking_over(world)}


def signals(args: Args, world: Any) -> dict[str, Any]:
    """Stops each command by SIGTERM and SIGHUP, and goes on as it says."""
    from agents.soak.signals import measure_signals

    return {"commands": measure_signals(world, args.commands)}


def play(args: Args, world: Any) -> dict[str, Any]:
    """Plays at random in all modes, and makes and closes environments."""
    from agents.soak.commands import PHOTOS
    from agents.soak.stepping import makers, measure_makes, measure_steps, own_arguments

    os.environ["GLIMPSE_CACHE"] = str(world.base / "cache")
    arguments, missing = own_arguments(world.base / PHOTOS)
    modes = makers(arguments)
    steps = measure_steps(modes, 60 * args.minutes, args.seed)
    makes = measure_makes(modes, args.makes, args.seed)
    return {"ids": len({env_id for env_id, _ in modes}), "ids_without_data": missing, "steps": steps, "makes": makes}


PARTS = {"kills": kills, "together": together, "signals": signals, "play": play}
"""What measures each part."""


if __name__ == "__main__":
    cli.run(main, Args)
