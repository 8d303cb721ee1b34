"""Settings of runs, and folders that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.experiments.run_folder import resume_run, resuming
from agents.presets import Args
from glimpse_env.cli import command_line
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError, UntrustedFileError
from glimpse_env.files import write_json


def test_resume_refuses_what_it_cannot_obey(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave out --timesteps, --seed"):
        resume_run(Args(resume=tmp_path, timesteps=5, seed=1))
    with pytest.raises(ConfigurationError, match="holds no run"):
        resume_run(Args(resume=tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        resume_run(Args(resume=tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "GlimpseFish-v0"}, "GlimpseFish-v0 must be one of"),
        ({"algo": "trpo"}, "'trpo' must be one of ppo"),
        ({"architecture": "lstm"}, "'lstm' must be one of gru"),
        ({"algo": "recurrent_ppo", "architecture": "gru"}, "'gru' cannot be had with recurrent_ppo"),
        ({"algo": "dqn", "group": 2}, "--group 2 does nothing with dqn"),
        ({"hyperparameters": "[1]"}, r"--hyperparameters \[1\] must be a JSON object"),
        ({"hyperparameters": "{1}"}, "is no JSON"),
        ({"demos": "orakle"}, "--demos orakle is no file"),
        ({"timesteps": -1}, "--timesteps -1 must be at least 0"),
        ({"eval_images": 0}, "--eval-images 0"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Args(**change)


def test_default_folder_tells_runs_apart() -> None:
    assert Args().folder == Path("runs/GlimpseBirds-v0-ppo-oracle-s0")
    assert Args(demos="none", algo="a2c", seed=2).folder == Path("runs/GlimpseBirds-v0-a2c-none-s2")


CODE = """
from pathlib import Path

from agents.algorithms.on_policy import PPO_ALGORITHM as ALGORITHM

Path({marker!r}).touch()
"""


@pytest.fixture
def received(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of a run of somebody else, who sent code along, and a file that is there once this code has run."""
    marker, source = tmp_path / "marker", make_source("digits")
    for name in ("sent.py", "sent_too.py"):
        (tmp_path / name).write_text(CODE.format(marker=str(marker)))
    own = {"env": "GlimpseDigits-v0", "algo": str(tmp_path / "sent.py"), "architecture": "mlp", "demos": "none"}
    config = {"args": own, "dataset": source.name, "fingerprint": source.fingerprint, "command": "python x"}
    write_json(tmp_path / "config.json", config)
    return tmp_path, marker


def test_a_python_file_is_not_run_because_a_run_names_it(
    received: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = received
    path = folder / "sent.py"
    for args in (Args(resume=folder), Args(resume=folder, trust=True)):
        with pytest.raises(UntrustedFileError, match=r"sent\.py as its algo.* add --algo .*sent\.py"):
            resume_run(args)
    assert not marker.exists()
    monkeypatch.chdir(folder)
    own, _, _ = resume_run(Args(resume=folder, algo="sent.py"))
    assert marker.exists()
    assert (own.algo, own.architecture, own.trust) == ("sent.py", "mlp", False)
    again = command_line("train_agent", resuming(own, folder))
    assert again == f"python scripts/train_agent.py --algo sent.py --resume {folder}"
    assert resume_run(Args(resume=folder))[0].algo == str(path), "it has been run"
    with pytest.raises(ConfigurationError, match=r"leave out --algo"):
        resume_run(Args(resume=folder, algo="a2c"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env", "sent_too:GlimpseDigits-v0"),
        ("algo", "sent_too:ppo"),
        ("architecture", "sent_too:gru"),
        ("observation", "sent_too:history"),
    ],
)
def test_a_module_is_not_imported_because_a_run_names_it(
    name: str, value: str, received: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = received
    monkeypatch.syspath_prepend(folder)
    config = json.loads((folder / "config.json").read_text())
    config["args"] |= {"algo": "ppo", name: value}
    write_json(folder / "config.json", config)
    with pytest.raises(UntrustedFileError, match=f"{value} as its {name}.* add --{name} {value}"):
        resume_run(Args(resume=folder))
    assert not marker.exists()


def test_trust_is_not_taken_from_a_file(received: tuple[Path, Path]) -> None:
    folder, _ = received
    config = json.loads((folder / "config.json").read_text())
    config["args"] |= {"algo": "ppo", "trust": True}
    write_json(folder / "config.json", config)
    assert [resume_run(Args(resume=folder, trust=trust))[0].trust for trust in (False, True)] == [False, True]
