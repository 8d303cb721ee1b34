"""Demonstrations of policies that stop, in a world in which it is known when it pays."""

from pathlib import Path

import numpy as np
import pytest

from glimpse_env.errors import ArtifactError
from oracles.boed.anytime import AnytimeConfig
from oracles.boed.oracle import OracleConfig
from oracles.demonstrations import Demonstrations, generate
from oracles.presets import preset_of
from oracles.registry import priced
from oracles.stopping import StopConfig
from tests.support.toy_problem import LABELS, ToyJudge, ToySource
from tests.support.toy_shards import CONFIG

PLACES = 9


def make(out: Path, name: str, cost: float | None, threshold: float | None = None) -> Demonstrations:
    """Of 20 images; the oracle that looks is exact."""
    looks = OracleConfig("least_confidence", CONFIG.completion)
    config = None if name == "fixed-length" else StopConfig(cost if threshold is None else threshold, looks)
    return generate(name, ToySource(), ToyJudge(), 20, out=out / "demos.npz", config=config, glimpse_cost=cost)


def test_a_glimpse_that_costs_all_is_not_taken(tmp_path: Path) -> None:
    made = make(tmp_path, "boed-gain", 1.0)
    assert made.stops
    assert (made.locations == -1).all()
    assert not made.lengths.any()
    assert made.epe is not None
    assert made.epe.shape == (20, 2, PLACES + 1)
    np.testing.assert_allclose(made.epe[:, 0, PLACES], 0.75, atol=1e-2)  # of four classes one is guessed
    assert (made.epe[:, 0, :PLACES].min(axis=1) > made.epe[:, 0, PLACES]).all()
    assert np.isnan(made.epe[:, 1]).all()
    np.testing.assert_allclose(made.entropies, np.log(4), atol=1e-5)
    assert made.manifest["glimpse_cost"] == 1.0
    assert made.manifest["oracle"]["threshold"] == 1.0


def test_a_cheap_one_is_taken_until_all_is_known(tmp_path: Path) -> None:
    made = make(tmp_path, "boed-gain", 0.1)
    assert (made.lengths == 2).all()
    assert made.epe is not None
    assert np.isfinite(made.epe).all()
    np.testing.assert_allclose(made.epe[:, 1, PLACES], 0.5, atol=1e-2)
    second = np.where(LABELS[made.indices % len(LABELS)] > 1, 5, 1)
    np.testing.assert_allclose(made.epe[np.arange(20), 1, second], 0.1, atol=1e-2)  # all is known, for the price


def test_stops_that_do_not_follow_from_the_maps_have_no_value(tmp_path: Path) -> None:
    made = make(tmp_path, "boed-confidence", 0.1, threshold=0.4)
    assert (made.lengths == 1).all()
    assert made.epe is not None
    assert np.isfinite(made.epe[..., :PLACES]).all()
    assert np.isnan(made.epe[..., PLACES]).all()
    assert make(tmp_path / "fixed", "fixed-length", 0.1).epe is None


def test_they_are_kept_whole(tmp_path: Path) -> None:
    made = make(tmp_path, "fixed-length", 0.1)
    assert (made.lengths == 1).all()
    again = Demonstrations.load(tmp_path / "demos.npz")
    np.testing.assert_array_equal(again.locations, made.locations)
    assert again.stops
    assert again.manifest == made.manifest
    with pytest.raises(ArtifactError, match="negative"):
        Demonstrations(again.indices, again.locations, again.entropies, None, {})
    with pytest.raises(ArtifactError, match="behind a stop"):
        Demonstrations(again.indices, again.locations[:, ::-1], again.entropies, None, {"stops": True})


def test_the_oracle_is_the_one_that_stops_where_a_glimpse_has_a_price() -> None:
    source = ToySource()
    assert priced("oracle", source, None) == ("oracle", None)
    assert priced("oracle", source, 0.3) == ("boed-gain", StopConfig(0.3))
    assert priced("oracle-stop", source, 0.3) == ("oracle-stop", StopConfig(0.3))
    assert priced("boed-entropy", source, 0.3) == ("boed-entropy", None)
    assert priced("boed-anytime", source, 0.3) == ("boed-anytime", AnytimeConfig(0.3, oracle=preset_of(source).boed))
    assert priced("boed-gain", source, 0.3, StopConfig(0.1)) == ("boed-gain", StopConfig(0.1))
