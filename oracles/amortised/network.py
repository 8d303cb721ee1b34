"""The network of an amortised oracle: it predicts the expected criterion at every location from the glimpses seen."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glimpse_env.encoding.features import GlimpseFeatures
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig

HEAD_WIDTH = 256
"""Width of the head's hidden layers."""
LOCAL_WIDTH = 64
"""Width of the hidden layers that all locations share."""


class LocationScorer(GlimpsePosterior):
    """scores(l) = gain_t (base_t(l) + head(s)(l) + local(sum_i c(y_i) k(l - l_i), s, t, l)), for each grid location l,
    with s = sum_i phi(y_i, l_i).

    Its convolutions are those of one of the judge's networks and stay so. The rest of phi starts as that network's and
    is trained for the scores, since where to look depends on more than the class does.

    The last term exists with ``relative`` channels only, and makes scores equivariant to shifts: where the object may
    lie anywhere, what a glimpse says about a place depends on the offset between them. k is a large kernel per channel,
    c(y) the glimpse's coefficient in it, and ``local`` a network of all channels at a location, shared by locations.
    """

    def __init__(
        self,
        config: PosteriorConfig,
        num_glimpses: int,
        relative: int = 0,
        frozen: GlimpseFeatures | None = None,
    ):
        """
        Args:
            config: the judge's shape, with as many classes as there are locations.
            num_glimpses: T.
            relative: channels of the maps over relative offsets; 0 for none.
            frozen: see :class:`glimpse_env.judge.posterior.GlimpsePosterior`.
        """
        super().__init__(config, frozen)
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
            self.context = nn.Linear(config.embedding, LOCAL_WIDTH)
            self.places = nn.Parameter(torch.zeros(num_glimpses, config.num_classes, LOCAL_WIDTH))
            self.local = nn.Linear(relative, LOCAL_WIDTH)
            last = nn.Linear(LOCAL_WIDTH, 1)
            self.local_head = nn.Sequential(
                nn.ReLU(inplace=True), nn.Linear(LOCAL_WIDTH, LOCAL_WIDTH), nn.ReLU(inplace=True), last
            )
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @classmethod
    def like(
        cls, judged: GlimpsePosterior, num_locations: int, num_glimpses: int, relative: int = 0
    ) -> "LocationScorer":
        """Returns a scorer whose phi is that of a judge's network.

        Args:
            judged: the network.
            num_locations: L.
            num_glimpses: T.
            relative: see :class:`LocationScorer`.
        """
        config = replace(judged.config, num_classes=num_locations, num_parts=0, hidden=HEAD_WIDTH)
        scorer = cls(config, num_glimpses, relative, judged.frozen)
        skipped = ("head.", "part_head.")
        shared = {name: value for name, value in judged.state_dict().items() if not name.startswith(skipped)}
        scorer.load_state_dict({**scorer.state_dict(), **shared})
        return scorer

    @property
    def state_width(self) -> int:
        """S = D + L E, the width of a history's state; E is ``relative``."""
        return self.config.embedding + self.config.num_classes * self.relative

    def glimpse_features(self, features: Tensor, locations: Tensor) -> Tensor:
        """Returns (phi, c), (..., D + E), of glimpses with features (..., F) at normalised ``locations`` (..., 2)."""
        phi = self.embed(features, locations)
        return torch.cat([phi, self.coefficients(features.to(self.device))], dim=-1) if self.relative else phi

    def state_contribution(self, encoded: Tensor, index: Tensor, kernels: Tensor | None = None) -> Tensor:
        """Returns (phi, c k(. - l_i)), (..., S): what glimpses add to the state of a history.

        Args:
            encoded: (..., D + E), see :meth:`glimpse_features`.
            index: (...,) int64, the glimpses' grid locations.
            kernels: what :meth:`kernels_from` returns, where it is at hand; None computes it.
        """
        if not self.relative:
            return encoded
        phi, coefficients = encoded.split([self.config.embedding, self.relative], dim=-1)
        table = self.kernels_from() if kernels is None else kernels
        assert table is not None
        maps = F.embedding(index, table).unflatten(-1, (-1, self.relative)) * coefficients[..., None, :]
        return torch.cat([phi, maps.flatten(-2)], dim=-1)

    def kernels_from(self) -> Tensor | None:
        """Returns k(l - l_i) for each l_i and then each l, (L, L E); None without ``relative`` channels."""
        if not self.relative:
            return None
        every = torch.arange(self.config.num_classes, device=self.device)
        return self._kernels(every[:, None], every).flatten(1)

    def _kernels(self, index: Tensor, at: Tensor) -> Tensor:
        """Returns k(l - l_i), (..., E), for l_i in ``index`` and l in ``at``, int64, which broadcast to (...)."""
        side, width = math.isqrt(self.config.num_classes), len(self.kernels)
        down, right = at // side - index // side + side - 1, at % side - index % side + side - 1
        # embedding: indexing, but with a backward pass that is much faster
        return F.embedding(down * width + right, self.kernels.flatten(0, 1))

    def scores(self, summed: Tensor, counts: Tensor | int) -> Tensor:
        """Returns the criterion expected at every location.

        Args:
            summed: (..., S) sums of :meth:`state_contribution`.
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

    def scores_at(self, encoded: Tensor, index: Tensor, at: Tensor) -> Tensor:
        """Returns :meth:`scores` at some locations, without computing the others: for training.

        Args:
            encoded: (..., t, D + E) of the glimpses, see :meth:`glimpse_features`.
            index: (..., t) int64, their grid locations.
            at: (..., n) int64 grid locations.

        Returns:
            (..., n) float32.
        """
        count = index.shape[-1]
        phi, coefficients = encoded.split([self.config.embedding, encoded.shape[-1] - self.config.embedding], dim=-1)
        summed = phi.sum(-2)
        scores = (self.base[count] + self.head(summed)).gather(-1, at)
        if self.relative:
            kernels = self._kernels(index[..., None], at[..., None, :])  # (..., t, n, E)
            maps = (kernels * coefficients[..., None, :]).sum(-3)
            scores = scores + self._local(summed, maps, F.embedding(at, self.places[count]))
        return self._scaled(scores, count)

    def _local(self, phi: Tensor, maps: Tensor, places: Tensor) -> Tensor:
        """Returns the term ``local`` (..., n) at n locations.

        Args:
            phi: (..., D), sums.
            maps: (..., n, E), sum_i c k.
            places: (..., n, H), learnt for each location and step.
        """
        # in place, and the bias added where the array is small: these arrays take most of the time
        context = self.context(torch.relu(phi)) + self.local.bias
        hidden = F.linear(maps, self.local.weight).add_(places).add_(context[..., None, :])
        return self.local_head(hidden).squeeze(-1)

    def _scaled(self, scores: Tensor, counts: Tensor | int) -> Tensor:
        gain = self.gain[counts]
        return (gain[..., None] if gain.ndim else gain) * scores
