"""Checks a release before it is made: version and tag, the built files and their metadata, and README's first lines of
Python on the lowest and the newest Python that are here, each in a new environment and an empty folder.

python .ci/release_check.py, where the extra "release" is installed
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""Versions of Python that are supported."""


def main() -> None:
    """Runs all checks; a failed one ends the process."""
    version = declared_version((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    print(check_tag(version, _lines("git", "tag", "--points-at", "HEAD"), _lines("git", "tag", "--list")), flush=True)
    _run(sys.executable, "-m", "build", "--quiet", "--outdir", "dist", str(ROOT))
    wheel, sdist = (ROOT / "dist" / f"glimpse_env-{version}{end}" for end in ("-py3-none-any.whl", ".tar.gz"))
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    here = {version: path for version in PYTHONS if (path := find_python(version)) is not None}
    for version in PYTHONS:
        if version not in here:
            print(f"Python {version} is not on the path; skipped.")
    for version in lowest_and_newest(list(here)):
        print(f"Python {version}: install the wheel, run README's first lines of Python", flush=True)
        _try(here[version], wheel)


def declared_version(pyproject: str) -> str:
    """Returns the version that the content of pyproject.toml declares."""
    found = re.search(r'^version = "(.+)"', pyproject, re.MULTILINE)
    if found is None:
        raise SystemExit('pyproject.toml declares no version; write version = "..." below [project].')
    return found[1]


def check_tag(version: str, here: list[str], tags: list[str]) -> str:
    """Returns a sentence about the tag of a version; a tag of this commit that differs from it ends the process.

    Args:
        version: as declared.
        here: tags of this commit.
        tags: all tags.
    """
    wanted, releases = f"v{version}", [tag for tag in here if re.fullmatch(r"v\d.*", tag)]
    if releases and wanted not in releases:
        raise SystemExit(
            f"This commit has the tag {releases[0]}, and pyproject.toml the version {version}; they differ."
        )
    if wanted in releases:
        return f"Version {version} is the tag's."
    if wanted in tags:
        return f"Version {version} is released already, from another commit: raise it before the next release."
    return f"Version {version}; the release needs the tag {wanted} on this commit."


def find_python(version: str) -> str | None:
    """Returns the program of a version of Python on the path; None where there is none that runs."""
    program = shutil.which(f"python{version}")
    if program is None:
        return None
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True)  # a shim may be there without it
    return program if done.stdout.strip() == version else None


def lowest_and_newest(versions: list[str]) -> list[str]:
    """Returns the first and the last of sorted versions, once where they are the same."""
    return sorted({versions[0], versions[-1]}, key=versions.index) if versions else []


def _try(python: str, wheel: Path) -> None:
    """Installs a wheel with the pinned versions in a new environment and runs README's first lines of Python there."""
    lines = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    with tempfile.TemporaryDirectory() as folder:
        own, empty = Path(folder) / "environment", Path(folder) / "empty"
        empty.mkdir()
        _run(python, "-m", "venv", str(own))
        bin_folder = own / ("Scripts" if os.name == "nt" else "bin")
        _run(str(bin_folder / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
        _run(str(bin_folder / "python"), "-c", lines, cwd=empty)
        _run(str(bin_folder / "glimpse"), "doctor", cwd=empty)


def _run(*command: str, cwd: Path = ROOT) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed with exit code {done.returncode}.")


def _lines(*command: str) -> list[str]:
    """Returns the lines that a command prints, none where it fails, as git does outside of a repository."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    except OSError:
        return []


if __name__ == "__main__":
    main()
