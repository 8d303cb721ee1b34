"""Training the judge: it learns, resumes exactly, is calibrated, and never sees what it will judge."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource, Geometry, GlimpseDataset, LabelledImages, Split
from glimpse_env.datasets.birds.source import Birds
from glimpse_env.errors import ArtifactError, ConfigurationError, JudgeNotFoundError
from glimpse_env.files import digest
from glimpse_env.judge.judge import Judge, find_judge
from glimpse_env.sensing.sensor import Sensor
from glimpse_env.threads import at_most_threads
from oracles.presets import PRESETS, Preset, preset_of
from oracles.training import judge as judge_training
from oracles.training.judge import ensure_judge, train_judge
from oracles.training.loop import one_cycle
from oracles.training.plans import JudgePlan
from oracles.training.posterior import (
    NetworkTrainer,
    VisitedHistories,
    calibration_error,
    fit_temperatures,
    prefix_sums,
)
from tests.support.tiny_data import write_tiny_cub
from tests.support.toy import GEOMETRY, toy_dataset, toy_judge

PLAN = JudgePlan(
    passes=3, rounds=1, visited_images=8, batch_size=16, features=24, embedding=16, hidden=16, heldout_images=64
)


class Stripes(DataSource):
    """Class k has a bright column at a quarter of the width times k; any glimpse in the right place tells."""

    name = "stripes"
    geometry = Geometry(28, 12, 4, 3)
    image_shape = (28, 28, 1)
    num_folds = 2
    class_names = ("left", "right")
    fingerprint = digest("stripes")
    options: ClassVar[dict[str, Any]] = {}

    def size(self, split: Split) -> int:
        return 128

    def fill(self, split, arrays, progress):
        rng = np.random.default_rng(["train", "val", "test"].index(split))
        arrays.labels[:] = np.arange(len(arrays.labels)) % 2
        arrays.images[:] = rng.integers(0, 60, arrays.images.shape)
        for image, label in zip(arrays.images, arrays.labels, strict=True):
            image[:, 4 + 16 * label : 8 + 16 * label] = 255
        arrays.folds[:] = np.arange(len(arrays.labels)) // 2 % 2 if split == "train" else -1

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        train = self.load("train")
        return train.take(rng.permutation(np.flatnonzero(train.folds != fold)))


def test_a_judge_learns_is_saved_and_found(fresh_cache: Path) -> None:
    source = Stripes()
    with pytest.raises(JudgeNotFoundError, match=r"scripts/train_judge\.py"):
        find_judge(source)
    plan = JudgePlan(passes=40, rounds=1, visited_images=8, batch_size=16, features=24, embedding=16, hidden=16)
    judge = train_judge(source, plan, seed=0, command="the command")
    assert judge.card.num_networks == 2
    assert judge.card.scores["random_accuracy"][-1] > 0.9
    assert judge.card.scores["random_accuracy"][0] < judge.card.scores["random_accuracy"][-1]
    assert judge.card.command == "the command"
    assert not list((fresh_cache / "judge-training").glob("*")), "the finished run's checkpoints are gone"


def test_ensure_judge_trains_once(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=PLAN))
    first = ensure_judge(Stripes())
    monkeypatch.setattr("oracles.training.judge.train_judge", lambda *a, **k: pytest.fail("trained again"))
    assert ensure_judge(Stripes()).identity == first.identity


def test_checkpoints_that_a_process_left_that_died_behind_its_judge_are_removed_and_no_others(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=PLAN))
    with monkeypatch.context() as patch:
        patch.setattr("oracles.training.judge.shutil.rmtree", lambda *_, **__: None)
        ensure_judge(Stripes())
    (left,) = (fresh_cache / "judge-training").glob("[!.]*")
    last = left / "1.pt"
    content = last.read_bytes()
    last.unlink()  # as of another process that trains it again
    ensure_judge(Stripes())
    assert (left / "0.pt").exists()
    last.write_bytes(content)
    state = torch.load(last, weights_only=True)
    changed = next(iter(state["network"]))
    state["network"][changed] += 1
    torch.save(state, last)
    ensure_judge(Stripes())
    assert last.exists()
    last.write_bytes(content)
    ensure_judge(Stripes())
    assert not left.exists()


def test_a_resumed_network_equals_one_trained_in_one_go(tmp_path: Path) -> None:
    def visit(judge, fold, rng):
        images = Stripes().judge_images(fold, rng)
        return VisitedHistories(images.images[:8], images.labels[:8], images.parts[:8], rng.integers(25, size=(8, 3)))

    def trained(checkpoint: Path) -> dict[str, torch.Tensor]:
        trainer = NetworkTrainer(Stripes(), 0, PLAN, seed=5, visit=visit)
        trainer.run(checkpoint)
        return trainer.network.state_dict()

    whole = trained(tmp_path / "whole.pt")
    stopped = NetworkTrainer(Stripes(), 0, PLAN, seed=5, visit=visit)
    one_pass = stopped._one_pass
    passes: list[int] = []

    def dies(rng: np.random.Generator) -> dict[str, str]:
        if len(passes) == 2:
            raise KeyboardInterrupt
        passes.append(1)
        return one_pass(rng)

    stopped._one_pass = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run(tmp_path / "stopped.pt")
    torch.manual_seed(123)
    resumed = trained(tmp_path / "stopped.pt")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    NetworkTrainer(Stripes(), 0, PLAN, seed=0).run(checkpoint=tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="belongs to another"):
        NetworkTrainer(Stripes(), 1, PLAN, seed=0).run(checkpoint=tmp_path / "a.pt")


def test_no_bird_that_is_judged_was_trained_on_mirrored_or_not() -> None:
    """Compared by exact content; test_cub.py and test_digits.py check folds."""
    source = Birds(num_train=96, num_val=48, num_test=48, num_judge=96)
    fed = source.judge_images(0, np.random.default_rng(0)).images
    assert len(fed) == 96
    trained_on = {image.tobytes() for image in (*fed, *fed[:, :, ::-1])}
    for split in ("train", "val", "test"):
        judged = source.load(split)
        assert not trained_on & {image.tobytes() for image in judged.images}
    own = {image.tobytes() for image in source.load("judge").images}
    assert own <= trained_on, "the comparison would find an image that is in both"


@pytest.mark.parametrize("scales", [1, 2])
def test_prefix_sums_are_of_the_glimpses_looked_at(scales: int) -> None:
    """Whether the whole grid is encoded, as for one scale, or only what was looked at."""
    judge = toy_judge(replace(GEOMETRY, scales=scales))
    images = toy_dataset(4).images
    locations = np.random.default_rng(0).integers(len(judge.grid), size=(4, 3, 5))
    with torch.inference_mode():
        summed = prefix_sums(judge.networks[0], images, locations, judge.grid, scales)
        whole = judge.embed_grid(0, images)  # (N, L, D)
    assert whole.shape == (4, len(judge.grid), 32)
    for image in range(4):
        for history in range(3):
            chosen = whole[image, locations[image, history]]
            assert torch.equal(summed[image, history, 0], torch.zeros(32))
            torch.testing.assert_close(summed[image, history, 1:], chosen.cumsum(0), atol=1e-4, rtol=1e-4)
    corners = judge.grid.corners
    cut = Sensor(12, scales)(images, np.full(len(corners), 2), corners)
    torch.testing.assert_close(whole[2], judge.embed_glimpses(0, cut, corners), atol=1e-5, rtol=1e-5)


class Few(Stripes):
    """Fewer images than a minibatch, and as many glimpses as there are places."""

    geometry = Geometry(28, 12, 16, 4)

    def size(self, split: Split) -> int:
        return 8


def test_few_images_and_all_places_are_trained_on() -> None:
    trainer = NetworkTrainer(Few(), 0, replace(PLAN, passes=1), seed=0)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    assert not torch.equal(before["encoder.0.weight"], after["encoder.0.weight"])
    rng = np.random.default_rng(0)
    assert (np.sort(trainer._random_locations(np.zeros((5, 0, 3)), rng), axis=-1) == np.arange(4)).all()


def test_temperature_is_recovered() -> None:
    """Labels drawn from softmax(z) with logits handed in as 2.5 z: the best temperature is 2.5."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 4)) * 2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    found = fit_temperatures(np.stack([z, 2.5 * z], axis=1).astype(np.float32), labels)
    assert found == pytest.approx([1.0, 2.5], rel=0.05)


