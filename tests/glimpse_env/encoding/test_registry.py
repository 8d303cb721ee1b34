"""Encoders by name: ours, registered ones, functions of modules, files, and what is none of these."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.error import DependencyNotInstalled
from torch import nn

import glimpse_env
from glimpse_env.encoding import registry
from glimpse_env.encoding.base import FrozenEncoder, encode_glimpses
from glimpse_env.encoding.registry import ENCODERS, is_frozen, load_encoder, unavailable_reason
from glimpse_env.errors import ArtifactError, ConfigurationError
from tests.support.registries import registries_restored
from tests.support.toy_encoder import TOY, toy


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Forgets what a test registers and loads."""
    load_encoder.cache_clear()
    with registries_restored():
        yield
    load_encoder.cache_clear()


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randint(0, 256, (40, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def program(path: Path, side: int | None = None) -> Path:
    """Exports the toy network for one side, or for any."""
    batch, pixels = torch.export.Dim("batch"), torch.export.Dim("side", min=16)
    shapes = {0: batch} if side else {0: batch, 2: pixels, 3: pixels}
    example = torch.zeros(2, 3, side or 48, side or 48)
    exported = torch.export.export(Means(toy()[:3]).eval(), (example,), dynamic_shapes=(shapes,))
    torch.export.save(exported, path)
    return path


class Means(nn.Module):
    """Means over all pixels of what a network gives."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x).mean((2, 3))


def test_names_are_there() -> None:
    assert list(ENCODERS) == ["convolutional", "efficientnet_lite0"]
    assert unavailable_reason("convolutional") is None
    assert not is_frozen("convolutional")
    assert is_frozen(TOY)
    with pytest.raises(ConfigurationError, match="encoder='convolutional' is trained with its judge"):
        load_encoder("convolutional")


def test_a_function_of_a_module_is_an_encoder(windows: torch.Tensor) -> None:
    assert unavailable_reason(TOY) is None
    encoder = load_encoder(TOY)
    assert encoder is load_encoder(TOY)
    assert (encoder.name, encoder.width, encoder.side) == (TOY, 24, 64)
    x = nn.functional.interpolate(windows.permute(0, 3, 1, 2) / 255, (64, 64), mode="bilinear")
    with torch.no_grad():
        assert torch.allclose(encoder(windows), toy().eval()(x), atol=1e-6)


def test_a_registered_encoder_is_found_by_either_name(windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("other_package")
    module.__dict__["mine"] = None  # the registered one is taken
    monkeypatch.setitem(sys.modules, "other_package", module)
    glimpse_env.register_encoder("mine", lambda: FrozenEncoder("?", toy(), side=32, mean=[0.5] * 3, std=[0.25] * 3))
    encoder = load_encoder("other_package:mine")
    assert encoder.name == "other_package:mine"
    assert encoder.digest == load_encoder("mine").digest != load_encoder(TOY).digest
    x = nn.functional.interpolate(windows.permute(0, 3, 1, 2) / 255, (32, 32), mode="bilinear")
    with torch.no_grad():
        assert torch.allclose(encoder(windows), toy().eval()((x - 0.5) / 0.25), atol=1e-6)
    with pytest.raises(ConfigurationError, match="encoder='mine' is taken"):
        glimpse_env.register_encoder("mine", toy)


def test_grey_windows_are_repeated(windows: torch.Tensor) -> None:
    encoder, grey = load_encoder(TOY), windows[..., :1]
    assert torch.allclose(encoder(grey), encoder(grey.expand(-1, -1, -1, 3)), atol=1e-6)
    with pytest.raises(ConfigurationError, match="not 2 channels"):
        encoder(windows[..., :2])
    assert encoder(windows[:0]).shape == (0, 24)


@pytest.mark.parametrize("channels", [1, 3])
def test_scales_are_encoded_one_by_one(windows: torch.Tensor, channels: int) -> None:
    encoder, windows = load_encoder(TOY), windows[..., :channels]
    narrow, wide = windows[:20], windows[20:]
    stacked = torch.cat([narrow, wide], dim=-1).reshape(4, 5, 12, 12, 2 * channels)
    encoded = encode_glimpses(encoder, stacked, channels)
    assert encoded.shape == (4, 5, 48)
    assert torch.allclose(encoded.reshape(20, 48), torch.cat([encoder(narrow), encoder(wide)], dim=1), atol=1e-6)


@pytest.mark.parametrize("side", [None, 40])
def test_an_exported_program_is_an_encoder(tmp_path: Path, windows: torch.Tensor, side: int | None) -> None:
    path = str(program(tmp_path / "toy.pt2", side))
    assert unavailable_reason(path) is None
    encoder = load_encoder(path)
    assert (encoder.width, encoder.side, encoder.title) == (24, side or 64, "toy.pt2")
    expected = FrozenEncoder("?", toy(), side=side or 64)(windows)
    assert torch.allclose(encoder(windows), expected, atol=1e-5)
    assert torch.allclose(encoder(windows[:1]), expected[:1], atol=1e-5)
    assert encoder.digest != load_encoder(str(program(tmp_path / "other.pt2", 44))).digest


def test_a_broken_program_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path / "toy.pt2")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match=r"toy\.pt2 is no exported program, or damaged"):
        load_encoder(str(path))
    network = toy().eval()
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 64, 64),)), path)
    with pytest.raises(ConfigurationError, match=r"takes inputs \[\(2, 3, 64, 64\)\].*dynamic first dimension"):
        load_encoder(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "must be one of convolutional, efficientnet_lite0"),
        ("no_module:name", "'no_module' cannot be imported"),
        ("tests.support.toy_encoder:nothing", "neither registers an encoder 'nothing' nor has a function"),
        ("tests.support.toy_encoder:NOT_CALLABLE", "neither registers"),
        ("nowhere.pt2", "is no file; write one with torch.export.save"),
        (3, "must be a name"),
    ],
)
def test_what_is_no_encoder_is_refused(name: str, message: str) -> None:
    assert message in unavailable_reason(name)
    with pytest.raises(ConfigurationError, match=message):
        load_encoder(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stacks", r"gives \(1, 4, 62, 62\) for 1 windows"),
        ("text", "makes a str; it must make a FrozenEncoder or a torch.nn.Module"),
    ],
)
def test_what_a_factory_makes_is_checked(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_encoder(f"tests.support.toy_encoder:{name}")


def test_a_network_for_other_inputs_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"encoder='flat' cannot encode windows \(1, 3, 64, 64\): mat1 and mat2"
    ):
        FrozenEncoder("flat", nn.Sequential(nn.Flatten(), nn.Linear(7, 2)))


def test_a_network_that_encodes_a_window_by_its_neighbours_is_refused() -> None:
    for network in (nn.BatchNorm2d(3, track_running_stats=False), nn.Dropout()):
        layers = nn.Sequential(network, nn.Flatten())
        content = None if isinstance(network, nn.BatchNorm2d) else b"as an exported program, taken as it is"
        with pytest.raises(ConfigurationError, match="'mixing' gives a window other numbers beside others"):
            FrozenEncoder("mixing", layers, content=content)


def test_networks_of_the_same_weights_and_other_layers_are_told_apart() -> None:
    digests = {
        FrozenEncoder("pool", nn.Sequential(nn.Flatten(2), pool, nn.Flatten())).digest
        for pool in (nn.AvgPool1d(64), nn.MaxPool1d(64), nn.MaxPool1d(32))
    }
    assert len(digests) == 3


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PACKAGES, "efficientnet_lite0", "not_installed_here")
    sentence = r"needs the package not-installed-here, which is not installed: pip install .*\[pretrained\]"
    with pytest.raises(DependencyNotInstalled, match=sentence):
        load_encoder("efficientnet_lite0")
    assert "not-installed-here" in unavailable_reason("efficientnet_lite0")


def test_a_network_of_timm_is_an_encoder() -> None:
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported: {error}")
    assert unavailable_reason("timm:resnet18") is None
    with pytest.raises(ConfigurationError, match="cannot be loaded by timm"):
        load_encoder("timm:no_such_network")


def test_networks_of_timm_are_asked_for_as_timm_does(windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        assert pretrained
        assert num_classes == 0
        network = toy()
        setattr(network, "pretrained_cfg", dict(settings))  # noqa: B010
        return network

    settings: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3), "input_size": (3, 48, 48)}
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    assert unavailable_reason("timm:small") is None
    encoder = load_encoder("timm:small")
    assert encoder.side == 64
    expected = FrozenEncoder("?", toy(), mean=settings["mean"], std=settings["std"])
    assert torch.equal(encoder(windows), expected(windows))
    assert encoder.digest == expected.digest
    load_encoder.cache_clear()
    settings["fixed_input_size"] = True
    assert load_encoder("timm:small").side == 48
    with pytest.raises(ConfigurationError, match=r"'timm:large' cannot be loaded by timm: Unknown model"):
        load_encoder("timm:large")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyNotInstalled, match="needs the package timm"):
        load_encoder("timm:tiny")
