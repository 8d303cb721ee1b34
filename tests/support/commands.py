"""Scripts as processes of their own, so that they can be killed, and the console command in this one."""

import subprocess
import sys
from pathlib import Path

import pytest

from glimpse_env.console.main import main

ROOT = Path(__file__).parents[2]


def begun(script: str, flags: str, out: Path) -> subprocess.Popen[str]:
    """The script called ``script`` with ``flags`` and its results below ``out``, running."""
    command = [sys.executable, f"scripts/{script}.py", *flags.split(), "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended well."""
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed[-3000:]
    return printed


def glimpse(*words: str) -> None:
    """Does what the console command does with these words, in this process, which stays what it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv)
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        main(words)
