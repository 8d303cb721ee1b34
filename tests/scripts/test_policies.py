"""The scripts that compare policies without an agent, on a tiny folder of images with an untrained judge."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.evaluation import comparison, published
from agents.evaluation.published import Judged, chosen_by
from agents.reports.oracle.settings import oracle_settings
from glimpse_env.datasets import make_source
from glimpse_env.judge.judge import Judge
from oracles import demonstrations
from oracles.presets import preset_of
from oracles.registry import POLICIES, make_policy
from oracles.training.judge import judge_path
from tests.scripts.test_scripts import call
from tests.support.tiny_data import write_tiny_folder
from tests.support.toy import SMALL_FOLDER, write_toy_judge


@pytest.fixture
def folder(tmp_path: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags that name a folder of 8 test images; the working folder is empty."""
    photos = write_tiny_folder(tmp_path / "photos", classes=4, images=8)
    write_toy_judge(make_source("folder", root=str(photos), **SMALL_FOLDER))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return ["--env", "GlimpseFolder-v0", "--root", str(photos), "--dataset-options", json.dumps(SMALL_FOLDER)]


def test_compare_policies_makes_the_table_and_goes_on_where_it_stopped(folder, capsys, monkeypatch):
    words = ["random", "fixed", "oracle", "clairvoyant", "--into", "page.md"]
    call("compare_policies", *folder, "--policies", *words)
    told = capsys.readouterr().out
    page, entry = Path("page.md").read_text(), json.loads(Path("runs/policies.json").read_text())["folder"]
    table = page.split("<!-- table:folder -->\n")[1].split("\n<!-- /table:folder -->")[0]
    assert table in told
    assert [line.split(" | ")[0] for line in table.splitlines()[2:6]] == [
        "| random",
        "| best fixed sequence",
        "| **kernel BOED** (default oracle)",
        "| clairvoyant (sees all) †",
    ]
    assert list(entry["policies"]) == ["random", "fixed", "kernel", "clairvoyant"]
    assert list(entry["oracle_less"]) == ["random", "fixed", "clairvoyant"]
    assert entry["num_images"] == 8
    assert entry["class_entropy"] == pytest.approx(np.log(4))
    for name, content in entry["policies"].items():
        told, loss = content["information"], content["final_log_loss"]
        assert told["value"] == pytest.approx(np.log(4) - loss["value"])
        assert told["interval"] == pytest.approx([np.log(4) - end for end in loss["interval"][::-1]])
        assert content["final_log_loss"]["value"] == pytest.approx(content["log_loss"][-1], rel=1e-5)
        assert content["peeks"] == (name == "clairvoyant")
        assert content["milliseconds"] * 8 / 1000 == pytest.approx(content["policy_seconds"])
        assert content["policy_seconds"] < content["seconds"]
    assert entry["policies"]["kernel"]["settings"]["ridge"] == 3.0
    assert entry["command"].startswith("python scripts/compare_policies.py --env GlimpseFolder-v0 --root ")
    assert " --policies random fixed oracle clairvoyant" in entry["command"]

    monkeypatch.setattr(comparison, "make_policy", lambda *_, **__: pytest.fail("played again"))
    call("compare_policies", *folder, "--policies", *words)
    assert Path("page.md").read_text() == page
    monkeypatch.undo()


def test_compare_policies_leaves_out_what_the_data_set_lacks(folder, caplog):
    caplog.set_level(logging.INFO)
    call("compare_policies", *folder, "--images", "2")
    assert "hand-crafted (parts) is left out: data set 'folder' has no parts" in caplog.text
    played = json.loads(Path("runs/policies.json").read_text())["folder"]["policies"]
    missing = ("best", "hgs", "human", "coarse-to-fine", "oracle")
    own = [name for name in POLICIES if not name.startswith("rivals/")]
    assert list(played) == [name for name in own if name not in missing and not POLICIES[name].stops]
    assert not Path("page.md").exists()
    with pytest.raises(SystemExit, match="has no parts"):
        call("compare_policies", *folder, "--policies", "random", "hgs")
    with pytest.raises(SystemExit, match="policy='psychic' must be one of random"):
        call("compare_policies", *folder, "--policies", "psychic")


