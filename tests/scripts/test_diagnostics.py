"""The profile over the diagnostics, with an untrained agent of one of them."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

import agents.evaluation.comparison as comparison
from agents.registry import make_model
from agents.saving import save_agent
from agents.vec_env import GlimpseVecEnv
from oracles.presets import PRESETS
from tests.scripts.test_scripts import call


@pytest.mark.usefixtures("fresh_cache")
def test_a_profile_has_each_id_beside_its_optimum_and_agents_where_they_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("signpost", "memory"):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], oracle="centre"))  # which is not trained
    ids = ("GlimpseSignpost-v0", "GlimpseMemory-v0")
    model = make_model("ppo", GlimpseVecEnv(gym.make_vec(ids[0], num_envs=1)), seed=0, n_steps=8, device="cpu")
    save_agent(model, Path("runs/mine/model.zip"))
    words = ["best", "runs/mine", "--env", *ids, "--images", "60", "--into", "page.md"]
    call("measure/diagnostics", *words)
    printed, page = capsys.readouterr().out, Path("page.md").read_text()
    content = json.loads(Path("runs/diagnostics.json").read_text())
    profile = content["ids"]
    assert content["command"] == " ".join(["python", "scripts/measure/diagnostics.py", *words])
    assert list(profile) == list(ids)
    for one in profile.values():
        assert (one["optimum"], one["chance"], one["images"]) == (1, 0.25, 60)
        assert one["success"]["best"]["value"] == 1
        assert one["success"]["random"]["value"] < 0.65
    assert profile[ids[0]]["success"]["mine"]["value"] < 0.7
    assert "mine" not in profile[ids[1]]["success"]
    assert page.split("<!-- table:diagnostics -->\n")[1].split("\n<!-- /table")[0] in printed
    assert "| `GlimpseMemory-v0` | 100.0 % (94.0 to 100.0) | – |" in page
    assert Path("runs/diagnostics.png").stat().st_size > 10_000

    monkeypatch.setattr(comparison, "make_policy", lambda *_, **__: pytest.fail("played again"))
    call("measure/diagnostics", *words)
    assert json.loads(Path("runs/diagnostics.json").read_text())["ids"] == profile

    with pytest.raises(SystemExit, match="runs/mine was trained in none of GlimpseMemory-v0"):
        call("measure/diagnostics", "runs/mine", "--env", ids[1], "--images", "60")
    with pytest.raises(SystemExit, match="GlimpseBirds-v0 is no diagnostic"):
        call("measure/diagnostics", "--env", "GlimpseBirds-v0")
