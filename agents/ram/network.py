"""The network of "Recurrent Models of Visual Attention" (RAM, Mnih et al. 2014), which looks and classifies."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agents.networks.extractors import AttentionBlock
from glimpse_env.checks import one_of
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.posterior import Plan, PosteriorConfig, encoder_plan

ENCODERS = ("conv", "spatial", "linear", "features")


class GlimpseNetwork(nn.Module):
    """token(y, l) = relu(A encoder(y) + B loc(l)) of a glimpse y at location l.

    The encoder ``"conv"`` has the judge's *valid* convolutions; ``"spatial"`` two convolutions and a dense layer on all
    their outputs, which tells shapes apart better; ``"linear"`` RAM's own dense layer on the pixels; ``"features"`` the
    same on what a frozen encoder makes of the glimpse. All have batch normalisation, without which RAM learns several
    times as slowly where to look. Its statistics must be those of the glimpses of all steps together: at one step all
    episodes may look at the same place, and the network in evaluation mode would differ from the one trained.
    """

    def __init__(self, config: PosteriorConfig, tokens: int, encoder: str = "conv", width: int | None = None):
        """
        Args:
            config: its glimpse size, stride, channels, ``features``, the width of the encoder's output, dropouts and
                ``coordinates`` are used.
            tokens: width of a token.
            encoder: ``"conv"``, ``"spatial"``, ``"linear"`` or ``"features"``.
            width: W, frozen features of a glimpse; None where glimpses are pixels.

        Raises:
            ConfigurationError: if there is no such encoder, or it does not read what is shown of glimpses.
        """
        super().__init__()
        one_of("encoder", encoder, ENCODERS)
        if (encoder == "features") != (width is not None):
            shown = "pixels" if width is None else "frozen features"
            raise ConfigurationError(
                f"encoder={encoder!r} cannot read {shown}; encoder='features' and observation='features' go together."
            )
        self.shape = (config.glimpse_size, config.glimpse_size, config.channels) if width is None else None
        layers: list[nn.Module] = []
        channels, side = config.channels, config.glimpse_size
        plan: Plan = ()
        if width is not None:
            channels = config.features
            linear = nn.Linear(width, channels)
            layers = [nn.Dropout(config.input_dropout), linear, nn.BatchNorm1d(channels), nn.ReLU()]
        elif encoder == "conv":
            plan = encoder_plan(side, config.stride)
        elif encoder == "spatial":
            plan = spatial_plan(side)
        else:
            channels = config.features
            linear = nn.Linear(side**2 * config.channels, channels)
            layers = [nn.Flatten(), linear, nn.BatchNorm1d(channels), nn.ReLU()]
        for kernel, stride, share in plan:
            width = max(8, round(config.features * share / 8) * 8)
            if kernel == side:  # the same as a convolution, in half the time
                linear = nn.Linear(channels * side**2, width, bias=False)
                layers += [nn.Flatten(), linear, nn.BatchNorm1d(width), nn.ReLU()]
            else:
                layers += [nn.Conv2d(channels, width, kernel, stride, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels, side = width, (side - kernel) // stride + 1
        # glimpses are (g, g, C) in memory; with weights alike, no layer has to reorder them
        self.encoder = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.glimpse_projection = nn.Linear(channels, tokens)
        self.location_embedding = nn.Sequential(nn.Linear(config.coordinates, 64), nn.ReLU(), nn.Linear(64, tokens))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, glimpses: Tensor, locations: Tensor) -> Tensor:
        """Returns tokens (B, tokens) of glimpses at normalised locations (B, coordinates): glimpses are
        (B, g * g * C * scales) in [0, 1], or (B, W) frozen features."""
        if self.shape is not None:
            glimpses = glimpses.unflatten(1, self.shape).permute(0, 3, 1, 2) * 2.0 - 1.0  # (B, C, g, g)
        features = self.encoder(glimpses).flatten(1)
        tokens = torch.relu(self.glimpse_projection(features) + self.location_embedding(locations))
        return self.dropout(tokens)


def spatial_plan(glimpse_size: int) -> Plan:
    """Returns a plan of a convolution that halves a glimpse, one of 2 x 2 pixels, and a layer on all remaining places.

    Unlike :func:`encoder_plan`, whose total stride is the grid's, it cannot be applied densely to whole images.
    """
    shapes, side = [], glimpse_size
    for kernel, stride in ((3 + (side + 1) % 2, 2), (2, 1)):  # no pixel is left out
        if side > kernel:
            shapes.append((kernel, stride))
            side = (side - kernel) // stride + 1
    shapes.append((side, 1))
    return tuple((kernel, stride, 0.5 ** (len(shapes) - 1 - i)) for i, (kernel, stride) in enumerate(shapes))


class Core(nn.Module, ABC):
    """Recurrent core: reads tokens one by one."""

    @abstractmethod
    def begin(self, batch: int) -> tuple[Tensor, Any]:
        """Returns h_0 (B, H) of ``batch`` episodes and the initial memory."""

    @abstractmethod
    def step(self, token: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Returns h_t (B, H) and the memory after reading one more token (B, tokens)."""

    def states(self, tokens: Tensor) -> Tensor:
        """Returns h_0 .. h_t (B, t + 1, H) of tokens (B, t, tokens)."""
        state, memory = self.begin(len(tokens))
        states = [state]
        for token in tokens.unbind(1):
            state, memory = self.step(token, memory)
            states.append(state)
        return torch.stack(states, dim=1)