def test_further_images_and_predicted_features_are_tried_when_asked_for(folder):
    source = make_source("folder", root=folder[3], **SMALL_FOLDER)
    rows = oracle_settings(source, {}, {}, {"predicted": (0.5,)}, {"photos/other": (3.0, 10.0)})
    default = preset_of(source).kernel
    assert [rows[name].config for name in list(rows)[1:4]] == [
        replace(default, predicted=0.5),
        replace(default, further="photos/other", further_ridge=3.0),
        replace(default, further="photos/other", further_ridge=10.0),
    ]
    assert list(rows)[1:3] == ["predicted: 0.5", "further images, other, further ridge: 3"]
    with pytest.raises(SystemExit, match="further='folder' needs a judge on frozen features"):
        call("tune_oracle", *folder, "--further", folder[3])


def test_tune_oracle_changes_one_setting_at_a_time_and_goes_on(folder, capsys, monkeypatch):
    values = ["--matches", "pixels", "embedding", "--effective-samples", "2", "100", "--label-weights", "1"]
    values += ["--mirrored", "False", "--shifts", "0", "--into", "page.md"]
    values += ["--ridges", "1", "3", "--sharpnesses", "2", "--branches", "1"]
    call("tune_oracle", *folder, *values)
    entry = json.loads(Path("runs/oracle_ablation.json").read_text())["folder"]
    default = "kernel, ridge 3, sharpness 2, branches 3"
    boed = "BOED, criterion log_loss, horizon next, history completion, match embedding, label weight 0, "
    boed += "effective samples 100"
    assert list(entry["configurations"]) == [
        default,
        "ridge: 1",
        "branches: 1",
        boed,
        "BOED, criterion: entropy",
        "BOED, criterion: error",
        "BOED, horizon: last",
        "BOED, history: seen",
        "BOED, match: pixels",
        "BOED, label weight: 1",
        "BOED, effective samples: 2",
        "the paper's form",
        "best fixed sequence",
    ]
    for policy, base in (("kernel", default), ("boed", boed)):
        configs = {name: row["config"] for name, row in entry["configurations"].items() if row["policy"] == policy}
        for name, config in configs.items():
            flat = {key: (value, configs[base][key]) for key, value in config.items() if key != "completion"}
            theirs = configs[base].get("completion", {})
            flat |= {key: (value, theirs[key]) for key, value in config.get("completion", {}).items()}
            changed = [key for key, (value, before) in flat.items() if value != before]
            assert name == "the paper's form" or len(changed) == (name != base), name
    assert entry["configurations"][default]["less_default"]["log_loss"]["interval"] == [0.0, 0.0]
    page = Path("page.md").read_text()
    assert f"| default: {default} |" in page
    losses = {name: row["final_log_loss"]["value"] for name, row in entry["configurations"].items()}
    best = min(losses, key=losses.__getitem__)
    line = next(line for line in page.splitlines() if line.startswith((f"| {best}", f"| default: {best}")))
    assert f"**{losses[best]:.3f}" in line
    monkeypatch.setattr(comparison, "make_policy", lambda *_, **__: pytest.fail("played again"))
    call("tune_oracle", *folder, *values)
    assert Path("page.md").read_text() == page


@pytest.mark.parametrize("name", ["boed", "kernel", "fixed"])
def test_policies_on_training_images_ask_the_network_that_never_saw_each(folder, name):
    source = make_source("folder", root=folder[3], **SMALL_FOLDER)
    judge, train = Judge.load(judge_path(source)), source.load("train")
    images = np.arange(len(train))[::-1].copy()
    one = comparison.kept_evaluation(name, source, judge, train, images, progress=False)
    judged = Judged.of(train, judge, images, chosen_by(name, source, judge, images)[None])
    assert len(set(train.folds)) == 3
    np.testing.assert_array_equal(one.outcomes, judged.success[:, -1])
    np.testing.assert_allclose(one.final_log_loss, judged.log_loss[:, -1], rtol=1e-4)
    np.testing.assert_allclose(one.log_loss, judged.log_loss.mean(0), rtol=1e-4)
    assert one.images == comparison.kept_evaluation("random", source, judge, train, images, progress=False).images


