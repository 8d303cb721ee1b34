"""The paper's experiment: its arithmetic on made-up runs, and the command at toy size, killed and resumed."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.experiments.ram import PaperExperiment, RamCell, RamGrid, Run, settings_of
from agents.experiments.ram_curves import Validation, best_of, convergence, curve_by, exhausted
from agents.experiments.ram_tasks import LATER, METHODS, TASKS
from agents.reports.ram.tables import (
    error_beside,
    method_table,
    other_measures,
    ratio,
    results_page,
    settles,
    summarise,
    verdict_sentence,
    verdicts,
    ways_table,
)
from agents.reports.style import covered
from glimpse_env.datasets.gaze import CUBGaze
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import write_json
from glimpse_env.presets import PRESETS
from glimpse_env.sensing.geometry import LocationGrid
from oracles.human import HumanPolicy
from tests.support.commands import ROOT, begun, finish
from tests.support.tiny_data import write_tiny_cub, write_tiny_folder, write_tiny_gaze
from tests.support.toy_agents import demonstrations
from tests.support.toy_encoder import TOY

GRID = RamGrid(
    data=("digits",),
    methods=("ram", "ram+", "ws-ram", "hgs", "ps-ram", "ps-nogs"),
    seeds=1,
    iterations=6,
    num_sequences=20,
    val_images=40,
    eval_images=40,
)
FLAGS = (
    "--data digits --methods ram ram+ ws-ram hgs ps-ram ps-nogs --seeds 1 --iterations 6 --num-sequences 20 "
    "--val-images 40 --eval-images 40"
)


def curve(*accuracies: float, losses: tuple[float, ...] = ()) -> list[Validation]:
    losses = losses or (1.0,) * len(accuracies)
    return [
        Validation(100 * (i + 1), accuracy, loss, 1.0)
        for i, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]


def cell(method: str, seed: int, arrived: int, accuracy: float, data: str = "birds") -> dict[str, Any]:
    return {
        "cell": {"data": data, "method": method, "architecture": "gru", "seed": seed},
        "convergence": arrived,
        "test_accuracy": accuracy,
        "criterion": "accuracy",
        "curve": [{"iterations": arrived, "accuracy": accuracy}, {"iterations": 2000, "accuracy": accuracy - 0.1}],
        "seconds": 60.0,
    }


# Arithmetic


def test_convergence_is_the_first_validation_near_the_best() -> None:
    assert convergence(curve(0.2, 0.5, 0.895, 0.905, 0.9), "accuracy") == 300  # a hundredth, the bound among it
    assert convergence(curve(0.2, 0.5, 0.894, 0.905, 0.9), "accuracy") == 400
    assert convergence(curve(0.9, 0.2), "accuracy") == 100
    assert convergence(curve(0.1, 0.1, 0.1, losses=(0.5, 0.345, 0.34)), "cross_entropy") == 200
    assert best_of(curve(0.2, 0.9, 0.9), "accuracy") == 1
    assert best_of(curve(0.9, 0.1, losses=(2.0, 1.0)), "cross_entropy") == 1


def test_a_ratio_has_an_interval_over_the_seeds_of_both() -> None:
    estimate = ratio(np.array([100, 120, 80]), np.array([400, 360, 440]))
    assert estimate.value == pytest.approx(4.0)
    assert estimate.low is not None
    assert estimate.high is not None
    assert 3 < estimate.low < 4 < estimate.high < 5.5
    assert ratio(np.array([100]), np.array([300])).to_json() == {"value": 3.0, "interval": None}
    same = ratio(np.array([100, 100]), np.array([300, 300]))
    assert (same.low, same.high) == (3.0, 3.0)


def test_the_table_and_the_verdict_of_known_runs() -> None:
    cells = [cell("ram", seed, 1000 + 200 * seed, 0.80) for seed in range(3)]
    cells += [cell("ps-nogs", seed, 200 + 50 * seed, 0.79) for seed in range(3)]
    cells += [cell("ps-nogs", 0, 1, 0.1, data="mnist")]
    found = summarise(cells, "birds", "gru")
    assert list(found) == ["ram", "ps-nogs"]
    assert (found["ram"].spread, found["ps-nogs"].spread) == (200.0, 50.0)
    verdict = verdicts(found)
    assert verdict["speed_up"]["value"] == pytest.approx(1200 / 250)
    assert verdict["below_best_points"] == pytest.approx(1.0)
    assert verdict["spread_ratio"] == pytest.approx(0.25)
    assert "4.8 times" in verdict_sentence(verdict)
    assert "1.0 points below the best method's (RAM)" in verdict_sentence(verdict)
    assert "RAM+" not in verdict_sentence(verdict)
    plus = verdicts(summarise([*cells, *(cell("ram+", seed, 500, 0.7) for seed in range(3))], "birds", "gru"))
    assert plus["speed_up_over_ram+"]["value"] == pytest.approx(2.0)
    assert ") as fast as RAM and 2.0 times (" in verdict_sentence(plus)
    written = method_table(found, "CUB")
    assert "| PS-NOGS | 250 (" in written
    assert "| 3530 | 54.4 |" in written
    assert "| reached by 0 of 3 seeds |" in written
    assert found["ps-nogs"].best == pytest.approx(0.79)
    assert found["ps-nogs"].reaches(0.7).tolist() == [200, 200, 200]
    assert verdicts(summarise(cells, "mnist", "gru")) == {}
    alone = summarise(cells, "mnist", "gru")
    assert "RAM" not in method_table(alone)
    assert (
        error_beside("mnist-8", alone["ps-nogs"]) == "PS-NOGS: test error 90.00 %; published for RAM: 4.04 %. (1 seed.)"
    )
    assert error_beside("mnist", alone["ps-nogs"]) == ""


def test_a_run_ends_once_its_best_validation_is_old() -> None:
    patient = replace(TASKS["birds"], patience=200)
    assert not exhausted([], patient)
    assert not exhausted(curve(0.5, 0.4), patient)
    assert exhausted(curve(0.5, 0.4, 0.5), patient)  # as good is not better
    assert not exhausted(curve(0.5, 0.4, 0.6), patient)
    assert not exhausted(curve(0.5, 0.4, 0.3, 0.2), replace(patient, patience=None))


def by_ways(*ways: tuple[float, float]) -> list[Validation]:
    """Validations whose argmax stands still while the others are (no repeats, mean of 5)."""
    return [
        Validation(
            100 * (i + 1),
            0.3,
            1.0,
            1.0,
            {
                way: {"accuracy": figure, "cross_entropy": 2.0}
                for way, figure in zip(("no-repeats", "sampled", "mean-5"), (masked, 0.1, mean), strict=True)
            },
        )
        for i, (masked, mean) in enumerate(ways)
    ]


def test_each_way_of_testing_has_a_curve_of_its_own() -> None:
    validations = by_ways((0.2, 0.5), (0.4, 0.6), (0.3, 0.7))
    assert [one.accuracy for one in curve_by(validations, "argmax")] == [0.3] * 3
    assert [one.accuracy for one in curve_by(validations, "mean-5")] == [0.5, 0.6, 0.7]
    assert convergence(curve_by(validations, "no-repeats"), "accuracy") == 200
    assert convergence(curve_by(validations, "mean-5"), "accuracy") == 300
    assert curve_by(curve(0.1, 0.2), "mean-5") == []  # begun before there were ways
    assert curve_by([*curve(0.1), *validations], "mean-5") == []


def test_a_run_goes_on_while_it_gets_better_by_one_way_of_testing() -> None:
    patient = replace(TASKS["birds"], patience=200)
    assert not exhausted(by_ways((0.2, 0.5), (0.4, 0.6), (0.3, 0.7)), patient)
    assert exhausted(by_ways((0.2, 0.7), (0.2, 0.6), (0.2, 0.7)), patient)


def test_the_tables_of_all_ways_of_testing() -> None:
    cells = [cell(method, seed, 1000, 0.5) for method in ("ram", "ps-nogs") for seed in range(2)]
    assert ways_table(cells, "birds", "gru") == ""
    for one in cells:
        better = 0.7 if one["cell"]["method"] == "ram" else 0.6
        curve = [{"iterations": 500, "accuracy": better}]
        by_way = {"curve": curve, "convergence": 500, "test_accuracy": better}
        one["ways"] = dict.fromkeys(("no-repeats", "sampled", "mean-5"), by_way)
    page, found = results_page(cells, ("birds",), ("gru",))
    assert "| RAM | 50.0 | 70.0 | 70.0 | 70.0 |" in page
    assert found["birds"]["below_best_points"] == 0.0
    assert found["birds, mean of 5 sampled"]["below_best_points"] == pytest.approx(10.0)
    assert found["birds, mean of 5 sampled"]["best_method"] == "ram"


def test_runs_that_ended_early_keep_their_best_in_the_curves() -> None:
    short, long = cell("ram", 0, 1000, 0.5), cell("ram", 1, 1000, 0.4)
    long["curve"].append({"iterations": 3000, "accuracy": 0.45})
    found = summarise([short, long], "birds", "gru")["ram"]
    assert found.iterations[-1] == 3000
    assert found.iterations.tolist() == [1000, 2000, 3000]
    np.testing.assert_allclose(found.scores, [[0.5, 0.4, 0.5], [0.4, 0.3, 0.45]])


def test_convergence_by_smoothed_curves_and_by_cross_entropy() -> None:
    accuracies = [0.1, 0.9, 0.2, 0.7, 0.8, 0.75, 0.8]  # the second one is luck
    falling = [3.0, 2.0, 1.005, 1.0, 1.2, 1.3, 1.4]
    points = [
        {"iterations": 10 * k + 10, "accuracy": accuracy, "cross_entropy": nats}
        for k, (accuracy, nats) in enumerate(zip(accuracies, falling, strict=True))
    ]
    assert settles(points, "accuracy") == 20
    assert settles(points, "accuracy", 3) == 60  # the mean of the last three is the best
    assert settles(points, "accuracy", 99) == 40  # one mean over all
    assert settles(points, "cross_entropy") == 30
    early = {**cell("ps-nogs", 0, 1, 0.9), "curve": points[1:4]}
    found = summarise([{**cell("ram", 0, 1, 0.9), "curve": points[2:]}, early], "birds", "gru")
    lines = other_measures(found).splitlines()
    assert lines[2] == "| RAM | 50 | 30 | 50 | 1.00 | – |"
    assert lines[3] == "| PS-NOGS | 30, 1.7 times | 30, 1.0 times | 30, 1.7 times | 1.00 | 40 iterations |"


def test_what_glimpses_cover() -> None:
    grid = LocationGrid(8, 4, 2)  # 3 x 3 locations
    shares = covered(np.array([0, 0, 4, 8]), grid)
    assert shares.shape == (8, 8)
    assert shares[0, 0] == 0.5
    assert shares[3, 3] == 0.75
    assert shares[7, 7] == 0.25
    assert shares.sum() == pytest.approx(16)


def test_hand_crafted_glimpses_are_only_where_parts_are() -> None:
    methods = {one.method for one in GRID.cells()}
    assert methods == set(METHODS) - {"hgs", "ps-human", "ps-nogs-steps", "ws-ram-cv"}
    alone = replace(GRID, methods=("ps-ram",)).cells()
    assert [one.method for one in alone] == ["ram", "ps-ram"]  # which records what RAM has trained


def test_what_came_later_is_in_settings_where_it_differs() -> None:
    old, new = (
        settings_of(RamGrid((data,), ("ram",)), RamCell(data, "ram", "gru", 0))["data"] for data in ("birds", "cub")
    )
    assert not set(LATER) & old.keys()
    assert {"observation", "dropout"} <= new.keys()


def test_settings_are_the_data_sets_and_those_that_outrank_them(tmp_path: Path) -> None:
    def of(data: str, method: str, architecture: str = "gru") -> dict[str, Any]:
        return Run(RamGrid((data,), (method,)), RamCell(data, method, architecture, 0), tmp_path).settings()

    assert of("mnist-8", "ps-nogs")["weights"] == {"imitation": 0.05, "entropy": 0.0}
    assert of("mnist-8", "ram")["weights"] == {"imitation": 0.05}
    assert of("birds-19200", "ps-nogs")["learning_rate"] == 2 * of("birds-19200", "ram")["learning_rate"]
    for data in ("birds", "birds-19200"):
        assert of(data, "ram")["weights"]["entropy"] > of(data, "ps-nogs")["weights"]["entropy"] == 0.0
    assert of("mnist", "ps-nogs", "transformer") == of("mnist", "ps-nogs")
    assert of("mnist", "ram", "transformer")["learning_rate"] < of("mnist", "ram")["learning_rate"]
    assert of("birds", "ram+")["pretraining"] == 1000
    grid = RamGrid(("birds",), ("ps-nogs",))
    assert grid.sequences_of("birds") == grid.source("birds").size("train")  # all images have one


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": ("cifar",)}, "cifar"),
        ({"methods": ()}, "--methods"),
        ({"methods": ("ram", "ram")}, "each once"),
        ({"architectures": ("lstm",)}, "lstm"),
        ({"seeds": 0}, "--seeds"),
        ({"iterations": 0}, "--iterations"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"methods": ("hgs",)}, "'digits' has no parts"),
        ({"methods": ("ps-human",)}, "human gaze is of CUB-200-2011, not of data set 'digits'"),
    ],
)
def test_grids_refuse_what_there_is_not(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        replace(GRID, **changes).cells()


# Runs


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache; digits have the judge and the oracle that come with the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of data sets: tiny CUB with gaze on it and a tiny image folder; a toy encoder in place of theirs."""
    write_tiny_cub(tmp_path)
    write_tiny_gaze(tmp_path)
    write_tiny_folder(tmp_path / "birds_cropped_80")
    for name in ("cub", "folder"):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], encoder=TOY))
    made = demonstrations(np.tile(np.arange(5), (4, 1)), indices=np.array([2, 0, 7, 11]))
    monkeypatch.setattr("agents.experiments.ram.demonstrate_for", lambda *_: made)
    for name in ("cub", "birds-80"):
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], batch_size=8, validate_every=2))
    return tmp_path


