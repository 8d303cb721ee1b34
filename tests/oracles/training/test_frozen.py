"""Training judges and amortised oracles from tables of frozen features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.encoding.features import glimpse_features
from glimpse_env.judge.judge import find_judge, judge_path
from oracles.presets import FROZEN_JUDGE, PRESETS, Preset, preset_of
from oracles.training.entries import FeatureEntries
from oracles.training.judge import ensure_judge, train_judge, visited_histories
from oracles.training.plans import JudgePlan, ScorerPlan
from oracles.training.posterior import NetworkTrainer
from oracles.training.scorer import train_oracle
from tests.oracles.training.test_judge import Stripes
from tests.support.toy_encoder import TOY

PLAN = JudgePlan(
    passes=4,
    rounds=1,
    visited_images=8,
    batch_size=16,
    embedding=16,
    hidden=16,
    heldout_images=64,
    encoder=TOY,
    width=8,
    dropout=0.2,
    input_dropout=0.1,
    label_smoothing=0.05,
)


class Bars(Stripes):
    """Stripes with a part, and mirror images of another class that are nevertheless taken for the same."""

    name = "bars"
    part_names = ("left eye", "right eye")
    mirror_symmetric = True

    def fill(self, split, arrays, progress):
        super().fill(split, arrays, progress)
        arrays.parts[:] = [[3, 5, 1], [7, 20, 1]]
        arrays.parts[1::2, 1] = 0


def test_a_judge_learns_from_a_table_and_encodes_no_image_twice(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Stripes()
    features = glimpse_features(source, TOY, 8)
    FeatureEntries(source, features, "judge")
    encode = FrozenEncoder.__call__
    encoded: list[int] = []

    def call(self: FrozenEncoder, windows: torch.Tensor) -> torch.Tensor:
        encoded.append(len(windows))
        return encode(self, windows)

    monkeypatch.setattr(FrozenEncoder, "__call__", call)
    judge = train_judge(source, replace(PLAN, passes=30, rounds=0), seed=0)
    assert judge.card.config.encoder_identity == features.identity
    # the oracle plays on 2 x 64 held-out images, 3 glimpses each, seen by itself and by the judge
    assert sum(encoded) <= 2 * 64 * 3 * 2
    train = source.load("train")
    held_out = np.flatnonzero(train.folds == 0)
    of_one = judge.class_log_probabilities(0, judge.embed_split(0, train, held_out), 1)  # (n, L, classes)
    right = of_one.argmax(-1) == torch.from_numpy(train.labels[held_out])[:, None]
    tells = np.arange(5) != 2  # columns of locations; at the third no window reaches a bright column
    accuracy = right.float().mean(0).unflatten(0, (5, 5))
    assert (accuracy[:, tells] > 0.9).all()
    assert (accuracy[:, ~tells] == 0.5).all()


def test_a_resumed_network_equals_one_trained_in_one_go(tmp_path: Path, fresh_cache: Path) -> None:
    def trained(checkpoint: Path, passes: int = PLAN.passes) -> dict[str, torch.Tensor]:
        visit = lambda judge, fold, rng: visited_histories(Stripes(), PLAN, judge, fold, rng)  # noqa: E731
        trainer = NetworkTrainer(Stripes(), 0, PLAN, seed=5, visit=visit)
        trainer.total = passes
        trainer.run(checkpoint)
        return trainer.network.state_dict()

    whole = trained(tmp_path / "whole.pt")
    trained(tmp_path / "stopped.pt", 3)
    torch.manual_seed(123)
    resumed = trained(tmp_path / "stopped.pt")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_entries_are_copies_of_images_with_their_parts(fresh_cache: Path) -> None:
    source = Bars()
    features = glimpse_features(source, TOY, 8)
    entries, train = FeatureEntries(source, features, "judge"), source.load("train")
    drawn = entries.draw(0, np.random.default_rng(0))
    copy, rows = np.divmod(drawn.images, len(train))
    assert sorted(rows) == np.flatnonzero(train.folds != 0).tolist()
    assert 10 < copy.sum() < 54
    np.testing.assert_array_equal(drawn.labels, train.labels[rows])
    np.testing.assert_array_equal(drawn.folds, train.folds[rows])
    for entry in (int(copy.argmin()), int(copy.argmax())):
        row, mirrored = rows[entry], copy[entry]
        image = train.images[row][:, ::-1] if mirrored else train.images[row]
        corners = source.geometry.grid.corners
        cut = source.geometry.sensor(np.ascontiguousarray(image)[None], np.zeros(len(corners), dtype=np.int64), corners)
        expected = features.encode(cut)
        found = entries(drawn.images[[entry]])
        torch.testing.assert_close(found[0], expected, atol=2e-3, rtol=2e-3)
        some = np.array([[4, 0, 4]])
        torch.testing.assert_close(entries(drawn.images[[entry]], some), found[:, some[0]], atol=0, rtol=0)
        wanted = train.parts[row]
        if mirrored:  # the right eye is where the left one of the mirror image is
            wanted = np.stack([[side[0], 28 - side[1] if side[2] else 0, side[2]] for side in wanted[::-1]])
        np.testing.assert_array_equal(drawn.parts[entry], wanted)
    originals = entries.draw(0, np.random.default_rng(0), copies=False)
    assert originals.images.max() < len(train)


def test_parts_are_trained_on(fresh_cache: Path) -> None:
    NetworkTrainer(Bars(), 0, replace(PLAN, passes=1), seed=0).run()


def test_an_amortised_oracle_trains_from_the_table(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        PRESETS, "stripes", Preset(judge=PLAN, greedy=ScorerPlan(images=64, histories=2, batch_size=16))
    )
    source = Stripes()
    judge = ensure_judge(source)
    monkeypatch.setattr(FrozenEncoder, "__call__", lambda *_: pytest.fail("encoded"))
    oracle = train_oracle(source, judge, preset_of(source).greedy, horizon="last", criterion="entropy", seed=0)
    assert oracle.frozen is not None
    assert oracle.card.judge == judge.identity


def test_plans_of_a_data_set(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Stripes()
    own = Preset(judge=JudgePlan(passes=2), frozen=PLAN)
    monkeypatch.setitem(PRESETS, "stripes", own)
    assert preset_of(source).judge == own.judge, "the data set names no encoder"
    monkeypatch.setattr("oracles.presets.default_encoder", lambda name: TOY)
    assert preset_of(source).judge == PLAN
    assert preset_of(source, "convolutional").judge == own.judge
    assert preset_of(source, "timm:x").judge == replace(PLAN, encoder="timm:x")
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=JudgePlan(passes=2)))
    assert preset_of(source).judge.passes == 2
    assert preset_of(source, TOY).judge == replace(FROZEN_JUDGE, encoder=TOY)


def test_a_trained_judge_is_found_under_its_encoder_s_name(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "stripes", Preset(judge=replace(PLAN, passes=1, rounds=0)))
    source = Stripes()
    judge = ensure_judge(source)
    assert judge_path(source, TOY).is_file()
    assert not judge_path(source).is_file()
    assert find_judge(source, TOY).identity == judge.identity
