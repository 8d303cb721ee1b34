from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from agents.algorithms.policies import prepared
from agents.cloning import DemonstrationLoss, actor_parameters, critic_parameters
from agents.cloning_data import HISTORY_OBSERVERS
from agents.networks.encoders import WHOLE, HistoryExtractor
from agents.registry import ARCHITECTURES
from tests.support.toy_agents import (
    GRID,
    OBSERVATIONS,
    STEPS,
    WIDTHS,
    fill_zeros,
    random_data,
    reordered,
    state_observations,
    toy_data,
    toy_env_showing,
    toy_extractor,
    toy_model,
    toy_observations,
)

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)
BOTH = pytest.mark.parametrize("observation", OBSERVATIONS)
SIDE = GRID.side


def encoded(extractor: HistoryExtractor, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Features (B, T, F) and locations (B, T, 2)."""
    return extractor.encode(observations), observations["locations"].unflatten(1, (STEPS, 2))


def glimpses_at(rows: list[int], columns: list[int]) -> dict[str, Tensor]:
    """Random embeddings of one episode at T places of the grid."""
    index = torch.tensor(rows) * SIDE + torch.tensor(columns)
    observations = toy_observations([STEPS], "embedding")
    return observations | {"locations": torch.from_numpy(GRID.normalised)[index].reshape(1, -1)}


# --- what all have in common


@EVERY
@BOTH
@pytest.mark.parametrize("scores", [True, False])
def test_states_are_what_is_read_of_each_prefix(architecture: str, observation: str, scores: bool) -> None:
    """``read`` ignores the glimpses behind ``counts``, which are the rest of the history here."""
    extractor = toy_extractor(architecture, observation)
    extractor.scores_locations = scores
    features, locations = encoded(extractor, toy_observations([STEPS] * 5, observation))
    states = extractor.states(features, locations)  # (B, T + 1, H)
    assert states.shape == (5, STEPS + 1, extractor.features_dim)
    for count in range(STEPS + 1):
        read = extractor.read(features, locations, torch.full((5,), count))
        torch.testing.assert_close(states[:, count], read)
        torch.testing.assert_close(
            read, extractor.read(features[:, :count], locations[:, :count], torch.full((5,), count))
        )
    mixed = torch.tensor([4, 0, 2, 0, 3])
    torch.testing.assert_close(states[torch.arange(5), mixed], extractor.read(features, locations, mixed))
    if scores or not extractor.maps:
        assert all(states[:, t].sub(states[:, t + 1]).abs().max() > 1e-3 for t in range(STEPS))


@EVERY
@BOTH
def test_whole_episodes_are_read_as_step_by_step(architecture: str, observation: str) -> None:
    """Whatever stands in the place of the last glimpse is ignored."""
    extractor = toy_extractor(architecture, observation)
    observations = toy_observations([STEPS - 1] * 3, observation)
    whole = extractor(observations | {WHOLE: observations["mask"]})  # (3 * T, H)
    assert whole.shape == (3 * STEPS, extractor.features_dim)
    for step in range(STEPS):
        before = observations | {key: toy_observations([step] * 3)[key] for key in ("mask", "step")}
        torch.testing.assert_close(whole[step::STEPS], extractor(before))
    garbage = toy_observations([STEPS - 1] * 3, observation, seed=1)
    for key in WIDTHS.keys() & observations.keys():
        end = (STEPS - 1) * WIDTHS[key]
        garbage[key][:, :end] = observations[key][:, :end]
    assert torch.equal(extractor(garbage | {WHOLE: garbage["mask"]}), whole)


@EVERY
@BOTH
def test_what_was_not_seen_has_no_influence(architecture: str, observation: str) -> None:
    extractor = toy_extractor(architecture, observation)
    counts = [0, 1, 2, STEPS]
    one, other = toy_observations(counts, observation, seed=1), toy_observations(counts, observation, seed=2)
    for key in WIDTHS.keys() & one.keys():
        other[key] *= 100
        for row, count in enumerate(counts):
            other[key][row, : count * WIDTHS[key]] = one[key][row, : count * WIDTHS[key]]
        assert not torch.equal(one[key], other[key])
    torch.testing.assert_close(extractor(other), extractor(one), rtol=1e-6, atol=1e-6)


@EVERY
@BOTH
def test_the_empty_history_has_features(architecture: str, observation: str) -> None:
    extractor = toy_extractor(architecture, observation)
    alone = extractor(toy_observations([0], observation))
    assert torch.isfinite(alone).all()
    assert alone.abs().max() > 1e-2
    among = extractor(toy_observations([3, 0, STEPS, 0], observation, seed=1))
    torch.testing.assert_close(among[[1, 3]], alone.expand(2, -1))
    assert (among[[0, 2]] - alone).abs().max() > 1e-2
    features, locations = encoded(extractor, toy_observations([0], observation))
    torch.testing.assert_close(extractor.states(features[:, :0], locations[:, :0])[:, 0], alone)


@EVERY
@BOTH
def test_order_matters_to_the_gru_alone(architecture: str, observation: str) -> None:
    extractor = toy_extractor(architecture, observation)
    observations = toy_observations([3, STEPS], observation)
    swapped = extractor(reordered(observations, [2, 0, 1, 3]))
    if architecture == "gru":
        assert (swapped - extractor(observations)).abs().amax(1).min() > 1e-3
    else:
        torch.testing.assert_close(swapped, extractor(observations))


@EVERY
@BOTH
def test_glimpses_and_places_matter(architecture: str, observation: str) -> None:
    extractor = toy_extractor(architecture, observation)
    observations = toy_observations([1, 3, STEPS], observation)
    shown = HISTORY_OBSERVERS[observation].key  # type: ignore[index]
    for key, changed in ((shown, observations[shown] * 0.5), ("locations", -observations["locations"])):
        assert (extractor(observations | {key: changed}) - extractor(observations)).abs().amax(1).min() > 1e-3


@EVERY
@BOTH
def test_gradients_reach_all_that_is_trained(architecture: str, observation: str) -> None:
    """Demonstrations give gradients to the actor only, values to the critic only."""
    model = toy_model(architecture=architecture, pretrained=False, env=toy_env_showing(observation))
    policy: Any = model.policy
    data = toy_data(observation)
    actor, critic = actor_parameters(policy), critic_parameters(policy)
    DemonstrationLoss(policy, data)(np.arange(len(data))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in actor)
    assert all(parameter.grad is None for parameter in critic)
    policy.zero_grad()
    observations, actions = state_observations(data), torch.from_numpy(data.taken.flatten())
    values, log_probabilities, _ = policy.evaluate_actions(observations, actions)
    values.square().sum().backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in actor)
    of_maps = ("kernels", "places", "channels", "context", "speak")
    unused = of_maps if architecture == "canvas" else ()
    for name, parameter in policy.vf_features_extractor.named_parameters():
        assert (parameter.grad is None) == (name.split(".")[0] in unused), name
    policy.zero_grad()
    log_probabilities.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in actor)


# --- the canvas


def test_map_scores_are_those_of_a_convolution_on_the_canvas() -> None:
    extractor: Any = toy_extractor("canvas", "embedding")
    torch.nn.init.normal_(extractor.places)
    features, locations = encoded(extractor, toy_observations([STEPS] * 4, "embedding"))
    locations[1, 2] = locations[1, 0]  # of two looks at a place the channels add up
    counts = torch.tensor([STEPS, STEPS, 2, 0])
    tokens = extractor.tokens(features, locations)
    summed = torch.stack([tokens[n, : counts[n]].sum(0) for n in range(4)])
    summary = torch.relu(extractor.summary(summed) + extractor.by_step[counts])
    hidden = torch.relu(extractor.speak(tokens) + extractor.context(summary)[:, None])
    channels = torch.relu(extractor.channels(hidden))  # (B, T, channels)
    canvas = torch.zeros(4, channels.shape[2], SIDE, SIDE)
    for n in range(4):
        for t in range(counts[n]):
            row, column = divmod(int(GRID.nearest(GRID.denormalise(locations[n, t].numpy()))), SIDE)
            canvas[n, :, row, column] += channels[n, t]
    kernels = extractor.kernels.weight.T.reshape(1, -1, 2 * SIDE - 1, 2 * SIDE - 1)
    # torch's convolutions are correlations: they look at l + d with what k tells of d, where the map has k(l - l_i)
    scores = F.conv2d(canvas, kernels.flip(2, 3), padding=SIDE - 1).flatten(1) + extractor.places  # (B, L)

    read = extractor.read(features, locations, counts)
    assert extractor.maps == len(GRID)
    torch.testing.assert_close(read[:, -len(GRID) :], scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read[:, : -len(GRID)], summary)
    assert scores[:3].std(1).min() > 1e-2


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (1, 1), (3, 2)])
def test_glimpses_moved_on_move_their_maps_along(down: int, right: int) -> None:
    """Scores that leave the grid are lost; the bias of places and the glimpses' coordinates are set to zero."""
    extractor: Any = toy_extractor("canvas", "embedding")
    extractor.places.data.zero_()
    for parameter in extractor.location_embedding.parameters():
        parameter.data.zero_()
    rows, columns = [0, 4, 2, 2], [1, 3, 5, 0]
    maps = []
    for shift in ((0, 0), (down, right)):
        at = glimpses_at([row + shift[0] for row in rows], [column + shift[1] for column in columns])
        features = extractor(at)
        maps.append(features[:, -len(GRID) :].unflatten(1, (SIDE, SIDE)))
    torch.testing.assert_close(maps[1][:, down:, right:], maps[0][:, : SIDE - down, : SIDE - right])
    assert (maps[1] - maps[0]).abs().max() > 1e-2


def test_places_start_at_zero() -> None:
    policy: Any = toy_model(architecture="canvas").policy
    assert not policy.pi_features_extractor.places.any()


@BOTH
def test_a_critics_features_are_zero_in_the_maps(observation: str) -> None:
    policy: Any = toy_model(architecture="canvas", env=toy_env_showing(observation)).policy
    fill_zeros(policy)
    counts = [0, 2, STEPS - 1]
    observations = toy_observations(counts, observation)
    whole = toy_observations([STEPS - 1] * 2, observation)
    for shown in (observations, whole | {WHOLE: whole["mask"]}):
        actor, critic = policy.pi_features_extractor(shown), policy.vf_features_extractor(shown)
        assert actor.shape == critic.shape
        assert not critic[:, -len(GRID) :].any()
        assert critic[:, : -len(GRID)].abs().amax() > 1e-3
        assert actor[:, -len(GRID) :].abs().amax(1).min() > 1e-3


def test_map_scores_are_added_to_the_actors_logits() -> None:
    policy: Any = toy_model(architecture="canvas").policy
    observations = state_observations(random_data(4))
    with torch.no_grad():
        features = policy.pi_features_extractor(
            prepared(observations, policy.observation_space, policy.normalize_images)
        )
        told = policy.get_distribution(observations).distribution.logits
        expected = policy.action_net(policy.mlp_extractor.forward_actor(features)) + features[:, -len(GRID) :]
    free = told > -1e6
    visited = torch.arange(STEPS).repeat(4)
    assert torch.equal((~free).sum(1), visited)
    difference = torch.where(free, told - expected, torch.nan)
    torch.testing.assert_close(difference.nanmean(1, keepdim=True).expand_as(told)[free], difference[free])