def test_photographs_are_seen_by_frozen_features_and_gaze_supervises(photographs: Path, tmp_path: Path) -> None:
    grid = RamGrid(("cub",), ("ps-human", "hgs"), seeds=1, iterations=2, root=str(photographs))
    assert [one.method for one in grid.cells()] == ["ps-human", "hgs"]
    run = Run(grid, RamCell("cub", "ps-human", "gru", 0), tmp_path)
    sequences, source = run.sequences(), run.source
    assert sequences is not None
    assert sequences.indices.tolist() == [2, 0, 7, 11, 14, 12, 19, 23]  # mirror images come behind 12 images
    places, images = source.geometry.grid, np.array([2, 0, 7, 11])
    looked = HumanPolicy(CUBGaze(source), places, 5).start(source.load("train"), images)[0]
    assert np.array_equal(sequences.locations[:4], looked)
    mirrored = places.corners[sequences.locations[4:]]
    assert np.array_equal(mirrored, places.corners[looked] * [1, -1] + [0, places.span])
    run.train()
    features = run.model()._episodes.features
    assert features is not None
    assert features.identity == glimpse_features(source, TOY).identity
    assert len(run.test()) == source.size("test")
    by_parts = Run(grid, RamCell("cub", "hgs", "gru", 0), tmp_path).sequences()
    assert by_parts is not None
    assert not np.array_equal(by_parts.locations[:4], looked)


