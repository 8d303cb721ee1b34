"""Wake-sleep's control variates, exploration and the proposal that reads a feature map, against what is known."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.ram.proposals import MapProposal, mixed
from glimpse_env.sensing.geometry import LocationGrid, ZoomGrid
from tests.agents.ram.test_algorithm import LOCATIONS, accuracy, played, ram, train

WORKING: dict[str, Any] = {"wake_sleep": 4, "control_variates": True, "exploration": 0.2, "proposal_map": True}


def known(log_pi: Tensor, log_q: Tensor, right: Tensor) -> tuple[Any, Any]:
    """A minibatch of two episodes on an image, with p(theta | a_m) = ``right`` (2,)."""
    model = ram(num_envs=2, wake_sleep=2, control_variates=True, weights={"imitation": 1.0, "entropy": 0.0})
    drawn, _, found = played(model)
    logits = torch.stack([right.log(), ((1 - right) / 2).log(), ((1 - right) / 2).log()], dim=1)[:, None]
    labels = torch.zeros(2, dtype=torch.int64)
    return model, (drawn, replace(found, logits=logits, labels=labels, log_pi=log_pi, log_q=log_q))


def test_control_variates_in_closed_form() -> None:
    right = torch.tensor([0.2, 0.6])
    log_pi, log_q = torch.log(torch.tensor([[0.5, 0.5]] * 2)), torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.25]]))
    model, (drawn, found) = known(log_pi, log_q, right)
    weights, prior = torch.tensor([1 / 7, 6 / 7]), torch.tensor([1 / 3, 2 / 3])
    parts = weights * right.log(), (weights - prior) * log_pi.sum(1), (weights - 1 / 2) * log_q.sum(1)
    assert model.loss(drawn, found).item() == pytest.approx(-float(sum(part.sum() for part in parts)), rel=1e-5)


def test_where_all_episodes_explain_the_label_alike_the_locator_learns_nothing() -> None:
    log_pi = torch.log(torch.tensor([[0.1, 0.5], [0.5, 0.5]])).requires_grad_()
    log_q = torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.25]]))
    model, (drawn, found) = known(log_pi, log_q, torch.tensor([0.4, 0.4]))
    model.loss(drawn, found).backward()
    assert log_pi.grad is not None
    assert log_pi.grad.abs().max() < 1e-6


def test_the_mixture_is_a_distribution_with_a_floor() -> None:
    logits = torch.randn(3, 7)
    assert mixed(logits, 0.0) is logits
    probabilities = mixed(logits, 0.2).exp()
    torch.testing.assert_close(probabilities, 0.8 * logits.softmax(-1) + 0.2 / 7)


def test_places_are_sampled_from_the_mixture_and_weighted_by_it() -> None:
    model = ram(num_envs=240, wake_sleep=4, exploration=0.5)
    assert model.policy.proposal is not None
    out: Any = model.policy.proposal.out
    with torch.no_grad():
        out.weight.zero_()
        out.bias.fill_(-30.0)[3] = 0.0
    _, episodes, found = played(model)
    shares = np.bincount(episodes.locations.ravel(), minlength=LOCATIONS) / episodes.locations.size
    assert shares[3] == pytest.approx(0.5 + 0.5 / LOCATIONS, abs=0.07)  # 480 draws: three standard errors
    assert found.log_q is not None
    expected = np.where(episodes.locations == 3, 0.5 + 0.5 / LOCATIONS, 0.5 / LOCATIONS)
    np.testing.assert_allclose(found.log_q.detach().exp(), expected, rtol=1e-4)


@pytest.mark.parametrize("grid", [LocationGrid(28, 12, 4), ZoomGrid(28, 6, 4, (1, 2))])
def test_the_map_is_read_at_the_middle_of_each_glimpse(grid: LocationGrid) -> None:
    proposal = MapProposal(asdict(grid), num_classes=3, image_channels=1, hidden=8)
    proposal.trunk = nn.Sequential(nn.Identity())
    image = np.random.default_rng(0).integers(256, size=(2, 28, 28, 1), dtype=np.uint8)
    sampled, _ = proposal.context(
        torch.from_numpy(image).repeat_interleave(3, 0), torch.zeros(6, dtype=torch.int64), group=3
    )
    for place, corner in enumerate(grid.corners):
        row, column = corner[:2] + grid.glimpse_size * (corner[2] if len(corner) > 2 else 1) // 2
        mean = image[:, row - 1 : row + 1, column - 1 : column + 1, 0].mean((1, 2)) / 127.5 - 1
        np.testing.assert_allclose(sampled[::3, 0, place], mean, atol=1e-5)
    assert torch.equal(sampled[0], sampled[2])


def test_one_step_or_all_at_once_the_map_proposes_the_same() -> None:
    proposal = MapProposal(asdict(LocationGrid(28, 12, 4)), num_classes=3, image_channels=1, hidden=8)
    images = torch.randint(256, (4, 28, 28, 1), dtype=torch.uint8)
    context, states = proposal.context(images, torch.tensor([0, 1, 2, 0])), torch.randn(4, 5, 8)
    together = proposal(states, context)
    assert together.shape == (4, 5, LOCATIONS)
    for t in range(5):
        torch.testing.assert_close(proposal(states[:, t], context), together[:, t])


def test_with_all_of_it_wake_sleep_finds_the_place() -> None:
    model = ram(num_envs=64, learning_rate=3e-3, **{**WORKING, "wake_sleep": 8})
    assert accuracy(train(model, 300)) > 0.9
