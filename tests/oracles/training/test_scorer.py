"""Amortised oracles on a finite world where greedy fails and the optimum is found by exhaustive search."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glimpse_env.datasets.base import LabelledImages
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.threads import at_most_threads
from oracles.amortised.oracle import AmortisedOracle
from oracles.boed.criteria import Horizon
from oracles.training.plans import ScorerPlan
from oracles.training.scorer import ScorerTrainer, train_oracle
from tests.support.toy_problem import ToyJudge, ToySource

# Pixel 0 is a sign that says which of pixels 1 and 2 shows the class; the other one shows nothing to the point, and the
# rest is the same everywhere. The sign alone tells nothing of the class, so greedy BOED does not look at it first.
SIGNS = [
    ([sign, *((of_class, other) if sign else (other, of_class)), 7, 7, 7, 7, 7, 7], int(of_class > 0))
    for sign in (0, 255)
    for of_class in (0, 255)
    for other in (0, 255)
]
IMAGES = np.array([row for row, _ in SIGNS], dtype=np.uint8).reshape(-1, 3, 3, 1)
LABELS = np.array([label for _, label in SIGNS], dtype=np.int64)
PLAN = ScorerPlan(
    images=1600, histories=4, batch_size=16, learning_rate=1e-2, exploration=0.5, locations=9, ahead=9, chunk=800
)


class SignSource(ToySource):
    fingerprint = "signs"
    class_names = ("left", "right")  # type: ignore[assignment]

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        rows = rng.integers(len(IMAGES), size=1600)
        return LabelledImages(
            IMAGES[rows], LABELS[rows], np.full(len(rows), -1), np.zeros((len(rows), 0, 3), np.float32)
        )


def entropy_after(places: tuple[int, ...], image: int) -> float:
    """The exact posterior's entropy after looking at pixels of one image of the world."""
    flat = IMAGES.reshape(len(IMAGES), -1)
    agree = (flat[:, places] == flat[image, places]).all(axis=1)
    p = np.bincount(LABELS, weights=agree / agree.sum(), minlength=2)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def exhaustive_optimum() -> float:
    """Least expected entropy after two glimpses: the first for all, the second chosen for each value of the first."""
    flat = IMAGES.reshape(len(IMAGES), -1)
    totals = []
    for first in range(9):
        total = 0.0
        for value in np.unique(flat[:, first]):
            members = np.flatnonzero(flat[:, first] == value)
            total += min(sum((entropy_after((first, second), i) for i in members), 0.0) for second in range(9))
        totals.append(total / len(IMAGES))
    return min(totals)


def achieved(trainer: ScorerTrainer) -> tuple[float, list[int]]:
    """Mean exact entropy after the two glimpses that the scores choose, and the first location of each image."""
    network, judge = trainer.network, trainer.judge
    features = network.encode_dense(torch.from_numpy(IMAGES))
    encoded = network.glimpse_features(features, torch.from_numpy(judge.grid.normalised))
    first = network.scores(torch.zeros(len(IMAGES), network.state_width), 0).argmin(-1)
    after = network.scores(network.state_contribution(encoded[torch.arange(len(IMAGES)), first], first), 1)
    after[torch.arange(len(IMAGES)), first] = torch.inf
    second = after.argmin(-1)
    found = [entropy_after((int(a), int(b)), i) for i, (a, b) in enumerate(zip(first, second, strict=True))]
    return float(np.mean(found)), first.tolist()


def new_trainer(horizon: Horizon, relative: int = 0) -> ScorerTrainer:
    judge: Any = ToyJudge(IMAGES, LABELS)
    guide = trained("next", relative).network if horizon == "last" else None
    plan = replace(PLAN, relative=relative)
    return ScorerTrainer(SignSource(), judge, 0, plan, criterion="entropy", guide=guide, seed=0)


def trained(horizon: Horizon, relative: int = 0) -> ScorerTrainer:
    trainer = new_trainer(horizon, relative)
    trainer.run()
    return trainer


@pytest.mark.parametrize("relative", [0, 4])
def test_looking_ahead_equals_the_exhaustive_optimum_where_greedy_fails(relative: int) -> None:
    assert exhaustive_optimum() == 0.0
    ahead, first = achieved(trained("last", relative))
    assert ahead == pytest.approx(0.0, abs=1e-9), "the optimum"
    assert set(first) == {0}, "the sign first, though it tells nothing of the class"
    greedy, first = achieved(trained("next", relative))
    assert greedy == pytest.approx(np.log(2) / 2, abs=1e-6), "greedy, by enumeration: half the images stay open"
    assert set(first) <= {1, 2}


def test_scores_are_the_exact_expected_entropies() -> None:
    network = trained("next").network
    scores = network.scores(torch.zeros(32), 0)
    exact = [np.mean([entropy_after((place,), i) for i in range(len(IMAGES))]) for place in range(9)]
    np.testing.assert_allclose(scores.detach().numpy(), exact, atol=0.05)


