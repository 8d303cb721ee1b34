"""What all tests share: a cache of their own, and no data set but those that they write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from glimpse_env.encoding import features
from glimpse_env.encoding.registry import load_encoder
from oracles.presets import PRESETS, Preset
from oracles.training.plans import ScorerPlan
from tests.support.other_device import OTHER, OtherDevice

REAL_DATA = os.environ.get("GLIMPSE_DATA")

for profile, cases in (("quick", 50), ("thorough", 2000)):
    settings.register_profile(
        profile,
        derandomize=True,
        deadline=None,
        max_examples=cases,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))  # or pytest --hypothesis-profile thorough


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Points GLIMPSE_CACHE at a folder for the session, so that drawn data are used again; unsets GLIMPSE_DATA. Toy
    worlds' amortised oracles hardly train.

    Workers of pytest-xdist share the folder, and take one core each.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(base / "shared-cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("GLIMPSE_DATA", raising=False)
        quick = ScorerPlan(images=32, histories=2, batch_size=16, locations=4, ahead=4, relative=3, chunk=32)
        patch.setitem(PRESETS, "toy", Preset(greedy=quick))
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GLIMPSE_CACHE", str(folder))
    return folder


@pytest.fixture
def real_data() -> Path:
    """The folder that GLIMPSE_DATA named when the tests were started; the test is skipped where it named none."""
    if not REAL_DATA:
        pytest.skip("GLIMPSE_DATA is not set")
    return Path(REAL_DATA)


@pytest.fixture(params=["another", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device that is not the CPU: an imitation, and CUDA where there is one. Encoders are loaded anew."""
    monkeypatch.setattr(features, "_made", {})
    load_encoder.cache_clear()
    if request.param == "another":
        with OtherDevice():
            yield OTHER
    else:
        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no CUDA device")
        yield torch.device("cuda")
    load_encoder.cache_clear()
