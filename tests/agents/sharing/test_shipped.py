"""Agents that come with the package: they are of the data and judges that ship, and act as their cards say."""

import re
from pathlib import Path

import numpy as np
import pytest

import agents
from agents.evaluation.evaluate import evaluate
from agents.evaluation.statistics import wilson_interval
from agents.shipped import shipped_agent, shipped_ids
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError
from glimpse_env.files import read_json
from glimpse_env.judge.judge import find_judge
from glimpse_env.presets import dataset_of
from tests.support.commands import glimpse

FEW = 64
"""Test images that are played again."""
LARGEST = 2_500_000
"""Bytes of an agent that comes with the package, at most."""


def test_birds_and_digits_have_one() -> None:
    assert shipped_ids() == ["GlimpseBirds-v0", "GlimpseDigits-v0"]
    for env_id in shipped_ids():
        files = {path.name: path.stat().st_size for path in shipped_agent(env_id).iterdir()}
        assert set(files) == {"config.json", "metrics.json", "model.json", "model.safetensors"}
        assert sum(files.values()) < LARGEST


@pytest.mark.parametrize("env_id", shipped_ids())
def test_it_acts_as_its_card_says(env_id: str) -> None:
    """On the first test images, of which few birds are drawn: each is the one that the whole split has there."""
    card = read_json(shipped_agent(env_id) / "metrics.json")
    source = make_source(dataset_of(env_id))
    judge = find_judge(source)
    assert (card["env"], card["dataset"]["fingerprint"], card["judge"]["identity"]) == (
        env_id,
        source.fingerprint,
        judge.identity,
    )
    assert card["command"] == f"python scripts/train_agent.py --env {env_id} --demos oracle"
    figures = card["policies"]["agent"]
    outcomes = np.array(list(figures["outcomes"])) == "1"
    assert figures["interval"] == pytest.approx(wilson_interval(int(outcomes.sum()), len(outcomes)))
    assert len(outcomes) == source.size("test")
    few = make_source("birds", num_test=FEW) if source.name == "birds" else source
    images = np.arange(FEW)
    shown = evaluate(agents.load_agent(env_id), few.load("test"), judge, images, name="agent", progress=False)
    # machines differ in last digits, after which an agent may look elsewhere
    assert (shown.outcomes == outcomes[:FEW]).sum() >= FEW - 2
    losses = np.array(figures["final_log_loss"].split()[:FEW], np.float64)
    assert np.isclose(shown.final_log_loss, losses, rtol=1e-2, atol=1e-4).mean() > 0.9
    assert np.isclose(shown.final_log_loss[::-1], losses, rtol=1e-2, atol=1e-4).mean() < 0.6, "any agent would pass"


def test_an_id_without_one_names_those_that_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=r"GlimpseCUB-v0 is no agent: .* for GlimpseBirds-v0, GlimpseDigits-v0\."):
        agents.load_agent("GlimpseCUB-v0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "GlimpseDigits-v0").mkdir()
    with pytest.raises(ArtifactError, match="no such file"):  # a folder of the user's comes first
        agents.load_agent("GlimpseDigits-v0")


def test_watch_shows_it_beside_the_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    glimpse("watch", "GlimpseDigits-v0", "--index", "3", "--width", "400")
    printed = capsys.readouterr().out
    assert printed.startswith("digits/test, image 3: 6\nagent: right after 6 glimpses\n  1. row 32, column 16: 6 ")
    assert len(re.findall(r"^  \d\. row \d+, column \d+: \d \d+%$", printed, re.MULTILINE)) == 12
    assert printed.endswith("Picture: watch.gif\n")
    with Image.open("watch.gif") as picture:
        assert (picture.n_frames, picture.width) == (6, 400)
    glimpse("watch", "GlimpseDigits-v0", "--index", "3", "--out", "watch.png", "--beside")
    with Image.open("watch.png") as picture:
        assert picture.size == (640, 6 * 384)
    with pytest.raises(
        SystemExit, match="ArtifactError: the agent is one of another environment than that of 'digits'"
    ):
        glimpse("watch", "GlimpseDigits-v0", "--agent", str(shipped_agent("GlimpseBirds-v0")))
