"""Policies side by side: kept evaluations, and differences whose sign and standing are known."""

from dataclasses import replace

import numpy as np
import pytest

from agents.evaluation import comparison
from agents.evaluation.comparison import Comparison, difference, kept_evaluation, shares_closed, standing
from agents.evaluation.evaluate import Evaluation
from agents.evaluation.statistics import Estimate
from glimpse_env.errors import ArtifactError
from oracles.presets import PAPER_CONFIG
from tests.support.toy_problem import ToyJudge, ToySource

SOURCE, JUDGE, IMAGES = ToySource(), ToyJudge(), np.arange(12)


def made(outcomes: np.ndarray, losses: np.ndarray, policy: str = "mine") -> Evaluation:
    return Evaluation(
        policy=policy,
        dataset="toy",
        fingerprint="f",
        split="test",
        judge="j",
        images="i",
        outcomes=outcomes.astype(bool),
        log_loss=np.array([losses.mean()]),
        entropy=np.array([0.5]),
        final_log_loss=losses.astype(np.float32),
        final_entropy=np.full(len(losses), 0.5, dtype=np.float32),
        seconds=1.0,
        policy_seconds=0.5,
    )


def test_what_is_finished_is_not_played_again(tmp_path, monkeypatch):
    test = SOURCE.load("test")
    first = kept_evaluation("boed", SOURCE, JUDGE, test, IMAGES, folder=tmp_path, progress=False)
    paper = kept_evaluation("boed", SOURCE, JUDGE, test, IMAGES, folder=tmp_path, config=PAPER_CONFIG, progress=False)
    assert first.outcomes.all()
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(comparison, "make_policy", lambda *_, **__: pytest.fail("played again"))
    again = kept_evaluation("boed", SOURCE, JUDGE, test, IMAGES, folder=tmp_path)
    assert again.to_json() == first.to_json()
    again = kept_evaluation("boed", SOURCE, JUDGE, test, IMAGES, folder=tmp_path, config=PAPER_CONFIG)
    assert again.to_json() == paper.to_json()
    monkeypatch.undo()
    for change in ({"indices": IMAGES[1:]}, {"dataset": SOURCE.load("val")}, {"name": "random"}):
        before = len(list(tmp_path.iterdir()))
        settings = {"name": "boed", "dataset": test, "indices": IMAGES} | change
        kept_evaluation(source=SOURCE, judge=JUDGE, folder=tmp_path, progress=False, **settings)
        assert len(list(tmp_path.iterdir())) == before + 1, change


def test_difference_and_share_by_hand():
    fixed = made(np.array([1, 0, 0, 0] * 25), np.full(100, 2.0))
    oracle = made(np.array([1, 1, 0, 0] * 25), np.full(100, 1.5))
    clairvoyant = made(np.ones(100), np.full(100, 1.0))
    less = difference(oracle, fixed)
    assert less.success.value == pytest.approx(0.25)
    assert 0.1 < less.success.low < 0.25 < less.success.high < 0.4
    assert less.log_loss == Estimate(-0.5, -0.5, -0.5)
    closed = shares_closed(oracle, fixed, clairvoyant)
    assert closed.success.value == pytest.approx(1 / 3)
    assert closed.log_loss.value == pytest.approx(0.5)


@pytest.mark.parametrize("field", ["fingerprint", "split", "judge", "images"])
def test_only_the_same_images_and_judge_are_compared(field):
    ours = made(np.ones(4), np.ones(4))
    with pytest.raises(ArtifactError, match=f"differ in {field}"):
        difference(ours, replace(ours, **{field: "other"}))


def test_standing_tells_surely_better_from_surely_worse_and_leaves_those_that_peek_out():
    above, beside, below = Estimate(0.2, 0.1, 0.3), Estimate(0.1, -0.1, 0.3), Estimate(-0.2, -0.3, -0.1)
    unknown = Estimate(0.1, None, None)
    differences = {
        "random": Comparison(success=above, log_loss=below),
        "centre": Comparison(success=beside, log_loss=unknown),
        "fixed": Comparison(success=below, log_loss=above),
        "saliency": Comparison(success=below, log_loss=above),
        "clairvoyant": Comparison(success=below, log_loss=above),
    }
    expected = {"above": ["random"], "beside": ["centre"], "below": ["fixed"]}
    assert standing(differences) == {"success": expected, "log_loss": expected}