@pytest.mark.parametrize(("name", "times"), [("kernel", 1), ("fixed", 1), ("boed", 3)])
def test_policies_are_made_anew_for_a_fold_only_where_they_ask_its_network(folder, name, times, monkeypatch):
    source = make_source("folder", root=folder[3], **SMALL_FOLDER)
    judge, train = Judge.load(judge_path(source)), source.load("train")
    asked: list[int | None] = []
    for module in (comparison, demonstrations, published):

        def counted(*args, network=None, **further):
            asked.append(network)
            return make_policy(*args, network=network, **further)

        monkeypatch.setattr(module, "make_policy", counted)
    folds = [0, 1, 2] if times == 3 else [None]
    comparison.kept_evaluation(name, source, judge, train, np.arange(len(train)), progress=False)
    assert asked == folds
    asked.clear()
    demonstrations.generate(name, source, judge, len(train), out="demos.npz")
    assert sorted(asked, key=str) == folds
    asked.clear()
    chosen_by(name, source, judge, np.arange(len(train)))
    assert len(asked) == times


def test_tune_oracle_names_settings_that_are_not_there(folder):
    with pytest.raises(SystemExit, match="criterion='surprise' must be one of entropy"):
        call("tune_oracle", *folder, "--criteria", "surprise")
    with pytest.raises(SystemExit, match="match='smell' must be one of"):
        call("tune_oracle", *folder, "--matches", "smell")


def test_stopping_curve_draws_all_rules_between_one_glimpse_and_all(folder, capsys):
    call("measure/stopping", *folder, "--policy", "boed-paper")
    figures = json.loads(Path("runs/stopping_folder.json").read_text())
    assert list(figures["rules"]) == ["fixed", "entropy", "gain"]
    for name, rule in figures["rules"].items():
        used = np.array(rule["mean_glimpses"])
        assert (used[0], used[-1]) == (1, 6)
        assert (np.diff(used) >= 0).all()
        assert rule["success_rate"][0] == figures["rules"]["fixed"]["success_rate"][0], name
        assert rule["success_rate"][-1] == figures["rules"]["fixed"]["success_rate"][-1], name
        if name != "fixed":
            assert (np.diff(rule["thresholds_nats"]) <= 0).all()
    assert [row["glimpses"] for row in figures["at_equal_glimpses"]] == [2, 3, 4, 5]
    for row in figures["at_equal_glimpses"]:
        assert row["gain_less_fixed"]["value"] == pytest.approx(row["gain"]["value"] - row["fixed"]["value"])
        assert row["fixed"]["value"] == pytest.approx(figures["rules"]["fixed"]["success_rate"][row["glimpses"] - 1])
    with Image.open("runs/stopping_folder.png") as picture:
        assert picture.width > 800
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
        assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours
    assert len(re.findall(r"^\| [2-5] \|", capsys.readouterr().out, flags=re.MULTILINE)) == 4


def test_stopping_curve_needs_an_oracle_that_expects_entropies(folder):
    with pytest.raises(SystemExit, match="--policy random expects no entropies"):
        call("measure/stopping", *folder, "--policy", "random")


def test_near_optimal_solves_a_small_problem_and_measures_what_others_lose(folder, capsys):
    call("measure/near_optimal", *folder, "--side", "3", "--glimpses", "2", "--clusters", "2", "--into", "page.md")
    entry = json.loads(Path("runs/near_optimal.json").read_text())["folder-2"]
    figures = entry["clusters"]["2"]
    assert entry["images"]["test"] == 8
    assert len(entry["places"]) == 9
    assert figures["optimum"]["lost"] == figures["optimum"]["test_lost"]["value"] == 0
    assert figures["clairvoyant"]["lost"] < 0
    for name in ("best fixed places", "greedy", "best set, planned anew", "looking ahead"):
        assert figures[name]["lost"] >= -1e-7
        assert figures[name]["log_loss"] == pytest.approx(figures["optimum"]["log_loss"] + figures[name]["lost"])
    assert f"| 2 | greedy | {figures['greedy']['log_loss']:.3f} |" in Path("page.md").read_text()
