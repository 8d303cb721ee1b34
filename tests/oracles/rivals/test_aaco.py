"""AACO where it is the optimum and greedy is not, and where its plans, blind to what they will see, have to lose."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.boed.planning import Completions
from oracles.rivals.aaco import AACO, AACOConfig
from oracles.validation.optimal import AnytimeProblem, OptimalPolicy
from oracles.validation.toy_world import ToyWorld
from tests.support import toy
from tests.support.toy_worlds import TOGETHER, exact_judge, greedy, images_of, world_of

SIGNPOST = world_of(
    [
        ([sign, *(label if place == sign // 60 else other for place, other in enumerate(others)), 7, 7, 7, 7], label)
        for sign in (0, 60, 120, 180)
        for label in (0, 1)
        for others in itertools.product((0, 1), repeat=4)
    ]
)
"""Pixel 0 says which of pixels 1 to 4 shows the class; the other three are as likely 0 as 1."""


def rival(world: ToyWorld, neighbours: int) -> tuple[AnytimeProblem, AACO]:
    """AACO with all images of a world, of two glimpses."""
    problem = AnytimeProblem(world, 2, 0.0, "entropy")
    return problem, AACO(images_of(problem), exact_judge(problem), AACOConfig(neighbours, subsets=1000))


def test_it_plans_what_tells_only_together_where_greedy_does_not() -> None:
    """Half of the sixteen images show what was seen: as many neighbours, and the posterior is exact."""
    problem, aaco = rival(TOGETHER, neighbours=8)
    assert problem.worth(aaco).loss == pytest.approx(0, abs=1e-6)
    assert problem.worth(greedy(problem, "entropy")).loss > 0.4


def test_a_plan_that_cannot_depend_on_the_sign_leaves_three_cases_in_four_open() -> None:
    """The best pair of places holds the sign and one of the four, of which the latter says more by itself."""
    problem, aaco = rival(SIGNPOST, neighbours=64)
    assert problem.worth(OptimalPolicy(problem)).loss == pytest.approx(0, abs=1e-9)
    first, _ = aaco.predict(problem.observation([[]]))
    assert first[0] in (1, 2, 3, 4)
    assert problem.worth(aaco).loss > 0.4


def test_the_best_set_is_that_of_enumeration() -> None:
    problem, aaco = rival(SIGNPOST, neighbours=64)
    order, members = aaco._subsets(np.array([3]))
    assert members.sum(axis=1).tolist() == [1] * len(order)
    assert 3 not in order[members]
    order, members = aaco._subsets(np.array([], dtype=int))
    sets = {tuple(np.sort(row[mask]).tolist()) for row, mask in zip(order, members, strict=True)}
    assert sets == {*itertools.combinations(range(9), 1), *itertools.combinations(range(9), 2)}
    bank, world = aaco.banks[0], problem.world
    every = torch.arange(len(bank))
    part = Completions(bank, torch.zeros(1, bank.embeddings.shape[-1]), every, torch.full((128,), 1 / 128), every)
    losses = aaco._losses(part, 0, order, members).numpy()
    flat = world.likelihood.argmax(-1)
    for row, mask, loss in list(zip(order, members, losses, strict=True))[:40]:
        places = row[mask]
        exact = 0.0
        for image in flat:
            same = (flat[:, places] == image[places]).all(axis=1)
            p = np.bincount(world.labels[same], minlength=2) / same.sum()
            exact -= (p[p > 0] * np.log(p[p > 0])).sum() / len(flat)
        assert loss == pytest.approx(exact, abs=1e-5)


def test_an_image_of_the_bank_is_no_neighbour_of_itself() -> None:
    """With one neighbour, whose label is another, what it looks at next is what it does where the image is away."""
    data, judge = toy.toy_dataset(num_folds=1), toy.toy_judge(num_networks=1)
    indices, found = np.arange(6), []
    for dataset in (data, replace(data, split="test")):
        policy = AACO(data, judge, AACOConfig(neighbours=1, subsets=50))

        def begin(rows: np.ndarray, policy: AACO = policy, dataset: toy.GlimpseDataset = dataset) -> object:
            return policy.start(dataset, rows)

        found.append(play(policy, dataset, judge, indices, progress=False, start=begin).log_loss[:, -1].mean())
    assert found[1] < found[0] - 0.05


@pytest.mark.parametrize("field", ["neighbours", "subsets"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        AACOConfig(**{field: 0})
