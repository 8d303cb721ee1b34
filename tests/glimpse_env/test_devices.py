"""Names of devices."""

import pytest
import torch

from glimpse_env.devices import find_device
from glimpse_env.errors import ConfigurationError


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of devices that PyTorch finds beside the CPU; none at first."""
    kinds: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
    return kinds


def test_auto_takes_the_best_device_there_is(available: list[str]) -> None:
    assert find_device("auto") == torch.device("cpu")
    available.append("mps")
    assert find_device("auto") == torch.device("mps")
    available.append("cuda")
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_device_is_refused(available: list[str], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"device='{name}' is not available .* take device=\"cpu\""):
        find_device(name)
    available.append(name)
    assert find_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "", None])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must be one of auto, cpu, cuda, mps"):
        find_device(name)
