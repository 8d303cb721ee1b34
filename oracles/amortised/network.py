"""The network of an amortised oracle: it reads a criterion's expectation at every location off the glimpses seen."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig

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
            last = nn.Linear(LOCAL, 1)
            self.local_head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(LOCAL, LOCAL), nn.ReLU(inplace=True), last)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

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

    def summands(self, words: Tensor, index: Tensor, kernels: Tensor | None = None) -> Tensor:
        """(phi, c k(. - l_i)): ``words`` (..., D + E) of glimpses at grid locations ``index`` (...,) int64 to what they
        add to the state, (..., S). ``kernels`` is what :meth:`kernels_from` gives, for who has it already."""
        if not self.relative:
            return words
        phi, coefficients = words.split([self.config.embedding, self.relative], dim=-1)
        kernels = self._all_kernels() if kernels is None else kernels
        maps = F.embedding(index, kernels).unflatten(-1, (-1, self.relative)) * coefficients[..., None, :]
        return torch.cat([phi, maps.flatten(-2)], dim=-1)

    def kernels_from(self) -> Tensor | None:
        """(L, L E): k(l - l_i) for each l_i and then each l; None without ``relative`` channels."""
        return self._all_kernels() if self.relative else None

    def _all_kernels(self) -> Tensor:
        every = torch.arange(self.config.num_classes)
        return self._kernels(every[:, None], every).flatten(1)

    def _kernels(self, index: Tensor, at: Tensor) -> Tensor:
        """k(l - l_i), (..., E), for l_i of ``index`` and l of ``at``, int64 of shapes that broadcast to (...)."""
        side, width = math.isqrt(self.config.num_classes), len(self.kernels)
        down, right = at // side - index // side + side - 1, at % side - index % side + side - 1
        # embedding: indexing, but with a backward pass that is much faster
        return F.embedding(down * width + right, self.kernels.flatten(0, 1))

    def scores(self, summed: Tensor, counts: Tensor | int) -> Tensor:
        """The criterion expected at every location.

        Args:
            summed: (..., S) sums of :meth:`summands`.
            counts: t, the number of glimpses summed; an int or (...,) int64.

        Returns:
            (..., L) float32, in the criterion's unit; lower is better. For horizon ``last`` up to a number that is the
            same for all locations.
        """
        phi, maps = summed.split([self.config.embedding, summed.shape[-1] - self.config.embedding], dim=-1)
        scores = self.base[counts] + self.head(phi)
        if self.relative:
            scores = scores + self._local(phi, maps.unflatten(-1, (-1, self.relative)), self.places[counts])
        return self._scaled(scores, counts)

    def scores_at(self, words: Tensor, index: Tensor, at: Tensor) -> Tensor:
        """Of :meth:`scores` those at some locations, without the maps of the others: for training.

        Args:
            words: (..., t, D + E) of the glimpses, see :meth:`words`.
            index: (..., t) int64, their grid locations.
            at: (..., n) int64 grid locations.

        Returns:
            (..., n) float32.
        """
        count = index.shape[-1]
        phi, coefficients = words.split([self.config.embedding, words.shape[-1] - self.config.embedding], dim=-1)
        summed = phi.sum(-2)
        scores = (self.base[count] + self.head(summed)).gather(-1, at)
        if self.relative:
            kernels = self._kernels(index[..., None], at[..., None, :])  # (..., t, n, E)
            maps = (kernels * coefficients[..., None, :]).sum(-3)
            scores = scores + self._local(summed, maps, F.embedding(at, self.places[count]))
        return self._scaled(scores, count)

    def _local(self, phi: Tensor, maps: Tensor, places: Tensor) -> Tensor:
        """What ``local`` makes (..., n) of sums ``phi`` (..., D) and of the maps (..., n, E) and the share of the
        places themselves (..., n, H) at n locations."""
        # in place, and the bias where it is small: these arrays are what takes the time
        context = self.context(torch.relu(phi)) + self.local.bias
        hidden = F.linear(maps, self.local.weight).add_(places).add_(context[..., None, :])
        return self.local_head(hidden).squeeze(-1)

    def _scaled(self, scores: Tensor, counts: Tensor | int) -> Tensor:
        gain = self.gain[counts]
        return (gain[..., None] if gain.ndim else gain) * scores
