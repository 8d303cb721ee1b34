from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from agents.networks.encoders import ENCODED, WHOLE, GlimpseEncoder, HistoryExtractor
from agents.registry import ARCHITECTURES
from glimpse_env.errors import ConfigurationError
from tests.support.toy import toy_judge
from tests.support.toy_agents import (
    CONFIG,
    GRID,
    OBSERVATIONS,
    SPACES,
    STEPS,
    WIDTHS,
    reordered,
    toy_extractor,
    toy_observations,
)


class SumExtractor(HistoryExtractor):
    """The smallest architecture: it defines ``read`` only."""

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        seen = torch.arange(features.shape[1]) < counts[:, None]
        return torch.cat([(self.tokens(features, locations) * seen[..., None]).sum(1), counts[:, None]], dim=1)


def sum_extractor(observation: str = "history", **options: Any) -> SumExtractor:
    torch.manual_seed(0)
    space: Any = SPACES[observation]
    return SumExtractor(space, features_dim=17, posterior=asdict(CONFIG), tokens=16, **options)


def test_encoder_copies_the_judges_exactly() -> None:
    judge = toy_judge()
    encoder = GlimpseEncoder(CONFIG)
    encoder.copy_from(judge.networks[0])
    glimpses = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 12, 12, 1), dtype=np.uint8))
    expected = judge.networks[0].encode_glimpses(glimpses)  # (7, F)
    assert expected.shape == (7, encoder.width)
    assert expected.std() > 0.01
    torch.testing.assert_close(encoder(glimpses / 255.0), expected, rtol=1e-4, atol=1e-5)


def test_encoder_is_a_copy() -> None:
    judge = toy_judge()
    encoder = GlimpseEncoder(CONFIG)
    encoder.copy_from(judge.networks[0])
    glimpses = torch.rand(3, 12, 12, 1)
    before = encoder(glimpses)
    for parameter in judge.networks[0].parameters():
        parameter.zero_()
    torch.testing.assert_close(encoder(glimpses), before, rtol=0, atol=0)


def test_encoder_refuses_another_shape() -> None:
    with pytest.raises(ConfigurationError, match="judge's config"):
        GlimpseEncoder(replace(CONFIG, channels=3)).copy_from(toy_judge().networks[0])


def test_encoder_is_the_same_in_training_and_evaluation() -> None:
    encoder, glimpses = GlimpseEncoder(CONFIG), torch.rand(5, 12, 12, 1)
    assert torch.equal(encoder.train()(glimpses), encoder.eval()(glimpses))


def test_extractor_sees_only_what_the_mask_shows() -> None:
    extractor = toy_extractor()
    counts = [0, 1, 2, STEPS]
    one, other = toy_observations(counts, seed=1), toy_observations(counts, seed=2)
    for key in ("glimpses", "locations"):
        for row, count in enumerate(counts):
            other[key][row, : count * WIDTHS[key]] = one[key][row, : count * WIDTHS[key]]
    assert not torch.equal(one["glimpses"], other["glimpses"])
    assert torch.equal(extractor(one), extractor(other))


def test_extractor_depends_on_glimpses_locations_and_order() -> None:
    extractor = toy_extractor()
    observations = toy_observations([3])
    features = extractor(observations)

    swapped = reordered(observations, [1, 0, 2, 3])
    moved = observations | {"locations": observations["locations"].roll(1, dims=1)}
    dark = observations | {"glimpses": observations["glimpses"] * 0.5}
    for changed in (swapped, moved, dark):
        assert (extractor(changed) - features).abs().max() > 1e-4


def test_empty_history_is_the_learned_start() -> None:
    extractor: Any = toy_extractor()
    features = extractor(toy_observations([0, 2, 0]))
    assert torch.equal(features[0], extractor.start)
    assert torch.equal(features[2], extractor.start)
    assert torch.equal(extractor(toy_observations([0]))[0], extractor.start)
    features.sum().backward()
    assert extractor.start.grad is not None
    assert extractor.start.grad.abs().min() > 0


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_states_are_the_features_of_all_prefixes(observation: str) -> None:
    """Also where an architecture inherits ``states`` from the base class."""
    for extractor in (toy_extractor(observation=observation), sum_extractor(observation)):
        observations = toy_observations([STEPS] * 3, observation)
        locations = observations["locations"].unflatten(1, (STEPS, 2))
        states = extractor.states(extractor.encode(observations), locations)  # (3, T + 1, H)
        assert states.shape == (3, STEPS + 1, extractor.features_dim)
        for count in range(STEPS + 1):
            prefix = observations | {"mask": toy_observations([count] * 3)["mask"]}
            torch.testing.assert_close(extractor(prefix), states[:, count])


def test_what_is_read_counts_the_mask_and_of_whole_episodes_all_states() -> None:
    extractor, observations = sum_extractor(), toy_observations([0, 3, 1])
    assert extractor(observations)[:, -1].tolist() == [0, 3, 1]
    whole = toy_observations([STEPS - 1] * 2)
    assert extractor(whole | {WHOLE: whole["mask"]})[:, -1].tolist() == [*range(STEPS)] * 2


def test_only_seen_glimpses_are_encoded() -> None:
    extractor = toy_extractor()
    assert extractor.encoder is not None
    seen = []
    extractor.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    extractor(toy_observations([0, 1, 3]))
    extractor(toy_observations([0, 0]))
    assert seen == [4]


def test_encoded_glimpses_may_take_the_glimpses_place() -> None:
    extractor, observations = toy_extractor(), toy_observations([0, 1, STEPS])
    encoded = extractor.encode(observations)  # (3, T, F)
    assert encoded.shape == (3, STEPS, extractor.width)
    assert encoded.any(-1).sum(1).tolist() == [0, 1, STEPS]
    instead = {key: value for key, value in observations.items() if key != "glimpses"}
    assert torch.equal(extractor(instead | {ENCODED: encoded.flatten(1)}), extractor(observations))


@pytest.mark.parametrize(("observation", "key"), [("embedding", "embeddings"), ("features", "features")])
def test_what_is_encoded_is_read_as_it_is(observation: str, key: str) -> None:
    extractor, observations = toy_extractor(observation=observation), toy_observations([2, STEPS], observation)
    assert extractor.encoder is None
    assert extractor.frozen
    assert extractor.width == WIDTHS[key]
    expected = observations[key].unflatten(1, (STEPS, WIDTHS[key]))
    assert torch.equal(extractor.encode(observations), expected)


def test_frozen_encoder_has_no_gradients() -> None:
    for frozen in (False, True):
        extractor = toy_extractor(frozen=frozen)
        assert extractor.encoder is not None
        extractor(toy_observations([2])).sum().backward()
        assert all((parameter.grad is None) == frozen for parameter in extractor.encoder.parameters())
        assert extractor.glimpse_projection.weight.grad is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("space", "changes"),
    [
        (spaces.Box(0, 1, (3,)), {}),
        (spaces.Dict({"glimpses": spaces.Box(0, 1, (3,))}), {}),
        (SPACES["history"], {"channels": 3}),
    ],
)
def test_extractor_names_what_does_not_fit(architecture: str, space: spaces.Space, changes: dict[str, int]) -> None:
    made: Any = ARCHITECTURES[architecture]
    grid = {"grid": asdict(GRID)} if made.needs_grid else {}
    with pytest.raises(ConfigurationError, match=r"observation=|config"):
        made(space, posterior=asdict(replace(CONFIG, **changes)), **grid)
