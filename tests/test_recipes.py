"""docs/recipes.md does what it says: every block runs as printed and brings about what it should."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

from glimpse_env import ENV_IDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
PYTHON = [
    pytest.param(title, block, id=f"{title}-{number}")
    for title, text in SECTIONS.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
]
NEEDS = {"rl_zoo3": "rl_zoo3", "TorchRL": "torchrl", "RLlib": "ray", "Watch": "moviepy"}
"""Sections and the package of the extra ``recipes`` that each is about."""
APART = ("TorchRL", "RLlib")
"""Sections whose packages change the process that imports them: they run in one of their own."""


def skip_without(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -c constraints.txt -e '.[recipes]'")


def run(command: list[str], folder: Path) -> str:
    """What a command prints that runs in ``folder``; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}  # Ray writes results and a key at home
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def success(printed: str) -> list[float]:
    """All percentages of success."""
    return [float(number) for number in re.findall(r"([\d.]+) % success", printed)]


def trained(names: dict[str, Any], printed: str) -> None:
    assert names["model"].num_timesteps >= 120
    assert names["model"]._n_updates > 0
    rates = re.findall(r"success_rate +\| ([\d.]+)", printed)
    assert rates
    assert all(0 <= float(rate) <= 1 for rate in rates)


def improved(names: dict[str, Any], printed: str) -> None:
    assert success(printed)[-1] > success(printed)[0] + 4


def played_episodes_of_six(names: dict[str, Any], printed: str) -> None:
    assert printed.count("40 episodes") == len(success(printed)) >= 1  # 240 steps a batch


def compared(names: dict[str, Any], printed: str) -> None:
    rates = {line.split()[0]: float(line.split(" %")[0].split()[-1]) for line in printed.splitlines()[2:]}
    assert "mine" in rates
    assert "oracle" not in rates or rates["oracle"] > rates["random"] + 20


def recorded(names: dict[str, Any], printed: str) -> None:
    assert {path.name for path in Path("runs/videos").iterdir()} == {f"rl-video-episode-{k}.mp4" for k in (0, 1)}
    assert printed.count("'l': 6") == 2


CHECKS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "Stable-Baselines3": trained,
    "Stable-Baselines3, the fast way": trained,
    "Continuous actions": trained,
    "sb3-contrib: MaskablePPO": trained,
    "sb3-contrib: RecurrentPPO": trained,
    "sb3-contrib: QR-DQN": trained,
    "A single file in the style of CleanRL": improved,
    "TorchRL": played_episodes_of_six,
    "RLlib": played_episodes_of_six,
    "Against the oracle": compared,
    "Watch": recorded,
}
"""What must have come of each section's blocks, given their names (none of a process apart) and what they print."""


@pytest.mark.parametrize(("title", "block"), PYTHON)
def test_python_runs_as_printed(
    title: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if title in NEEDS:
        skip_without(NEEDS[title])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    if title in APART:
        printed = run([sys.executable, "-c", block], tmp_path)
    else:
        exec(block, names)
        printed = capsys.readouterr().out
    CHECKS[title](names, printed)


def test_rl_zoo3_trains_and_plays_what_it_trained(tmp_path: Path) -> None:
    skip_without("rl_zoo3")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    train, enjoy = (shlex.split(line) for line in SECTIONS["rl_zoo3"].splitlines() if line.startswith("python "))
    printed = run([sys.executable, *train[1:]], tmp_path)
    assert re.search(r"total_timesteps +\| 960 ", printed)
    assert re.search(r"success_rate +\| 0?\.?\d", printed)
    assert (tmp_path / "runs/zoo/ppo/GlimpseDigits-v0_1/GlimpseDigits-v0.zip").is_file()
    assert run([sys.executable, *enjoy[1:]], tmp_path).count("Episode Length 6") == 10  # 60 steps


def test_hyperparameters_are_of_registered_ids() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with rl_zoo3, which is not installed")
    content = yaml.safe_load((ROOT / "docs" / "recipes" / "rl_zoo3.yml").read_text(encoding="utf-8"))
    assert set(content) <= set(ENV_IDS)


def test_versions_on_the_page_are_the_pinned_ones() -> None:
    pins = dict(re.findall(r"^(\S+)==([^;\s]+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    told = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", PAGE, flags=re.MULTILINE))
    assert len(told) == 6
    assert told == {package: pins[package] for package in told}
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"'\.\[(\w+)\]'", PAGE):
        assert re.search(rf"^{extra} = \[", extras, flags=re.MULTILINE)


def test_what_the_page_says_of_rays_extra_holds() -> None:
    skip_without("ray")
    told = re.search(r"`ray\[rllib\]` demands `(.*?)`", PAGE)
    assert told is not None
    assert f'{told[1]}; extra == "rllib"' in (requires("ray") or [])