class GRUCore(Core):
    """h_t = GRU(h_t-1, token_t), with a learned h_0."""

    def __init__(self, tokens: int, hidden: int):
        super().__init__()
        self.cell = nn.GRUCell(tokens, hidden)
        self.start = nn.Parameter(torch.zeros(hidden))

    def begin(self, batch: int) -> tuple[Tensor, Tensor]:
        first = self.start.expand(batch, -1)
        return first, first

    def step(self, token: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(token, memory)
        return state, state


class TransformerCore(Core):
    """Causal self-attention over the tokens so far, behind a learned first one; the only positions are the locations.

    The memory holds the tokens' keys and values in each layer, (B, t, 2 H), so that no token is read twice.
    """

    def __init__(self, tokens: int, hidden: int, heads: int = 4, layers: int = 2):
        super().__init__()
        self.start = nn.Parameter(0.1 * torch.randn(hidden))
        self.project = nn.Linear(tokens, hidden)
        self.blocks: Any = nn.ModuleList(AttentionBlock(hidden, heads) for _ in range(layers))

    def begin(self, batch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        empty = tuple(self.start.new_zeros(batch, 0, 2 * len(self.start)) for _ in self.blocks)
        return self._read(self.start.expand(batch, -1), empty)

    def step(self, token: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self._read(self.project(token), memory)

    def states(self, tokens: Tensor) -> Tensor:
        """Returns h_0 .. h_t (B, t + 1, H) of tokens (B, t, tokens), computed in one pass with a causal mask."""
        x = torch.cat([self.start.expand(len(tokens), 1, -1), self.project(tokens)], dim=1)  # (B, t + 1, H)
        earlier = torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            x = block(x, x, earlier)
        return x

    def _read(self, newest: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        kept, x = [], newest[:, None]  # (B, 1, H)
        for block, before in zip(self.blocks, memory, strict=True):
            kept.append(torch.cat([before, block.keys_and_values(x)], dim=1))  # (B, t + 1, 2 H)
            x = block.attend(x, kept[-1], torch.ones(kept[-1].shape[:2], dtype=torch.bool, device=x.device))
        return x[:, 0], tuple(kept)


CORES: dict[str, Any] = {"gru": GRUCore, "transformer": TransformerCore}
"""Cores by name."""


class RAMNetwork(nn.Module):
    """Glimpse network, core, and heads on the core's state h_t.

    Attributes:
        locator: computes logits of pi(l_t+1 | h_t).
        classifier: computes logits of p(theta | h_t); trained after the last glimpse, or after each.
        baseline: computes b(h_t), the expected return; its gradients do not reach h_t.
        foresight: computes the expected entropy of p(theta | h_t+1) in nats; its gradients do not reach h_t.
    """

    def __init__(
        self,
        posterior: Mapping[str, Any],
        num_locations: int,
        *,
        core: str = "gru",
        encoder: str = "conv",
        width: int | None = None,
        tokens: int = 192,
        hidden: int = 192,
    ):
        """
        Args:
            posterior: the fields of the :class:`PosteriorConfig` that shapes the glimpse encoder; plain values, so that
                SB3 stores them with the model.
            num_locations: L, number of the grid's locations.
            core: a key of :data:`CORES`.
            encoder, width: see :class:`GlimpseNetwork`.
            tokens: width of a glimpse's token.
            hidden: H, width of the core's state.

        Raises:
            ConfigurationError: if there is no such core or encoder.
        """
        super().__init__()
        one_of("core", core, CORES)
        config, self.tokens, self.hidden = PosteriorConfig(**posterior), tokens, hidden
        self.glimpse_network = GlimpseNetwork(config, tokens, encoder, width)
        self.core = CORES[core](tokens, hidden)
        self.locator = _head(hidden, num_locations)
        self.classifier = _head(hidden, config.num_classes, config.dropout)
        self.baseline = _head(hidden, 1)
        self.foresight = _head(hidden, 1)

    def read(self, observation: Mapping[str, Any]) -> Tensor:
        """Returns tokens (B, tokens) of the newest glimpses in observations of B episodes."""
        device = next(self.parameters()).device
        glimpses, locations = (torch.as_tensor(observation[key], device=device) for key in ("glimpse", "location"))
        return self.glimpse_network(glimpses, locations)

    def states(self, tokens: Tensor) -> Tensor:
        """Returns h_0 .. h_t (B, t + 1, H) of tokens (B, t, tokens)."""
        return self.core.states(tokens)

    def expected_return(self, state: Tensor) -> Tensor:
        """Returns b(h), (...), of states (..., H)."""
        return self.baseline(state.detach())[..., 0]

    def expected_entropy(self, state: Tensor) -> Tensor:
        """Returns the classifier's expected entropy one glimpse later, (...) nats, in states (..., H)."""
        return torch.relu(self.foresight(state.detach())[..., 0])


def _head(hidden: int, out: int, dropout: float = 0.0) -> nn.Sequential:
    before, behind = ([nn.Dropout(dropout)] if dropout else [] for _ in range(2))
    return nn.Sequential(*before, nn.Linear(hidden, hidden), nn.ReLU(), *behind, nn.Linear(hidden, out))
