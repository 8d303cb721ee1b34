"""Rivals that learn: what they estimate, exact in a finite world, and where greed has to lose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glimpse_env.errors import OracleNotFoundError
from glimpse_env.rollout import play
from oracles.entries import LEARNED_RIVALS
from oracles.registry import ensure_policy, make_policy, policy_settings
from oracles.rivals.dime import DIMETrainer
from oracles.rivals.gdfs import TEMPERATURES, GDFSTrainer
from oracles.rivals.learned import RivalTrainer, find_rival, unseen_choice
from oracles.rivals.learned import _checkpoints as checkpoints_of
from oracles.training.plans import ScorerPlan
from tests.oracles.training.test_scorer import IMAGES as SIGNS
from tests.oracles.training.test_scorer import LABELS as SIGN_LABELS
from tests.oracles.training.test_scorer import SignSource, entropy_after
from tests.support.toy_problem import IMAGES, LABELS, ToyJudge, ToySource, exact_epe

PLAN = ScorerPlan(images=1600, histories=4, batch_size=16, learning_rate=1e-2, exploration=0.5, chunk=800)


def trained(trainer: type[RivalTrainer], source: Any = None, judge: Any = None, **plan: Any) -> RivalTrainer:
    one = trainer(source or ToySource(), judge or ToyJudge(), 0, replace(PLAN, **plan), seed=0)
    one.run()
    return one


@pytest.fixture(params=LEARNED_RIVALS.values(), ids=list(LEARNED_RIVALS))
def trainer(request: pytest.FixtureRequest) -> type[RivalTrainer]:
    return request.param


def looks(one: RivalTrainer, images: np.ndarray) -> np.ndarray:
    """Where two glimpses at each image are (N, 2)."""
    network, every = one.network, torch.arange(len(images))
    features = network.encode_dense(torch.from_numpy(images))
    encoded = network.glimpse_features(features, torch.from_numpy(one.judge.grid.normalised))
    first = network.scores(torch.zeros(len(images), network.state_width), 0).argmax(-1)
    after = network.scores(network.state_contribution(encoded[every, first], first), 1)
    after[every, first] = -torch.inf
    return torch.stack([first, after.argmax(-1)], dim=1).numpy()


def test_what_is_seen_first_says_where_to_look_next(trainer: type[RivalTrainer]) -> None:
    """Pixel 0 tells the family, and the family whether pixel 1 or 5 tells the species: greedy is optimal here."""
    locations = looks(trained(trainer), IMAGES)
    assert (np.sort(locations, axis=1) == [[0, 1]] * 4 + [[0, 5]] * 4).all()


def test_a_sign_that_tells_nothing_itself_is_passed_over(trainer: type[RivalTrainer]) -> None:
    """Pixel 0 says which of pixels 1 and 2 shows the class: greedy leaves half of the images open, the optimum none."""
    locations = looks(trained(trainer, SignSource(), ToyJudge(SIGNS, SIGN_LABELS)), SIGNS)
    assert set(locations[:, 0]) <= {1, 2}
    left = [entropy_after(tuple(places), i) for i, places in enumerate(locations.tolist())]
    assert np.mean(left) == pytest.approx(np.log(2) / 2, abs=1e-6)


def test_dime_estimates_the_information_of_each_glimpse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on random places only, so that all have been tried."""
    monkeypatch.setattr("oracles.rivals.dime.DECAY", 1.0)
    one = trained(DIMETrainer, exploration=1.0)
    value = torch.sigmoid(one.network.scores(torch.zeros(32), 0)) * np.log(4)
    np.testing.assert_allclose(value.detach().numpy(), np.log(4) - exact_epe([]), atol=0.06)


def test_gdfs_anneals_the_temperature_and_looks_where_weights_are_largest() -> None:
    one = GDFSTrainer(ToySource(), ToyJudge(), 0, PLAN, seed=0)
    assert TEMPERATURES.tolist() == pytest.approx([1, 10**-0.25, 10**-0.5, 10**-0.75, 0.1])
    assert one.title.startswith("rivals/gdfs of toy")
    judged = one.judge.embed_grid(0, IMAGES).clone()
    one._network = 0
    scores = torch.full((8, 2, 9), -torch.inf)
    scores[..., 1] = 3.0
    scores[:, 1, 5] = 3.5
    loss, chosen = one.objective(
        scores,
        torch.zeros(8, 2, 8),
        judged,
        torch.from_numpy(LABELS)[:, None].expand(-1, 2),
        0,
        np.random.default_rng(0),
    )
    assert chosen[:, 0].eq(1).all()
    assert set(chosen[:, 1].tolist()) <= {1, 5}
    assert loss.isfinite()


def test_exploration_never_looks_twice() -> None:
    scores = torch.zeros(50, 3, 9)
    scores[..., :7] = -torch.inf
    for exploration in (0.0, 1.0):
        assert unseen_choice(scores, exploration, np.random.default_rng(0)).min() >= 7


def test_networks_are_trained_once_kept_and_named_in_settings(trainer: type[RivalTrainer], fresh_cache: Path) -> None:
    source, judge = ToySource(), ToyJudge()
    with pytest.raises(OracleNotFoundError, match=trainer.name):
        find_rival(trainer, source, judge)
    ensure_policy(trainer.name, source, judge)
    kept = policy_settings(trainer.name, source, judge)
    policy: Any = make_policy(trainer.name, source, judge)
    assert kept == {"policy": trainer.name, "weights": policy.identity}
    left = checkpoints_of(trainer, judge, policy.card.seed, policy.card.plan)
    assert not left.exists()
    left.mkdir()
    for fold, network in enumerate(policy.networks):
        torch.save({"network": network.state_dict()}, left / f"{fold}.pt")
    ensure_policy(trainer.name, source, judge)
    assert not left.exists(), "as a process leaves it that dies before it removes its checkpoints"
    test = source.load("test")
    locations = play(policy, test, judge, np.arange(8), progress=False).locations
    assert (locations[:, 0] != locations[:, 1]).all()
    assert policy.last_maps is not None
    assert (policy.last_maps <= 0).any() or trainer is GDFSTrainer
