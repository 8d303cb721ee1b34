"""The maps over relative offsets of an amortised oracle's network."""

import torch

from oracles.amortised.network import LocationScorer
from tests.support import toy

SIDE = 8
"""Locations along a side of the toy grid."""


def scorer(relative: int = 3) -> LocationScorer:
    return toy.toy_oracle(toy.toy_judge(), relative=relative).networks[0]


def spoken(network: LocationScorer, count: int) -> torch.Tensor:
    """Words (count, D + E) that any glimpses might say."""
    width = network.config.embedding + network.relative
    return torch.randn(count, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_the_state_sums_the_kernels_laid_at_each_glimpse() -> None:
    network = scorer()
    encoded, places = spoken(network, 3), torch.tensor([0, 19, 63])
    state = network.state_contribution(encoded, places).sum(0)
    phi, maps = state[:32], state[32:].view(SIDE * SIDE, 3)
    torch.testing.assert_close(phi, encoded[:, :32].sum(0))
    for target in range(SIDE * SIDE):
        expected = torch.zeros(3)
        for word, place in zip(encoded, places.tolist(), strict=True):
            down, right = target // SIDE - place // SIDE, target % SIDE - place % SIDE
            expected += word[32:] * network.kernels[down + SIDE - 1, right + SIDE - 1]
        torch.testing.assert_close(maps[target], expected)


@torch.no_grad()
def test_the_local_term_moves_with_the_glimpses() -> None:
    network = scorer()
    network.places[:] = network.places[:, :1]  # else the place itself counts, too
    encoded, rows, columns = spoken(network, 2), torch.tensor([2, 5]), torch.tensor([1, 3])

    def local(down: int, right: int) -> torch.Tensor:
        at = (rows + down) * SIDE + columns + right
        with_term = network.scores(network.state_contribution(encoded, at).sum(0), 2)
        return (with_term - network.base[2] - network.head(encoded[:, :32].sum(0))).view(SIDE, SIDE)

    torch.testing.assert_close(local(1, 2)[1:, 2:], local(0, 0)[:-1, :-2])
    assert not torch.allclose(local(0, 0)[1:, 2:], local(0, 0)[:-1, :-2]), "it does differ from place to place"


@torch.no_grad()
def test_scores_at_some_locations_are_those_of_the_whole_map() -> None:
    for relative in (0, 3):
        network = scorer(relative)
        places, at = torch.tensor([[4, 9], [63, 0]]), torch.tensor([[5, 60, 5], [1, 2, 3]])
        encoded = spoken(network, 4).view(2, 2, -1)
        whole = network.scores(network.state_contribution(encoded, places).sum(1), 2)
        torch.testing.assert_close(network.scores_at(encoded, places, at), whole.gather(-1, at))
        none = network.scores(torch.zeros(2, network.state_width), 0)
        torch.testing.assert_close(network.scores_at(encoded[:, :0], places[:, :0], at), none.gather(-1, at))


@torch.no_grad()
def test_a_new_network_says_nothing_yet_by_its_maps() -> None:
    network = LocationScorer.like(toy.toy_judge().networks[0], SIDE * SIDE, 4, relative=3)
    state = network.state_contribution(spoken(network, 2), torch.tensor([4, 9])).sum(0)
    torch.testing.assert_close(network.scores(state, 2), network.base[2] + network.head(state[:32]))
