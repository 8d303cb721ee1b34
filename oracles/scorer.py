"""The network of an amortised oracle: it reads a criterion's expectation at every location off the glimpses seen."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse_env.posterior import GlimpsePosterior, PosteriorConfig

HIDDEN = 256
"""Width of the head's hidden layers."""
LOCAL = 64
"""Width of the hidden layers that every location shares."""


class LocationScorer(GlimpsePosterior):
    """scores(l) = gain_t (base_t(l) + head(s)(l) + local(sum_i c(y_i) k(l - l_i), s, t, l)), for each grid location l,
    with s = sum_i phi(y_i, l_i).

    Its convolutions are those of one of the judge's networks and stay so; the rest of phi starts as that network's and
    is trained for the scores: what tells *where to look* is more than what tells the class.

    The last term is there with ``relative`` channels only. It knows what a shift is: where the object may lie anywhere,
    what a glimpse says of a place depends on how far off the place is. k is a large kernel a channel, c(y) how strongly
    a glimpse speaks in it, and ``local`` a network that reads all channels at a location, the same for each location.
    """

    def __init__(self, config: PosteriorConfig, num_glimpses: int, relative: int = 0):
        """
        Args:
            config: the judge's shape, with as many classes as there are locations.
            num_glimpses: T.
            relative: channels of the maps over relative offsets; 0 for none.
        """
        super().__init__(config)
        self.relative = relative
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(config.embedding, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )
        self.base = nn.Parameter(torch.zeros(num_glimpses, config.num_classes))
        self.gain = nn.Parameter(torch.ones(num_glimpses))
        if relative:
            side = math.isqrt(config.num_classes)
            self.coefficients = nn.Sequential(
                nn.Linear(self.feature_width, 2 * relative), nn.ReLU(), nn.Linear(2 * relative, relative)
            )
            self.kernels = nn.Parameter(0.2 * torch.randn(2 * side - 1, 2 * side - 1, relative))
            self.context = nn.Linear(config.embedding, LOCAL)
            self.places = nn.Parameter(torch.zeros(num_glimpses, config.num_classes, LOCAL))
            self.local = nn.Linear(relative, LOCAL)
            self.local_head = nn.Sequential(nn.ReLU(), nn.Linear(LOCAL, LOCAL), nn.ReLU(), nn.Linear(LOCAL, 1))
            nn.init.zeros_(self.local_head[-1].weight)
            nn.init.zeros_(self.local_head[-1].bias)

    @classmethod
    def like(
        cls, judged: GlimpsePosterior, num_locations: int, num_glimpses: int, relative: int = 0
    ) -> "LocationScorer":
        """One whose phi is that of a judge's network."""
        config = replace(judged.config, num_classes=num_locations, num_parts=0, hidden=HIDDEN)
        scorer = cls(config, num_glimpses, relative)
        skipped = ("head.", "part_head.")
        shared = {name: value for name, value in judged.state_dict().items() if not name.startswith(skipped)}
        scorer.load_state_dict({**scorer.state_dict(), **shared})
        return scorer

    @property
    def state_width(self) -> int:
        """S = D + L E, numbers that stand for a history; E is ``relative``."""
        return self.config.embedding + self.config.num_classes * self.relative

    def words(self, features: Tensor, locations: Tensor) -> Tensor:
        """What each glimpse says, wherever it is put: features (..., F) of glimpses at normalised ``locations``
        (..., 2) to (phi, c), (..., D + E)."""
        phi = self.embed(features, locations)
        return torch.cat([phi, self.coefficients(features)], dim=-1) if self.relative else phi

    def summands(self, words: Tensor, index: Tensor) -> Tensor:
        """(phi, c k(. - l_i)): ``words`` (..., D + E) of glimpses at grid locations ``index`` (...,) int64 to what they
        add to the state, (..., S)."""
        if not self.relative:
            return words
        phi, coefficients = words.split([self.config.embedding, self.relative], dim=-1)
        # embedding: indexing, but with a backward pass that is much faster
        kernels = F.embedding(index, self._kernels_from().flatten(1)).unflatten(-1, (-1, self.relative))  # (..., L, E)
        maps = kernels * coefficients[..., None, :]
        return torch.cat([phi, maps.flatten(-2)], dim=-1)

    def _kernels_from(self) -> Tensor:
        """(L, L, E): k(l - l_i) for each l_i and then each l."""
        side, width = math.isqrt(self.config.num_classes), len(self.kernels)
        steps = torch.arange(side)
        offsets = steps - steps[:, None] + side - 1  # (from, to)
        rows = offsets[:, None, :, None] * width + offsets[None, :, None, :]
        return F.embedding(rows.view(side * side, side * side), self.kernels.flatten(0, 1))

    def scores(self, summed: Tensor, counts: Tensor | int, at: Tensor | None = None) -> Tensor:
        """The criterion expected at every location, or at some.

        Args:
            summed: (..., S) sums of :meth:`summands`.
            counts: t, the number of glimpses summed; an int or (...,) int64.
            at: (..., n) int64 grid locations; None for all L.

        Returns:
            (..., L) or (..., n) float32, in the criterion's unit; lower is better. For horizon ``last`` up to a number
            that is the same for all locations.
        """
        gain = self.gain[counts]
        gain = gain[..., None] if gain.ndim else gain
        phi, maps = summed.split([self.config.embedding, summed.shape[-1] - self.config.embedding], dim=-1)
        scores = self.base[counts] + self.head(phi)
        if at is not None:
            scores = scores.gather(-1, at)
        if self.relative:
            maps = maps.unflatten(-1, (-1, self.relative))  # (..., L, E)
            places = self.places[counts]
            if at is not None:
                maps = maps.gather(-2, at[..., None].expand(*at.shape, self.relative))
                places = places.expand(*at.shape[:-1], *places.shape[-2:])
                places = places.gather(-2, at[..., None].expand(*at.shape, LOCAL))
            hidden = self.local(maps) + self.context(torch.relu(phi))[..., None, :] + places
            scores = scores + self.local_head(hidden).squeeze(-1)
        return gain * scores
