"""Stopping early with a network that looks and classifies: against its own episodes, and operations counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.ram.stopping import flops, play_out
from glimpse_env.errors import ConfigurationError
from oracles.boed.stopping import glimpses_used
from scripts.measure import stopping
from tests.agents.ram.test_algorithm import CLASSES, LOCATIONS, SMALL, marked, ram, to_the_corner, train


def test_after_the_last_glimpse_it_names_what_its_episodes_name() -> None:
    model = train(ram(every_step=True, sequences=to_the_corner()), 20)
    dataset, indices = marked(30, seed=5), np.arange(30)
    played, looked = play_out(model, dataset, indices), model.look(dataset, indices)
    assert np.array_equal(played.success[:, -1], looked.success)
    assert np.allclose(played.entropy, looked.entropy, atol=1e-5)
    assert played.gain.shape == (30, 1)


def test_what_is_foreseen_comes_true_on_average() -> None:
    model = train(ram(num_envs=48, every_step=True, sequences=to_the_corner(), learning_rate=3e-3), 100)
    played = play_out(model, marked(60, seed=5), np.arange(60))
    # the middle tells nothing and the corner all, and it knows that before it looks
    came = played.entropy[:, 0] - played.entropy[:, 1]
    assert came.mean() > 0.5
    assert played.gain.mean() == pytest.approx(came.mean(), abs=0.15)
    assert (glimpses_used(played.gain, 0.2) == 2).mean() > 0.9
    assert (glimpses_used(played.gain, 2.0) == 1).all()


def test_operations_are_those_of_the_layers() -> None:
    model = ram(every_step=True)
    assert SMALL["tokens"] == SMALL["hidden"] == 24
    convolutions, size, channels = 0, 12, 1
    for kernel, stride, width in ((3, 1, 8), (4, 2, 8), (2, 2, 8), (2, 1, 16)):  # of 12 x 12 glimpses, 16 features
        size = (size - kernel) // stride + 1
        convolutions += size**2 * width * kernel**2 * channels
        channels = width
    glimpse = convolutions + 16 * 24 + (2 * 64 + 64 * 24)
    core = 3 * (24 * 24 + 24 * 24)
    locator, classifier, foresight = (24 * 24 + 24 * out for out in (LOCATIONS, CLASSES, 1))
    step = glimpse + core + locator
    assert flops(model, rule=False).tolist() == [2 * (step + classifier), 2 * (2 * step + classifier)]
    assert flops(model, rule=True).tolist() == [2 * t * (step + classifier + foresight) for t in (1, 2)]


def test_a_network_that_classifies_at_the_end_only_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="every_step=True"):
        play_out(ram(), marked(), np.arange(3))


def test_the_script_draws_glimpses_and_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.experiments.ram import RamCell, RamGrid, Run

    grid = RamGrid(("digits",), ("ps-nogs-steps",), seeds=1, iterations=3, num_sequences=10, val_images=20)
    run = Run(grid, RamCell("digits", "ps-nogs-steps", "gru", 0), tmp_path)
    run.train()
    monkeypatch.chdir(tmp_path)
    stopping.main(stopping.Args(env="GlimpseDigitsClassify-v0", network=run.best_path, images=40, split="val"))
    figures = json.loads(Path("runs/stopping_network_digits.json").read_text(encoding="utf-8"))
    rules, whole = figures["rules"], figures["flops_by_glimpses"]
    assert len(whole["fixed"]) == 6
    assert all(small < large for small, large in zip(whole["fixed"], whole["gain"], strict=True))
    assert rules["fixed"]["mean_flops"] == whole["fixed"]
    assert rules["gain"]["mean_flops"][0] == whole["gain"][0]  # the earliest rule stops after one glimpse
    assert rules["gain"]["mean_flops"][-1] == whole["gain"][-1]
    with Image.open("runs/stopping_network_digits.png") as picture:
        assert picture.size[0] > 1500
