"""Scripts as processes of their own, so that they can be killed."""

import subprocess
import sys
from pathlib import Path

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