@pytest.mark.parametrize(("at_once", "horizon"), [(1, "next"), (2**18, "next"), (1, "last"), (2**18, "last")])
def test_targets_are_what_the_judge_says_of_the_images_themselves(
    monkeypatch: pytest.MonkeyPatch, at_once: int, horizon: Horizon
) -> None:
    """Whether one image is played at a time or all are."""
    monkeypatch.setattr("oracles.training.scorer.STATE_NUMBERS_AT_ONCE", at_once)
    guide = new_trainer("next", relative=4).network
    trainer = ScorerTrainer(
        *(SignSource(), ToyJudge(IMAGES, LABELS), 0, replace(PLAN, relative=4)),
        criterion="entropy",
        guide=guide if horizon == "last" else None,
        seed=0,
    )
    rows = np.array([6, 1, 3])
    data = LabelledImages(IMAGES, LABELS, np.full(len(IMAGES), -1), np.zeros((len(IMAGES), 0, 3), np.float32))
    chosen, candidates, targets = trainer._play_histories(trainer._player(data, rows)[1], np.random.default_rng(0))
    assert chosen.shape == (3, PLAN.histories, 2)
    encoded = guide.glimpse_features(
        guide.encode_dense(torch.from_numpy(IMAGES)), torch.from_numpy(trainer.judge.grid.normalised)
    )
    for image, (histories, first_tried, second_tried) in enumerate(zip(chosen, *candidates, strict=True)):
        for h, (first, _) in enumerate(histories.tolist()):
            for place, target in zip(first_tried[h].tolist(), targets[0][image, h].tolist(), strict=True):
                places: tuple[int, ...] = (place,)
                if horizon == "last":  # and where the guide looks next
                    at = torch.tensor(place)
                    scores = guide.scores(guide.state_contribution(encoded[rows[image], place], at), 1)
                    places = (place, int(scores.index_fill(0, at, torch.inf).argmin()))
                assert target == pytest.approx(entropy_after(places, rows[image]), abs=1e-6)
            for place, target in zip(second_tried[h].tolist(), targets[1][image, h].tolist(), strict=True):
                assert target == pytest.approx(entropy_after((first, place), rows[image]), abs=1e-6)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, checkpoint = trained("last"), tmp_path / "0.pt"
    stopped = new_trainer("last")
    save = stopped.save

    def save_and_die(path: Path) -> None:
        save(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(checkpoint)
    assert stopped.done == PLAN.chunk
    resumed = new_trainer("last")
    resumed.run(checkpoint)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, rtol=0, atol=0, msg=name)
    with pytest.raises(ArtifactError, match="belongs to another"):
        new_trainer("next").run(checkpoint)


class TwoFolds(SignSource):
    num_folds = 2


def train_two() -> AmortisedOracle:
    judge: Any = ToyJudge(IMAGES, LABELS)
    return train_oracle(TwoFolds(), judge, PLAN, criterion="entropy", horizon="next", seed=0)


def test_networks_trained_side_by_side_are_those_trained_alone() -> None:
    oracle = train_two()
    for fold in range(2):
        judge: Any = ToyJudge(IMAGES, LABELS)
        alone = ScorerTrainer(TwoFolds(), judge, fold, PLAN, criterion="entropy", seed=0)
        with at_most_threads(1):
            alone.run()
        for name, value in alone.network.state_dict().items():
            torch.testing.assert_close(oracle.networks[fold].state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert not torch.equal(oracle.networks[0].base, oracle.networks[1].base)


def test_where_one_network_fails_the_others_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    step, begun = ScorerTrainer._step, []

    def fail(trainer: ScorerTrainer, *args: Any) -> float:
        begun.append(trainer)
        if trainer.fold == 1:
            raise ArithmeticError("the second network")
        return step(trainer, *args)

    monkeypatch.setattr(ScorerTrainer, "_step", fail)
    with pytest.raises(ArithmeticError, match="the second network"):
        train_two()
    assert all(trainer.done < PLAN.images for trainer in begun)


def test_the_horizon_is_checked() -> None:
    judge: Any = ToyJudge(IMAGES, LABELS)
    with pytest.raises(ConfigurationError, match="horizon='far' must be one of next, last"):
        train_oracle(SignSource(), judge, PLAN, criterion="entropy", horizon="far", seed=0)


@pytest.mark.parametrize(("horizon", "base", "head"), [("next", 11.204727, 769.96993), ("last", 15.750398, 778.32695)])
def test_weights_are_those_of_version_0_1(horizon: Horizon, base: float, head: float) -> None:
    """Sums of absolute weights that the same plan and seed gave before judges and oracles shared a loop."""
    with at_most_threads(1):
        weights = trained(horizon, relative=4).network.state_dict()
    assert weights["base"].abs().sum().item() == pytest.approx(base, rel=1e-3)
    assert weights["head.1.weight"].abs().sum().item() == pytest.approx(head, rel=1e-3)
