from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from agents.features import GlimpseEncoder, HistoryExtractor
from glimpse_env.errors import ConfigurationError
from glimpse_env.observations import HistoryObserver
from tests.toy import toy_judge
from tests.toy_agents import GRID, STEPS

CONFIG = toy_judge().card.config
SPACE = HistoryObserver(GRID, STEPS, 1).space


def make_extractor(**options: object) -> HistoryExtractor:
    torch.manual_seed(0)
    assert isinstance(SPACE, spaces.Dict)
    return HistoryExtractor(SPACE, posterior=asdict(CONFIG), tokens=16, hidden=24, **options)  # type: ignore[arg-type]


def make_observations(counts: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Preprocessed as SB3 does it, with garbage where nothing was seen."""
    generator = torch.Generator().manual_seed(seed)
    batch, taken = len(counts), torch.tensor(counts)
    return {
        "glimpses": torch.rand(batch, STEPS * 144, generator=generator),
        "locations": torch.rand(batch, STEPS * 2, generator=generator) * 2 - 1,
        "mask": (torch.arange(STEPS) < taken[:, None]).float(),
        "step": torch.nn.functional.one_hot(taken, STEPS + 1).float(),
    }


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
    extractor = make_extractor()
    counts = [0, 1, 2, STEPS]
    one, other = make_observations(counts, seed=1), make_observations(counts, seed=2)
    for key, width in (("glimpses", 144), ("locations", 2)):
        for row, count in enumerate(counts):
            other[key][row, : count * width] = one[key][row, : count * width]
    assert not torch.equal(one["glimpses"], other["glimpses"])
    assert torch.equal(extractor(one), extractor(other))


def test_extractor_depends_on_glimpses_locations_and_order() -> None:
    extractor = make_extractor()
    observations = make_observations([3])
    features = extractor(observations)

    swapped = dict(observations)
    for key, width in (("glimpses", 144), ("locations", 2)):
        swapped[key] = observations[key].unflatten(1, (STEPS, width))[:, [1, 0, 2, 3]].flatten(1)
    moved = observations | {"locations": observations["locations"].roll(1, dims=1)}
    dark = observations | {"glimpses": observations["glimpses"] * 0.5}
    for changed in (swapped, moved, dark):
        assert (extractor(changed) - features).abs().max() > 1e-4


def test_empty_history_is_the_learned_start() -> None:
    extractor = make_extractor()
    torch.nn.init.normal_(extractor.start)
    features = extractor(make_observations([0, 2, 0]))
    assert torch.equal(features[0], extractor.start)
    assert torch.equal(features[2], extractor.start)
    assert torch.equal(extractor(make_observations([0]))[0], extractor.start)
    features.sum().backward()
    assert extractor.start.grad is not None
    assert extractor.start.grad.abs().min() > 0


def test_states_are_the_features_of_all_prefixes() -> None:
    extractor = make_extractor()
    observations = make_observations([STEPS] * 3)
    locations = observations["locations"].unflatten(1, (STEPS, 2))
    states = extractor.states(extractor.encode(observations), locations)  # (3, T + 1, H)
    assert states.shape == (3, STEPS + 1, 24)
    for count in range(STEPS + 1):
        prefix = observations | {"mask": make_observations([count] * 3)["mask"]}
        torch.testing.assert_close(extractor(prefix), states[:, count])


def test_only_seen_glimpses_are_encoded() -> None:
    extractor = make_extractor()
    seen = []
    extractor.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    extractor(make_observations([0, 1, 3]))
    extractor(make_observations([0, 0]))
    assert seen == [4]


def test_frozen_encoder_has_no_gradients() -> None:
    for frozen in (False, True):
        extractor = make_extractor(frozen=frozen)
        extractor(make_observations([2])).sum().backward()
        assert all((parameter.grad is None) == frozen for parameter in extractor.encoder.parameters())
        assert extractor.glimpse_projection.weight.grad is not None


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        (spaces.Box(0, 1, (3,)), {}),
        (spaces.Dict({"glimpses": spaces.Box(0, 1, (3,))}), {}),
        (SPACE, {"channels": 3}),
    ],
)
def test_extractor_names_what_does_not_fit(space: spaces.Space, changes: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        HistoryExtractor(space, posterior=asdict(replace(CONFIG, **changes)))  # type: ignore[arg-type]
