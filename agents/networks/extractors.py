"""Architectures: a GRU, a set transformer, a convolution on the canvas, or an MLP over a history's tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from agents.networks.encoders import HistoryExtractor
from agents.networks.torch_grid import TorchGrid
from glimpse_env.sensing.geometry import grid_of


class RecurrentExtractor(HistoryExtractor):
    """h_t = GRU(h_t-1, token(y_t, l_t)), with a learned h_0 for the empty history: RAM's core."""

    def __init__(self, observation_space: spaces.Dict, *, tokens: int = 128, hidden: int = 128, **kwargs: Any):
        """Takes the arguments of :class:`HistoryExtractor`; ``hidden`` is H, the width of state and features."""
        super().__init__(observation_space, features_dim=hidden, tokens=tokens, **kwargs)
        self.core = nn.GRU(tokens, hidden, batch_first=True)
        self.start = nn.Parameter(torch.zeros(hidden))  # h_0

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        states = self.start.repeat(len(counts), 1)  # (B, H)
        begun = counts > 0
        if begun.any():
            tokens = self.tokens(features[begun], locations[begun])  # (b, t, tokens)
            packed = pack_padded_sequence(tokens, counts[begun].cpu(), batch_first=True, enforce_sorted=False)
            _, last = self.core(packed, states[begun][None])  # (1, b, H)
            states[begun] = last[0]
        return states

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        first = self.start.repeat(1, len(features), 1)  # (1, B, H)
        if features.shape[1] == 0:
            return first.transpose(0, 1)
        states, _ = self.core(self.tokens(features, locations), first)  # (B, t, H)
        return torch.cat([first.transpose(0, 1), states], dim=1)


class AttentionExtractor(HistoryExtractor):
    """A set transformer (Lee et al. 2019): self-attention among the tokens, then a learned seed that attends to them
    gives the features. Without positions: the order of the glimpses does not matter, nor does it to the judge."""

    def __init__(self, observation_space: spaces.Dict, *, tokens: int = 64, heads: int = 4, **kwargs: Any):
        """Takes the arguments of :class:`HistoryExtractor`; ``tokens`` is H, the width of tokens and features, and a
        multiple of ``heads``, the number of attention heads."""
        super().__init__(observation_space, features_dim=tokens, tokens=tokens, **kwargs)
        self.seed = nn.Parameter(0.1 * torch.randn(tokens))
        self.among = AttentionBlock(tokens, heads)
        self.pool = AttentionBlock(tokens, heads)

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        longest = int(counts.max()) if len(counts) else 0
        tokens = self.tokens(features[:, :longest], locations[:, :longest])  # (B, t, H)
        seen = torch.arange(longest, device=counts.device) < counts[:, None]
        tokens = self.among(tokens, tokens, seen)
        return self.pool(self.seed.expand(len(counts), 1, -1), tokens, seen)[:, 0]


class AttentionBlock(nn.Module):
    """MAB(X, Y) = Z + rFF(norm(Z)), Z = X + Attention(norm(X), norm(Y)); an empty set Y adds nothing to X.

    Written out, as torch's FLOP counter leaves out the operations of ``F.scaled_dot_product_attention`` on CPUs.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_set, self.norm_hidden = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value, self.out = (nn.Linear(width, factor * width) for factor in (1, 2, 1))
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        """Returns (B, n, H) for x (B, n, H) and the members of the set y (B, m, H) that are ``seen``, bool: (B, m), or
        (B or 1, n, m) where each of x sees others."""
        return self.attend(x, self.keys_and_values(y), seen)

    def keys_and_values(self, y: Tensor) -> Tensor:
        """Returns keys and values (B, m, 2 H) of the set y (B, m, H) for :meth:`attend`, each member's on its own."""
        return self.key_value(self.norm_set(y))

    def attend(self, x: Tensor, keys_and_values: Tensor, seen: Tensor) -> Tensor:
        """Returns what :meth:`forward` does, given the set's :meth:`keys_and_values`."""
        seen = seen[:, None] if seen.ndim == 2 else seen  # (B, n, m)
        if keys_and_values.shape[1]:
            query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1))  # (B, n, heads, H / heads)
            key, value = keys_and_values.unflatten(-1, (2 * self.heads, -1)).chunk(2, dim=-2)
            scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / query.shape[-1] ** 0.5
            weights = scores.masked_fill(~seen[:, None], -1e9).softmax(-1)
            attended = self.out(torch.einsum("bhnm,bmhd->bnhd", weights, value).flatten(2))
            x = x + attended * seen.any(-1, keepdim=True)
        return x + self.feed(self.norm_hidden(x))


