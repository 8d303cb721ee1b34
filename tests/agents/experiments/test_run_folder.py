"""Settings of runs, and folders that are refused."""

from pathlib import Path
from typing import Any

import pytest

from agents.experiments.run_folder import resume_run
from agents.presets import Args
from glimpse_env.errors import ArtifactError, ConfigurationError


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
