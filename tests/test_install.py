"""What is built works where there is no clone: in an environment of its own, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"glimpse_env": "glimpse_env", "oracles": "oracles", "agents": "agents", "glimpse_commands": "scripts"}
"""Top-level packages of the wheel, and their folders here."""
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"
TEN_LINES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
MORE = """
import agents, oracles, sys
from glimpse_env.datasets import make_source
from glimpse_env.judge.judge import find_judge

gym.make_vec("GlimpseDigits-v0", num_envs=2).reset(seed=0)
source = make_source("digits")
oracles.make_policy("oracle", source, find_judge(source))
agents.GlimpseVecEnv
assert "scripts" not in sys.modules
print(glimpse_env.__file__)
"""
TRAIN = (
    "train-agent --env GlimpseDigits-v0 --demos random --num-demos 10 --clone-passes 1 --timesteps 0 --val-images 2 "
    "--eval-images 2 --validations 1 --out run"
)


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints that knows nothing of the clone."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist, which is built from a copy of the clone."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools builds the package")
    folder = tmp_path_factory.mktemp("build")
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", "runs", ".*")
    shutil.copytree(ROOT, folder / "clone", ignore=left_out)
    run([sys.executable, "-c", BUILD, "sdist", str(folder)], folder / "clone")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    unpacked = next(path for path in folder.glob("glimpse_env-*") if path.is_dir())  # "*/" finds files too on 3.10
    run([sys.executable, "-c", BUILD, "wheel", str(folder)], unpacked)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel, which finds other packages in the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    python = Path(paths["scripts"]) / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python)]
    run([*pip, "install", "--no-deps", "--no-index", str(wheel)], folder)
    # only now, as pip would take an installed clone there for the package
    (Path(paths["purelib"]) / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python.parent


def test_the_wheel_has_all_files_of_the_packages_and_no_other_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = set()
    for package, folder in PACKAGES.items():
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        there |= {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in files}
    assert packed == there


def test_environments_judges_oracles_and_agents_work(programs: Path, tmp_path: Path) -> None:
    lines = TEN_LINES.replace("GlimpseCUB-v0", "GlimpseDigits-v0")  # drawing birds takes half a minute
    assert lines != TEN_LINES
    printed = run([str(programs / "python"), "-c", lines + MORE], tmp_path)
    assert printed.count("glimpse at location") == 6
    assert printed.splitlines()[-1].startswith(str(programs.parent))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def run_folder(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the run of an agent, which the console command trained there."""
    folder = tmp_path_factory.mktemp("empty")
    run([str(programs / "glimpse"), *TRAIN.split()], folder)
    return folder


def test_the_console_command_trains_and_names_itself(programs: Path, run_folder: Path) -> None:
    metrics = json.loads((run_folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["command"].startswith("glimpse train-agent --env GlimpseDigits-v0 --demos random")
    assert [path.name for path in run_folder.iterdir()] == ["run"]


def test_agents_that_come_with_the_package_are_in_the_wheel(programs: Path, tmp_path: Path) -> None:
    printed = run([str(programs / "glimpse"), "watch", "GlimpseDigits-v0", "--index", "0"], tmp_path)
    assert "agent: " in printed
    assert [path.name for path in tmp_path.iterdir()] == ["watch.gif"]


def test_the_console_command_tells_what_it_can_do_and_what_is_there(programs: Path, tmp_path: Path) -> None:
    glimpse = str(programs / "glimpse")
    assert "train-agent" in run([glimpse, "--help"], tmp_path)
    report = run([glimpse, "doctor"], tmp_path)
    assert "run `glimpse download-data mnist`" in report
    assert "scripts/" not in report


def test_an_agent_is_loaded_by_our_classes_where_others_hide_them(
    programs: Path, run_folder: Path, tmp_path: Path
) -> None:
    """Another project's ``agents`` first on the path of imports, as where it is installed besides."""
    (tmp_path / "others" / "agents").mkdir(parents=True)
    (tmp_path / "others" / "agents" / "__init__.py").write_text("raise SystemExit('another project')\n")
    command = [str(programs / "glimpse"), "render-episode", "--env", "GlimpseDigits-v0"]
    command += ["--policies", str(run_folder / "run"), "--out", "episode.png"]
    run(command, tmp_path, PYTHONPATH=str(tmp_path / "others"))
    assert (tmp_path / "episode.png").is_file()