class MLPExtractor(HistoryExtractor):
    """relu(W sum_i token(y_i, l_i) + b_t): a sum and a layer (Deep Sets, Zaheer et al. 2017)."""

    def __init__(self, observation_space: spaces.Dict, *, tokens: int = 256, hidden: int = 128, **kwargs: Any):
        """Takes the arguments of :class:`HistoryExtractor`; ``hidden`` is H, the width of the features."""
        super().__init__(observation_space, features_dim=hidden, tokens=tokens, **kwargs)
        self.core = nn.Linear(tokens, hidden)
        self.by_step = nn.Parameter(torch.zeros(self.num_glimpses + 1, hidden))

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        seen = torch.arange(features.shape[1], device=counts.device) < counts[:, None]  # (B, t)
        summed = (self.tokens(features, locations) * seen[..., None]).sum(1)
        return torch.relu(self.core(summed) + self.by_step[counts])

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        summed = F.pad(self.tokens(features, locations).cumsum(1), (0, 0, 1, 0))  # (B, t + 1, tokens)
        return torch.relu(self.core(summed) + self.by_step[: summed.shape[1]])


class CanvasExtractor(HistoryExtractor):
    """A convolution on the canvas of the grid's locations, which holds each glimpse's channels where the glimpse was
    taken, and zeros elsewhere.

    Its kernels span the canvas twice over, so that each location's score depends on every glimpse and its offset; as
    the canvas is empty but for t places, the map is computed from these alone:

        score(l) = b(l) + sum_i c(y_i, l_i, s) . k(l - l_i),  s = relu(W sum_i token(y_i, l_i) + b_t)

    A small network computes the channels c of a glimpse from its token and the summary s of all glimpses. The summary
    makes up the other features. With zooms, whose locations have no offsets on one canvas, k is a row of weights for
    each location l alone, and the token says where the glimpse was.
    """

    needs_grid = True

    def __init__(
        self,
        observation_space: spaces.Dict,
        *,
        grid: Mapping[str, Any],
        tokens: int = 256,
        hidden: int = 128,
        channels: int = 64,
        **kwargs: Any,
    ):
        """
        Args:
            observation_space, tokens, **kwargs: see :class:`HistoryExtractor`.
            grid: the fields of the environment's :class:`LocationGrid`.
            hidden: width of the summary; the features are the summary and a score for each location.
            channels: number of channels of the canvas.
        """
        located = grid_of(grid)
        self.side, count = located.side, len(located)
        self.by_offset = len(located.levels) == 1
        super().__init__(observation_space, features_dim=hidden + count, tokens=tokens, **kwargs)
        self.maps = count
        self.torch_grid = TorchGrid(located)
        self.summary = nn.Linear(tokens, hidden)
        self.by_step = nn.Parameter(torch.zeros(self.num_glimpses + 1, hidden))
        self.speak, self.context = nn.Linear(tokens, 2 * channels), nn.Linear(hidden, 2 * channels)
        self.channels = nn.Linear(2 * channels, channels)
        self.kernels = nn.Linear(channels, (2 * self.side - 1) ** 2 if self.by_offset else count, bias=False)
        self.places = nn.Parameter(torch.zeros(count))

    def read(self, features: Tensor, locations: Tensor, counts: Tensor) -> Tensor:
        seen = torch.arange(features.shape[1], device=counts.device) < counts[:, None]  # (B, t)
        tokens = self.tokens(features, locations)
        summary = torch.relu(self.summary((tokens * seen[..., None]).sum(1)) + self.by_step[counts])
        return self._with_scores(summary[:, None], tokens, locations, seen[:, None])[:, 0]

    def states(self, features: Tensor, locations: Tensor) -> Tensor:
        steps = features.shape[1]
        tokens = self.tokens(features, locations)
        summed = F.pad(tokens.cumsum(1), (0, 0, 1, 0))  # (B, t + 1, tokens)
        summary = torch.relu(self.summary(summed) + self.by_step[: steps + 1])
        seen = torch.ones(steps + 1, steps, dtype=torch.bool, device=features.device).tril(-1)
        return self._with_scores(summary, tokens, locations, seen.expand(len(features), -1, -1))

    def _with_scores(self, summary: Tensor, tokens: Tensor, locations: Tensor, seen: Tensor) -> Tensor:
        """Returns summaries of n sets of glimpses and their scores of all locations, (B, n, H + L).

        Args:
            summary: (B, n, H) of each set.
            tokens: (B, t, tokens) of all glimpses.
            locations: (B, t, coordinates) normalised.
            seen: (B, n, t) bool: which glimpses are in which set.
        """
        if not self.scores_locations:
            return F.pad(summary, (0, self.maps))
        which, of_set, glimpse = seen.nonzero(as_tuple=True)  # (m,) each: a glimpse in a set
        hidden = torch.relu(self.speak(tokens)[which, glimpse] + self.context(summary)[which, of_set])
        scores = self.kernels(torch.relu(self.channels(hidden)))  # (m, (2 side - 1)^2): for each offset; or (m, L)
        if self.by_offset:
            index = self.torch_grid.nearest(locations)[which, glimpse]
            every = torch.arange(self.maps, device=tokens.device)
            down = every // self.side - index[:, None] // self.side + self.side - 1  # (m, L)
            right = every % self.side - index[:, None] % self.side + self.side - 1
            scores = scores.gather(1, down * (2 * self.side - 1) + right)  # (m, L)
        flat = summary.new_zeros(summary.shape[0] * summary.shape[1], self.maps)
        flat = flat.index_add(0, which * summary.shape[1] + of_set, scores) + self.places
        return torch.cat([summary, flat.unflatten(0, summary.shape[:2])], dim=-1)
