"""The script that compares encoders and widths of the judge, on a tiny folder of images."""

import json
from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.encoders import Compared, Measured, fixed_by_fold, measure
from agents.evaluation.statistics import mean_difference
from glimpse_env.datasets import make_source
from glimpse_env.encoding.registry import ENCODERS
from glimpse_env.errors import ConfigurationError
from oracles.baselines import best_fixed
from oracles.presets import PRESETS, Preset
from oracles.training import judge as training
from oracles.training.judge import ensure_judge
from oracles.training.plans import JudgePlan
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_folder
from tests.support.toy import SMALL_BIRDS, SMALL_FOLDER
from tests.support.toy_encoder import TOY

SMALL = JudgePlan(passes=1, rounds=0, features=16, embedding=16, hidden=16, histories=1, visited_images=4, width=5)


@pytest.fixture
def flags(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    photos = write_tiny_folder(tmp_path / "photos")
    monkeypatch.setitem(PRESETS, "folder", Preset(judge=SMALL, frozen=SMALL))
    monkeypatch.chdir(tmp_path)
    return ["--env", "GlimpseFolder-v0", "--root", str(photos), "--dataset-options", json.dumps(SMALL_FOLDER)]


def test_every_judge_is_measured_once(flags, tmp_path, capsys, monkeypatch):
    made: list[tuple[str, int]] = []
    train = training.train_judge
    monkeypatch.setattr(
        "agents.evaluation.encoders.train_judge",
        lambda source, plan, **rest: made.append((plan.encoder, plan.width)) or train(source, plan, **rest),
    )
    words = [*flags, "--out", "figures.json", "--into", "page.md", "--judges", TOY, f"{TOY}@3", "convolutional"]
    call("measure/encoders", *words[:-1])
    call("measure/encoders", *words)
    assert made == [(TOY, 3)], "those of the preset's own width are found in the cache, and known figures kept"
    content = json.loads(Path("figures.json").read_text())
    assert list(content["judges"]) == [f"{TOY}@5", f"{TOY}@3", "convolutional"]
    figures = {name: {k: v for k, v in of.items() if k != "plan"} for name, of in content["judges"].items()}
    measured = {name: Measured.from_json(of) for name, of in figures.items()}
    assert [one.table_bytes for one in measured.values()] == [15 * 169 * 5 * 2, 15 * 169 * 3 * 2, 0]
    assert measured[f"{TOY}@3"].table_glimpses == 15 * 169
    assert all(one.milliseconds > 0 for one in measured.values())
    for one in measured.values():
        sizes = {split: {len(by.outcomes) for by in of.values()} for split, of in one.evaluations.items()}
        assert sizes == {"val": {3}, "train": {12}}
    page = Path("page.md").read_text()
    table = page.split("<!-- encoders:folder -->\n")[1]
    assert "| convolutional | " in table
    wide, narrow = (measured[f"{TOY}@{width}"].evaluations["train"]["fixed"] for width in (5, 3))
    paired = mean_difference(narrow.final_log_loss, wide.final_log_loss).value
    assert f"| {TOY}@3 | " in table
    assert f" | {paired:+.3f}" in table
    assert table.split("\n<!--")[0].split("\n\n", 1)[1] in capsys.readouterr().out


def test_a_sequence_is_fitted_to_the_other_folds(flags):
    source = make_source("folder", root=flags[3], **SMALL_FOLDER)
    judge, train = ensure_judge(source, TOY), source.load("train")
    found = fixed_by_fold(source, judge)
    for fold in range(3):
        rows = np.flatnonzero(train.folds != fold)
        np.testing.assert_array_equal(found[fold], best_fixed(train, judge, 6, rows=rows))
    assert len({tuple(sequence) for sequence in found}) > 1
    birds = make_source("birds", **SMALL_BIRDS)
    with pytest.raises(ConfigurationError, match="birds has images of its own for the judge"):
        measure(birds, Compared(TOY, 5), images=4)


def test_names_of_judges(flags, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))
    source = make_source("folder", root=flags[3], **SMALL_FOLDER)
    assert Compared.parse("efficientnet_lite0@128", source) == Compared("efficientnet_lite0", 128)
    assert Compared.parse("efficientnet_lite0_64", source) == Compared("efficientnet_lite0_64", 5)
    assert "efficientnet_lite0_64" in ENCODERS
    with pytest.raises(ConfigurationError, match="has no width"):
        Compared.parse("convolutional@3", source)
    with pytest.raises(ConfigurationError, match="must be a whole number"):
        Compared.parse(f"{TOY}@wide", source)