def test_a_part_of_the_held_out_images_is_not_the_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a data set may be sorted by class."""
    source, parts = Stripes(), []

    def keep(source: DataSource, judge: Judge, fold: int, dataset: GlimpseDataset, rows: np.ndarray) -> np.ndarray:
        parts.append(rows)
        return np.tile(np.arange(3), (len(rows), 1))

    monkeypatch.setattr(judge_training, "_oracle_locations", keep)
    judges = [NetworkTrainer(source, fold, PLAN, seed=0).provisional_judge() for fold in range(2)]
    judge_training.calibrated(source, judges, replace(PLAN, heldout_images=16), 0, "")
    folds = source.load("train").folds
    for fold, rows in enumerate(parts):
        assert len(rows) == 16
        assert (folds[rows] == fold).all()
        assert rows.max() > 64  # the first 16 of the fold are below 32


def test_calibration_error_by_hand() -> None:
    confident = np.tile([0.9, 0.1], (100, 1))
    labels = np.r_[np.zeros(60), np.ones(40)].astype(np.int64)
    assert calibration_error(confident, labels, bins=1) == pytest.approx(0.3)
    assert calibration_error(confident, np.r_[np.zeros(90), np.ones(10)].astype(np.int64), bins=1) == pytest.approx(0)


def test_one_cycle_rises_and_falls_to_zero() -> None:
    rates = [one_cycle(x) for x in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1, abs=0.02)
    assert int(np.argmax(rates)) in (5, 6)
    assert rates[-1] == pytest.approx(0, abs=1e-6)
    assert rates[0] < 0.1


def test_a_start_of_other_shapes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"start='birds' cannot be followed: .* has the shape \(\d+"):
        NetworkTrainer(Stripes(), 0, replace(PLAN, start="birds"), seed=0)


def test_a_preset_starts_from_no_judge_of_other_shapes(tmp_path: Path) -> None:
    write_tiny_cub(tmp_path)
    cropped, whole = (make_source(name, root=str(tmp_path)) for name in ("cub", "cub-full"))
    assert preset_of(cropped, "convolutional").judge.start == "birds"
    assert preset_of(whole, "convolutional").judge.start == "birds", "one scale, and the same glimpses"
    assert preset_of(whole.with_scales(2), "convolutional").judge.start is None


def test_weights_are_those_of_version_0_1() -> None:
    """Sums of absolute weights that the same plan and seed gave before judges and oracles shared a loop."""

    def visit(judge: Judge, fold: int, rng: np.random.Generator) -> VisitedHistories:
        images = Stripes().judge_images(fold, rng)
        return VisitedHistories(images.images[:8], images.labels[:8], images.parts[:8], rng.integers(25, size=(8, 3)))

    trainer = NetworkTrainer(Stripes(), 0, PLAN, seed=5, visit=visit)
    with at_most_threads(1):
        trainer.run()
    weights = trainer.network.state_dict()
    assert weights["summand.weight"].abs().sum().item() == pytest.approx(32.310382, rel=1e-4)
    assert weights["head.1.weight"].abs().sum().item() == pytest.approx(31.497579, rel=1e-4)
