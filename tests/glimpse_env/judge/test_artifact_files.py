"""Judges and amortised oracles whose files were edited or damaged: they answer in numbers, or are one named error."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from glimpse_env.errors import ArtifactError, JudgeNotFoundError, OracleNotFoundError
from glimpse_env.files import file_digest
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Histories
from oracles.amortised.oracle import AmortisedOracle
from tests.support.fuzz import damaged, json_files, outcome
from tests.support.toy import toy_judge, toy_oracle


def ask_judge(judge: Judge) -> None:
    """Asks about histories of 0..T glimpses."""
    glimpses, corners, counts = histories(judge)
    p = judge.probabilities(glimpses, corners, counts, np.arange(-1, len(counts) - 1) % len(judge.networks) - 1)
    assert p.shape == (len(counts), judge.num_classes)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)


def ask_oracle(oracle: AmortisedOracle) -> None:
    """Asks for the maps of histories of 0..T - 1 glimpses."""
    glimpses, corners, counts = histories(oracle)
    state = oracle.fresh_state(len(counts))
    oracle.add_new(Histories(glimpses, corners, np.minimum(counts, glimpses.shape[1] - 1)), state)
    assert np.isfinite(oracle.expected_maps(state)).all()


def histories(trained: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Glimpses (B, T, g, g, C), their corners (B, T, 2) and numbers (B,), of noise."""
    geometry, steps = trained.geometry, trained.card.num_glimpses
    rng, batch, side = np.random.default_rng(0), steps + 1, geometry.glimpse_size
    glimpses = rng.integers(0, 256, (batch, steps, side, side, trained.card.config.channels), dtype=np.uint8)
    places = rng.integers(0, len(trained.grid), (batch, steps))
    return glimpses, trained.grid.corners[places], np.arange(batch)


KINDS: dict[str, Any] = {
    "judge": (toy_judge, Judge.load, ask_judge),
    "amortised oracle": (lambda: toy_oracle(toy_judge(), relative=4), AmortisedOracle.load, ask_oracle),
}


@dataclass(frozen=True)
class Saved:
    """Files of an artefact. Hypothesis prints it where a case fails; of a long text it would warn, which hides the case
    behind a FlakyStrategyDefinition."""

    kind: str
    path: Path
    card: bytes = field(repr=False)
    weights: bytes = field(repr=False)


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    path = tmp_path_factory.mktemp("artefact") / "trained.safetensors"
    KINDS[request.param][0]().save(path)
    return Saved(request.param, path, path.with_suffix(".json").read_bytes(), path.read_bytes())


def take(saved: Saved, card: bytes, weights: bytes | None = None) -> bool:
    """Says whether an artefact with these files is taken; it is asked then."""
    kind, path = saved.kind, saved.path
    path.with_suffix(".json").write_bytes(card)
    path.write_bytes(saved.weights if weights is None else weights)
    trained, refusal = outcome(lambda: KINDS[kind][1](path), ArtifactError, JudgeNotFoundError, OracleNotFoundError)
    if trained is None:
        assert f"{kind} at {path}" in refusal
        return False
    KINDS[kind][2](trained)
    return True


@given(data=st.data())
def test_edited_cards_are_read_or_one_error(saved: Saved, data: st.DataObject) -> None:
    take(saved, data.draw(json_files(json.loads(saved.card))))


@given(data=st.data())
def test_damaged_weights_are_one_error(saved: Saved, data: st.DataObject) -> None:
    weights = data.draw(damaged(saved.weights))
    assert take(saved, saved.card, weights) == (weights == saved.weights)


@given(data=st.data())
def test_damaged_weights_of_old_cards_are_read_or_one_error(saved: Saved, data: st.DataObject) -> None:
    """Cards of old have no digest that would tell."""
    card = json.loads(saved.card)
    del card["weights_digest"]
    take(saved, json.dumps(card).encode(), data.draw(damaged(saved.weights)))


@given(data=st.data())
def test_weights_of_other_numbers_and_shapes_are_read_or_one_error(saved: Saved, data: st.DataObject) -> None:
    path = saved.path
    tensors = {name: tensor.clone() for name, tensor in load(saved.weights).items()}
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name]
    change = data.draw(st.sampled_from(["value", "dtype", "flat", "more", "name", "swap"]))
    if change == "value" and tensor.numel():
        tensor.view(-1)[data.draw(st.integers(0, tensor.numel() - 1))] = data.draw(
            st.floats(width=16) if tensor.is_floating_point() else st.integers(-(2**40), 2**40)
        )
    elif change == "dtype":
        tensors[name] = tensor.to(data.draw(st.sampled_from([torch.int8, torch.float64, torch.bool, torch.bfloat16])))
    elif change == "flat":
        tensors[name] = tensor.reshape(-1).clone()
    elif change == "more":
        tensors[data.draw(st.text(max_size=5))] = tensor.clone()
    elif change == "name":
        tensors[data.draw(st.text(max_size=5))] = tensors.pop(name)
    elif change == "swap":
        tensors[name] = tensors[data.draw(st.sampled_from(sorted(tensors)))].clone()
    weights = save(tensors)
    path.write_bytes(weights)
    card = {**json.loads(saved.card), "weights_digest": file_digest(path)}
    take(saved, json.dumps(card).encode(), weights)