def test_mirror_images_are_played_as_well(photographs: Path, tmp_path: Path) -> None:
    grid = RamGrid(("cub",), ("ram",), seeds=1, root=str(photographs))
    run = Run(grid, grid.cells()[0], tmp_path)
    train, env = run.source.load("train"), run.vec_env().env
    seen, locations = np.array([0, 3, 12, 15, 23, 5, 6, 7]), np.arange(8) * 13 + 4
    env.reset(options={"index": seen})
    observations = env.step(np.stack([locations, np.zeros(8, dtype=int)], axis=1))[0]
    images = np.concatenate([train.images, np.asarray(train.images)[:, :, ::-1]])[seen]
    corners = run.source.geometry.grid.corners[locations]
    cut = np.stack([one[r : r + 32, c : c + 32] for one, (r, c) in zip(images, corners, strict=True)])
    encoded = glimpse_features(run.source, TOY).encode(cut).numpy()
    np.testing.assert_allclose(observations["features"][:, :24], encoded, atol=2e-3)
    assert np.array_equal(env.dataset.labels[seen], train.labels[seen % 12])


def test_an_image_folder_is_found_below_that_of_data_sets(photographs: Path) -> None:
    grid = RamGrid(("birds-80",), ("ram", "hgs", "ps-human"), seeds=1, root=str(photographs))
    assert [one.method for one in grid.cells()] == ["ram"]  # there are neither parts nor gaze
    assert ["has no parts" in reason or "human gaze" in reason for reason in grid.impossible().values()] == [True, True]
    source = grid.source("birds-80")
    assert (source.size("train"), source.mirror_symmetric) == (12, True)
    assert grid.sequences_of("birds-80") == 12
    assert Run(grid, grid.cells()[0], photographs).vec_env().env.batch.features is not None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a grid that was killed once a run was under way, and resumed."""
    out = tmp_path_factory.mktemp("paper") / "out"
    process = begun("paper_experiment", FLAGS, out)
    while not list(out.glob("cells/*/state.json")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(begun("paper_experiment", FLAGS, out))
    return out


def test_every_method_leaves_its_results(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert [one["cell"]["method"] for one in results["cells"]] == ["ram", "ram+", "ws-ram", "ps-ram", "ps-nogs"]
    for one in results["cells"]:
        assert one["curve"][-1]["iterations"] == 6
        assert 0 <= one["test_accuracy"] <= 1
        assert one["test_images"] == 40
        assert list(one["ways"]) == ["no-repeats", "sampled", "mean-5"]
        for tested in one["ways"].values():
            assert [point["iterations"] for point in tested["curve"]] == [6]
            assert 0 <= tested["test_accuracy"] <= 1
    text = (finished / "results.md").read_text(encoding="utf-8")
    assert all(METHODS[one["cell"]["method"]].title in text for one in results["cells"])
    assert "--data digits" in text
    for picture in ("curves_gru.png", "looks_digits.png"):
        with Image.open(finished / picture) as shown:
            assert shown.size[0] > 300


def test_a_killed_run_ends_as_one_that_was_not(finished: Path, tmp_path: Path) -> None:
    for method in ("ram", "ps-nogs"):
        whole = Run(GRID, RamCell("digits", method, "gru", 0), tmp_path)
        whole.train()
        kept = json.loads((finished / "cells" / f"digits-{method}-gru-s0" / "cell.json").read_text(encoding="utf-8"))
        for ours, theirs in zip(whole.curve, kept["curve"], strict=True):
            assert (ours.accuracy, ours.cross_entropy) == (theirs["accuracy"], theirs["cross_entropy"])
        assert float(whole.test().success.mean()) == kept["test_accuracy"]


def test_supervised_images_are_the_same_for_every_method(finished: Path) -> None:
    kept = {}
    for method in ("ps-nogs", "ps-ram"):
        sequences = Run(GRID, RamCell("digits", method, "gru", 0), finished).sequences()
        assert sequences is not None
        kept[method] = sequences
    assert np.array_equal(kept["ps-nogs"].indices, kept["ps-ram"].indices)
    assert not np.array_equal(kept["ps-nogs"].locations, kept["ps-ram"].locations)
    assert len(kept["ps-nogs"]) == 20


def test_other_settings_are_refused(finished: Path) -> None:
    with pytest.raises(ConfigurationError, match="was begun with iterations=6, not 7; choose another --out"):
        PaperExperiment(replace(GRID, iterations=7), finished).run()


def test_other_images_are_refused(finished: Path, tmp_path: Path) -> None:
    cell = GRID.cells()[0]
    kept = json.loads((PaperExperiment(GRID, finished).folder(cell) / "images.json").read_text())
    assert kept == {"fingerprint": GRID.source("digits").fingerprint}
    mine = tmp_path / "cells" / cell.name / "images.json"
    write_json(mine, {"fingerprint": "another"})
    with pytest.raises(ConfigurationError, match="was begun with fingerprint=another, not"):
        PaperExperiment(GRID, tmp_path).claim(cell)
    mine.unlink()  # as version 0.2 left it
    PaperExperiment(GRID, tmp_path).claim(cell)


def test_frozen_features_need_an_encoder(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "cub", replace(PRESETS["cub"], encoder="convolutional"))
    with pytest.raises(ConfigurationError, match="--data cub reads frozen features, and there is no encoder for cub"):
        RamGrid(("cub",), ("ram",), root=str(photographs)).cells()


def test_ps_ram_needs_a_trained_network(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not trained yet"):
        Run(GRID, RamCell("digits", "ps-ram", "gru", 0), tmp_path).sequences()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    one = RamCell("digits", "ram", "gru", 0)
    write_json(tmp_path / "cells" / one.name / "state.json", {"curve": [{"iterations": 3}]})
    with pytest.raises(ArtifactError, match=r"state\.json"):
        Run(GRID, one, tmp_path)
    assert settings_of(GRID, one)["num_sequences"] == 0


def test_a_kill_between_model_and_state_loses_no_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], validate_every=2))
    one = RamCell("digits", "ram", "gru", 0)
    whole = Run(GRID, one, tmp_path / "whole")
    whole.train()

    def dies(path: Path, content: dict[str, Any]) -> None:
        if len(content["curve"]) == 2:
            raise KeyboardInterrupt
        write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("agents.experiments.ram.write_json", dies)
        with pytest.raises(KeyboardInterrupt):
            Run(GRID, one, tmp_path / "killed").train()
    resumed = Run(GRID, one, tmp_path / "killed")
    files = {f"{stem}.{suffix}" for stem in ("model-2", "model-4") for suffix in ("json", "safetensors")}
    assert {path.name for path in resumed.folder.glob("model*")} == files
    resumed.train()
    assert [point.iterations for point in resumed.curve] == [2, 4, 6]
    assert [replace(point, seconds=0.0) for point in resumed.curve] == [
        replace(point, seconds=0.0) for point in whole.curve
    ]
    (resumed.folder / "model-4.json").touch()  # as a process leaves it that dies before it removes it
    Run(GRID, one, tmp_path / "killed").train()
    assert {path.name for path in resumed.folder.glob("model*")} == {"model-6.json", "model-6.safetensors"}
    assert {path.name for path in resumed.folder.glob("best*")} == {"best.json", "best.safetensors", "best.zip"}


def test_a_model_that_is_not_the_state_s_is_refused(tmp_path: Path) -> None:
    one, later = RamCell("digits", "ram", "gru", 0), replace(GRID, iterations=8)
    run = Run(GRID, one, tmp_path)
    run.train()
    assert Run(later, one, tmp_path).model().iterations == 6
    write_json(run.state_path, {"curve": [{**vars(point), "iterations": 5} for point in run.curve]})
    for suffix in (".json", ".safetensors"):
        shutil.copy((run.folder / "model-6").with_suffix(suffix), (run.folder / "model-5").with_suffix(suffix))
    with pytest.raises(ArtifactError, match=r"model-5\.json is of iteration 6, .*state\.json of 5; delete"):
        Run(later, one, tmp_path).model()
    (run.folder / "model-5.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=r"model-5\.safetensors is not the file .*; delete"):
        Run(later, one, tmp_path).model()
    (run.folder / "model-5.json").unlink()
    shutil.copy(run.best_path, run.folder / "model.zip")  # as version 0.2 had it: reading it would run code
    with pytest.raises(ArtifactError, match=r"model-5\.json is no agent .*; delete"):
        Run(later, one, tmp_path).model()
