"""``glimpse``: finds its subcommands among the scripts and runs one, importing nothing that it does not need."""

import ast
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from glimpse_env.console.names import PROGRAM, commands_folder, subcommand

USAGE = f"""usage: {PROGRAM} COMMAND [flags]
       {PROGRAM} COMMAND --help

"""
GROUPS = {"measure": "Reproduces the figures of the documentation."}
"""What folders of scripts are for, by the first word of their commands."""


def find_commands() -> dict[str, Path]:
    """Returns the file of each command, by its words: ``"train-agent"``, ``"measure env-speed"``."""
    folder = commands_folder()
    files = sorted(file for file in folder.rglob("*.py") if not file.name.startswith("_"))
    return {subcommand(file.relative_to(folder).with_suffix("").as_posix()): file for file in files}


def purpose(file: Path) -> str:
    """Returns what a command does, in the first sentence of its docstring, which is read and not run."""
    line = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return re.sub(r": python scripts/.*", "", line).rstrip(".")


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command that ``words`` name, by default the process's own; without one it lists them.

    Raises:
        SystemExit: as the command ends, and with code 2 if there is no such command.
    """
    given = list(sys.argv[1:] if words is None else words)
    commands, name = find_commands(), " ".join(given[:1])
    if name in GROUPS and (group := {key: file for key, file in commands.items() if key.startswith(f"{name} ")}):
        name = " ".join(given[:2])
        if name in GROUPS or given[1] in ("-h", "--help"):
            print(f"{USAGE}{_listed(group)}")
            return
    if name in ("", "-h", "--help"):
        alone = {key: file for key, file in commands.items() if " " not in key}
        groups = "".join(f"  {group} ...  {text} `{PROGRAM} {group}` lists them.\n" for group, text in GROUPS.items())
        print(f"{USAGE}{_listed(alone)}\n{groups}", end="")
    elif name == "--version":
        from importlib import metadata

        print(metadata.version("glimpse-env"))
    elif name in commands:
        _run(name, commands[name], given[len(name.split()) :])
    else:
        near = difflib.get_close_matches(name.replace("_", "-"), commands, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        print(f"{PROGRAM}: there is no command {name!r}{hint} `{PROGRAM} --help` lists them.", file=sys.stderr)
        sys.exit(2)


def _listed(commands: dict[str, Path]) -> str:
    width = max(map(len, commands))
    return "\n".join(f"  {name:{width}}  {purpose(file)}." for name, file in commands.items()) + "\n"


def _run(name: str, file: Path, words: list[str]) -> None:
    """Runs a script as ``python file words`` would, called by its command's name."""
    from glimpse_env.console.own_packages import put_first
    from glimpse_env.errors import ShadowedPackageError

    if name != "doctor":  # which tells of it
        try:
            moved = put_first()
        except ShadowedPackageError as error:
            sys.exit(f"{type(error).__name__}: {error}")
        if moved:
            print(moved, file=sys.stderr)
    module = ModuleType("__main__")
    module.__file__ = str(file)  # from which processes that are spawned load it
    sys.modules["__main__"], sys.argv = module, [f"{PROGRAM} {name}", *words]
    exec(compile(file.read_bytes(), file, "exec"), module.__dict__)
