"""Proposals q(l_t+1 | h_t, theta, x) of wake-sleep: where to look, given the label theta and the image x.

They are only used in training, to propose sequences that explain the label (Ba et al. 2015).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse_env.sensing.geometry import grid_of


class Proposal(nn.Module, ABC):
    """Computes logits of locations from the core's states, which get no gradient, label and image."""

    @abstractmethod
    def context(self, images: Tensor, labels: Tensor, group: int = 1) -> Any:
        """Returns what the proposal reads of images (B, H, W, C) uint8 and labels (B,).

        Args:
            group: neighbours that are the same image, a divisor of B.
        """

    @abstractmethod
    def forward(self, states: Tensor, context: Any) -> Tensor:
        """Returns logits (B, ..., L) for states (B, ..., H) and the context of B images."""


class PixelProposal(Proposal):
    """Observes the whole image at 16 x 16 pixels, by one dense layer."""

    SIDE = 16
    """Pixels along a side of the image it observes."""

    def __init__(self, num_locations: int, num_classes: int, image_channels: int, hidden: int):
        super().__init__()
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(self.SIDE),
            nn.Flatten(),
            nn.Linear(image_channels * self.SIDE**2, hidden),
            nn.ReLU(),
        )
        self.label = nn.Embedding(num_classes, hidden)
        self.joint = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, num_locations)

    def context(self, images: Tensor, labels: Tensor, group: int = 1) -> Tensor:
        """Returns (B, 2 H), see :class:`Proposal`."""
        return torch.cat([self.image(_pixels(images)), self.label(labels)], dim=1)

    def forward(self, states: Tensor, context: Tensor) -> Tensor:
        context = _beside(context, states)
        return self.out(torch.relu(self.joint(torch.cat([states.detach(), context], dim=-1))))


class MapProposal(Proposal):
    """Scores each location by what convolutions find at it: logit(l) = f(x)_l . g(h, theta, mean f(x)) / sqrt(F) + b_l,

    with f(x)_l the feature map at the middle of the location's glimpse and b from the same state.
    """

    FEATURES = 64
    """F, channels of the feature map."""

    def __init__(self, grid: Mapping[str, Any], num_classes: int, image_channels: int, hidden: int):
        """Takes the fields of the environment's :class:`LocationGrid`, classes, channels and the width of states."""
        super().__init__()
        places, width = grid_of(grid), self.FEATURES
        self.trunk = nn.Sequential(
            nn.Conv2d(image_channels, width // 2, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.ReLU(),
        )
        zooms = places.corners[:, 2:] if places.coordinates > 2 else 1
        middles = places.corners[:, :2] + places.glimpse_size * zooms / 2
        where = 2.0 * middles[:, ::-1] / places.image_size - 1.0  # (L, 2) as (x, y)
        self.register_buffer("where", torch.tensor(np.ascontiguousarray(where), dtype=torch.float32), persistent=False)
        self.label = nn.Embedding(num_classes, hidden)
        self.joint = nn.Linear(2 * hidden + width, hidden)
        self.query = nn.Linear(hidden, width)
        self.out = nn.Linear(hidden, len(places))

    def context(self, images: Tensor, labels: Tensor, group: int = 1) -> tuple[Tensor, Tensor]:
        """Returns the map at all locations (B, F, L) and (B, H + F), see :class:`Proposal`."""
        features = self.trunk(_pixels(images[::group]))
        where = self.where.expand(len(features), 1, -1, -1)  # type: ignore[operator]
        sampled = F.grid_sample(features, where, align_corners=False, padding_mode="border")[:, :, 0]  # (b, F, L)
        sampled = sampled.repeat_interleave(group, dim=0)
        return sampled, torch.cat([self.label(labels), sampled.mean(-1)], dim=1)

    def forward(self, states: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        sampled, summary = context
        hidden = torch.relu(self.joint(torch.cat([states.detach(), _beside(summary, states)], dim=-1)))
        queries = self.query(hidden) / sampled.shape[1] ** 0.5  # (B, ..., F)
        scores = torch.bmm(queries.flatten(1, -2) if queries.ndim > 2 else queries[:, None], sampled)  # (B, n, L)
        return scores.view(*states.shape[:-1], -1) + self.out(hidden)


def mixed(logits: Tensor, exploration: float) -> Tensor:
    """Returns log[(1 - d) q + d / L] (..., L) of the proposal's logits with d = ``exploration``; the logits for 0."""
    if not exploration:
        return logits
    uniform = torch.full_like(logits, np.log(exploration / logits.shape[-1]))
    return torch.logaddexp(logits.log_softmax(-1) + np.log1p(-exploration), uniform)


def _pixels(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _beside(context: Tensor, states: Tensor) -> Tensor:
    """Returns a context (B, n) as (B, ..., n) beside states (B, ..., H)."""
    return context.view(len(context), *[1] * (states.ndim - 2), -1).expand(*states.shape[:-1], -1)
