"""What a command is called, for messages and cards: as a script of a clone, or as a subcommand of ``glimpse``."""

import shlex
import sys
from pathlib import Path

PROGRAM = "glimpse"
"""The console command; while it runs ``sys.argv[0]`` is this and the subcommand, in spawned processes too."""


def commands_folder() -> Path:
    """Returns the folder that has a file for each command: ``scripts`` of a clone, ``glimpse_commands`` of a wheel."""
    root = Path(__file__).parents[2]
    installed = root / "glimpse_commands"
    return installed if installed.is_dir() else root / "scripts"


def subcommand(script: str) -> str:
    """Returns the words of a script's subcommand: ``"measure/env_speed"`` is ``"measure env-speed"``, and what is in
    ``share`` has no word for it: ``"share/watch"`` is ``"watch"``. ``"share/inspect_"`` is ``"inspect"``: a file must
    not have the name of a module of Python's, which it would hide from the others in its folder."""
    return script.removeprefix("share/").rstrip("_").replace("/", " ").replace("_", "-")


def command(script: str, *words: str) -> str:
    """Returns a command line that the reader can run, quoted for a shell.

    Args:
        script: file in ``scripts`` without its suffix, like ``"measure/env_speed"``.
        *words: what comes behind it.

    Returns:
        ``python scripts/train_judge.py ...``, or ``glimpse train-judge ...`` where that command runs or there is no
        clone.
    """
    folder = commands_folder()
    if folder.name == "scripts" and not is_console():
        return shlex.join(["python", f"scripts/{script}.py", *words])
    return shlex.join([PROGRAM, *subcommand(script).split(), *words])


def pip_extra(extra: str) -> str:
    """Returns the command that installs an extra of this package: from the clone, or of the wheel that is installed."""
    if commands_folder().name == "scripts":
        return f"pip install -c constraints.txt -e '.[{extra}]'"
    return f"pip install 'glimpse-env[{extra}]'"


def is_console() -> bool:
    """Returns whether the console command runs."""
    return bool(sys.argv) and sys.argv[0].split(" ")[0] == PROGRAM


def this_program() -> list[str]:
    """Returns the words that began this process, without their arguments: what to type to begin it again."""
    return sys.argv[0].split(" ") if is_console() else ["python", sys.argv[0]]
