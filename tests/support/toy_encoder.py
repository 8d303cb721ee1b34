"""Small frozen encoders, for tests and their worker processes."""

import torch
from torch import nn


def toy() -> nn.Sequential:
    """A random convolution with batch normalisation, then 24 means over the pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=4), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        nn.init.normal_(network[1].running_mean, std=0.1)
    return network


TOY = "tests.support.toy_encoder:toy"
"""Name of the toy encoder."""
NOT_CALLABLE = 3


def stacks() -> nn.Module:
    """A network that is no encoder, as it gives an image for an image."""
    return nn.Conv2d(3, 4, 3)


def text() -> str:
    """A factory that makes no network."""
    return "network"
