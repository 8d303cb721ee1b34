"""The entry of all commands: errors become a sentence and an exit code, commands are written as they were given."""

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro

from glimpse_env import cli
from glimpse_env.errors import ConfigurationError
from tests.support.commands import ROOT


@dataclass(frozen=True)
class Args:
    """Does nothing."""

    env: tuple[str, ...] = ("a",)
    """Names."""
    images: int = 5
    """A number."""
    options: str = "{}"
    """JSON."""
    photographs: bool = True
    """A switch."""
    into: Path | None = Path("page.md")
    """A path."""


def raising(error: BaseException) -> Callable[[Args], None]:
    def main(args: Args) -> None:
        raise error

    return main


def test_flags_reach_the_command() -> None:
    seen: list[Args] = []
    cli.run(seen.append, Args, ["--images", "7", "--env", "x", "y"])
    assert seen == [Args(("x", "y"), 7)]


def test_paths_may_be_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells do not replace it behind an equals sign."""
    monkeypatch.setenv("HOME", "/home/me")
    seen: list[Args] = []
    cli.run(seen.append, Args, ["--into=~/a.md", "--env", "~/x", "~", "a~/b", "--options=~"])
    assert seen == [Args(("/home/me/x", "~", "a~/b"), options="~", into=Path("/home/me/a.md"))]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigurationError("--images 0 must be positive."), "ConfigurationError: --images 0 must be positive."),
        (PermissionError(13, "Permission denied", "/x/y"), "PermissionError: /x/y: Permission denied."),
    ],
)
def test_an_error_is_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(raising(error), Args, [])
    assert ended.value.code == sentence


@pytest.mark.parametrize(("asked", "threads"), [(None, "1"), ("2", "2")])
def test_a_command_has_one_thread_unless_more_are_asked_for(asked: str | None, threads: str) -> None:
    """In a process of its own, as torch reads the variable when it is imported."""
    code = (
        "from tests.glimpse_env.test_cli import Args, cli\n"
        "def main(args):\n    import torch\n    print(torch.get_num_threads())\n"
        "cli.run(main, Args)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": asked} if asked else {}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True)
    assert printed.strip() == threads


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()), Args, [])
    with pytest.raises(OSError, match="no file named"):
        cli.run(raising(OSError("no file named")), Args, [])


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/x.py"])
    with pytest.raises(SystemExit) as ended:
        cli.run(raising(KeyboardInterrupt()), Args, ["--options", '{"a": 1}'], goes_on=True)
    assert ended.value.code == 130
    assert capsys.readouterr().out.splitlines()[-1] == """  python scripts/x.py --options '{"a": 1}'"""


def test_signs_outside_ascii_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli.run(lambda args: print("Birds · 90 %"), Args, [])
    stream.flush()
    assert stream.buffer.getvalue() == b"Birds ? 90 %\n"


def test_a_log_that_nobody_reads_any_more_is_no_error() -> None:
    code = "import logging\nfrom glimpse_env import cli\n" + (
        "def main(args):\n    for _ in range(9999):\n        logging.info('x' * 99)\n"
        "from tests.glimpse_env.test_cli import Args\ncli.run(main, Args, [])\n"
    )
    ended = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1', "", sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "x" * 99 + "\n"
    assert "Traceback" not in ended.stderr


def test_a_command_leads_back_to_its_arguments() -> None:
    assert cli.command_line("play", Args()) == "python scripts/play.py"
    args = Args(env=("a", "b"), images=7, options='{"x": [1]}', photographs=False, into=None)
    words = shlex.split(cli.command_line("play", args))
    assert words[:5] == ["python", "scripts/play.py", "--env", "a", "b"]
    assert tyro.cli(Args, args=words[2:]) == args
