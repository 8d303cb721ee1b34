"""Encoders that others made: pretrained networks of the package timm, and exported programs."""

from pathlib import Path
from typing import Any

import torch

from glimpse_env.encoding.base import SIDE, FrozenEncoder
from glimpse_env.errors import ArtifactError, ConfigurationError


def load_timm(network_name: str) -> FrozenEncoder:
    """Returns a pretrained network of timm without its classifier.

    Windows are 64 x 64 for it, but where a network takes images of one size only.

    Raises:
        ConfigurationError: if timm has no such network, or no weights for it.
    """
    import timm  # an optional package

    name = f"timm:{network_name}"
    try:
        network = timm.create_model(network_name, pretrained=True, num_classes=0)
    except Exception as error:  # of many kinds: unknown, without weights, not to be reached
        raise ConfigurationError(f"encoder={name!r} cannot be loaded by timm: {error}") from error
    settings = network.pretrained_cfg
    side = settings["input_size"][-1] if settings.get("fixed_input_size") else SIDE
    return FrozenEncoder(name, network, side=side, mean=settings["mean"], std=settings["std"])


def load_program(path: Path) -> FrozenEncoder:
    """Returns the program that ``torch.export.save`` wrote to ``path``.

    It maps (N, 3, S, S) float32, RGB in 0..1, to (N, width), for any N; where it was exported for one S only, windows
    are enlarged or reduced to that, else to 64.

    Raises:
        ArtifactError: if the file is damaged.
        ConfigurationError: if the program takes something else.
    """
    try:
        program = torch.export.load(path)
    except Exception as error:  # of many kinds
        raise ArtifactError(f"{path} is no exported program, or damaged ({type(error).__name__}).") from error
    inputs = _input_shapes(program)
    if len(inputs) != 1 or len(inputs[0]) != 4 or isinstance(inputs[0][0], int):
        raise ConfigurationError(
            f"encoder={str(path)!r} takes inputs {inputs}, not windows (N, 3, S, S) for any N; "
            "export it with a dynamic first dimension."
        )
    side = inputs[0][3] if isinstance(inputs[0][3], int) else SIDE
    return FrozenEncoder(str(path), program.module(), side=side, content=path.read_bytes())


def _input_shapes(program: Any) -> list[tuple[int | str, ...]]:
    """Returns the shapes of a program's inputs; a dimension of any size is text."""
    wanted = set(program.graph_signature.user_inputs)
    shapes = [
        node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted
    ]
    return [tuple(size if isinstance(size, int) else str(size) for size in shape) for shape in shapes]
