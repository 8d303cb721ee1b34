"""Demonstrations: what is kept, byte for byte, also when the run was killed on the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.errors import ArtifactError, ConfigurationError
from oracles import demonstrations as module
from oracles.completion import CompletionConfig
from oracles.demonstrations import Demonstrations, generate, manifest_of
from oracles.oracle import OracleConfig
from tests.toy_problem import IMAGES, LABELS, ToyJudge, ToySource, exact_epe

CONFIG = OracleConfig(completion=CompletionConfig(bandwidth=1e-2, samples=24, short_list=24))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


def make(out: Path, name: str = "oracle", num: int = 20, seed: int = 0) -> Demonstrations:
    return generate(name, ToySource(), ToyJudge(), num, out=out, seed=seed, config=CONFIG)


def test_oracle_sequences_and_maps_are_those_of_enumeration(tmp_path: Path) -> None:
    made = make(tmp_path / "demos.npz")
    assert made.locations.shape == (20, 2)
    assert len(np.unique(made.indices)) == 20
    for index, locations, maps, entropies in zip(made.indices, made.locations, made.epe, made.entropies, strict=True):
        world = index % len(IMAGES)
        first, second = locations
        pixels = IMAGES[world].reshape(-1)
        np.testing.assert_allclose(maps[0], exact_epe([]), atol=2e-3)  # float16
        # two copies of the image are left in the bank, so that leaving it out changes nothing here but weights
        assert (first, second) == (0, 5 if LABELS[world] > 1 else 1)
        assert int(maps[1].argmin()) == second == int(exact_epe([(0, int(pixels[0]))]).argmin())
        assert entropies[1] == pytest.approx(0, abs=1e-5)


def test_round_trip(tmp_path: Path) -> None:
    made = make(tmp_path / "demos.npz")
    loaded = Demonstrations.load(tmp_path / "demos.npz")
    for field in ("indices", "locations", "entropies", "epe"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(made, field))
    assert loaded.manifest == made.manifest
    assert not list(tmp_path.glob(".*")), "nothing temporary is left"


@pytest.mark.parametrize("name", ["oracle", "random", "fixed"])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make(tmp_path / "whole" / "demos.npz", name)
    played, play = [], module._play

    def dies_at_the_third(*arguments):  # type: ignore[no-untyped-def]
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(arguments)
        return play(*arguments)

    monkeypatch.setattr(module, "_play", dies_at_the_third)
    out = tmp_path / "killed" / "demos.npz"
    with pytest.raises(KeyboardInterrupt):
        make(out, name)
    assert not out.exists()
    again = []
    monkeypatch.setattr(module, "_play", lambda *arguments: again.append(arguments) or play(*arguments))
    make(out, name)
    assert len(again) == 3, "two of five chunks were done already"
    for suffix in (".npz", ".json"):
        assert (
            out.with_suffix(suffix).read_bytes() == (tmp_path / "whole" / "demos.npz").with_suffix(suffix).read_bytes()
        )


def test_seeds_matter_and_repeat(tmp_path: Path) -> None:
    first, again, other = (make(tmp_path / f"{i}.npz", "random", seed=seed) for i, seed in enumerate((0, 0, 1)))
    np.testing.assert_array_equal(first.locations, again.locations)
    assert (first.indices != other.indices).any()
    assert (first.locations != other.locations).any()
    assert first.epe is None
    assert all(len(set(row)) == 2 for row in first.locations), "no location twice"


def test_manifest_names_what_determines_them(tmp_path: Path) -> None:
    manifest = manifest_of("oracle", ToySource(), ToyJudge(), 20, config=CONFIG)
    assert manifest["fingerprint"] == ToySource.fingerprint
    assert manifest["judge"] == ToyJudge().identity
    other = manifest_of("oracle", ToySource(), ToyJudge(), 20, config=replace(CONFIG, criterion="error"))
    assert manifest != other
    made = make(tmp_path / "demos.npz")
    made.check_fits(ToySource(), ToyJudge())
    with pytest.raises(ArtifactError, match="judge"):
        made.check_fits(ToySource(), ToyJudge(labels=1 - LABELS % 2))


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="num=25"):
        make(tmp_path / "demos.npz", num=25)
    with pytest.raises(ArtifactError, match="generate_demos"):
        Demonstrations.load(tmp_path / "absent.npz")
    make(tmp_path / "demos.npz")
    (tmp_path / "demos.npz").write_bytes(b"PK broken")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Demonstrations.load(tmp_path / "demos.npz")
