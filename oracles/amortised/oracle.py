"""Amortised oracles: networks that score every location at once, without a bank of images."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, OracleNotFoundError
from glimpse_env.judge.artifacts import ArtifactCard, ArtifactKind, TrainedNetworks
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Histories
from oracles.amortised.network import LocationScorer
from oracles.base import MappingPolicy
from oracles.boed.criteria import Horizon, map_title


@dataclass(frozen=True, kw_only=True)
class OracleCard(ArtifactCard):
    """What an amortised oracle was made from; kept as JSON beside the weights.

    ``config`` is as :class:`oracles.amortised.network.LocationScorer` takes it.
    """

    judge: str
    """Identity of the judge that gives the criterion."""
    horizon: Horizon
    """Glimpse after which the criterion counts."""
    criterion: str
    """What the scores expect, one of :data:`oracles.boed.criteria.CRITERIA`."""
    plan: dict[str, Any]
    """Fields of the :class:`oracles.training.plans.ScorerPlan` it was trained by."""
    relative: int = 0
    """Channels of the networks' maps over relative offsets."""

    def check(self) -> None:
        super().check()
        if self.config.num_classes != len(self.geometry.grid) or self.relative < 0:
            raise ArtifactError(
                f"it scores {self.config.num_classes} locations of {len(self.geometry.grid)}, with "
                f"relative={self.relative}"
            )


ORACLES = ArtifactKind(
    "amortised oracle", OracleCard, "train_oracle", OracleNotFoundError, "oracles", ("oracles", "weights")
)


@dataclass
class AmortisedState:
    """State of B running episodes, so that no glimpse is encoded twice."""

    counts: np.ndarray
    """(B,) int64, glimpses in the state."""
    summed: list[Tensor]
    """(B, S) per network, sums of the glimpses' contributions."""


class AmortisedOracle(TrainedNetworks[LocationScorer, OracleCard], MappingPolicy[AmortisedState]):
    """l_t = argmin_l scores(l) among the locations not yet seen.

    With ``network=k`` it uses that network alone, which never saw the images of fold k. Without, the scores are the
    mean over the networks, for images of other splits.
    """

    tensors = ("_kernels",)

    def __init__(self, networks: list[LocationScorer], card: OracleCard, *, network: int | None = None):
        super().__init__(networks, card)
        self.network = network
        self.map_title = map_title(card.criterion, card.horizon)

    @cached_property
    def _kernels(self) -> list[Tensor | None]:
        return [scorer.kernels_from() for scorer in self._used]

    def for_fold(self, network: int | None) -> "AmortisedOracle":
        """Returns the same oracle with another of its networks, or all for None."""
        return AmortisedOracle(self.networks, self.card, network=network)

    def fresh_state(self, batch: int) -> AmortisedState:
        sums = [torch.zeros(batch, scorer.state_width, device=self.device) for scorer in self._used]
        return AmortisedState(np.zeros(batch, dtype=np.int64), sums)

    def restart(self, state: AmortisedState, rows: np.ndarray) -> None:
        for summed in state.summed:
            summed[rows] = 0.0

    @torch.inference_mode()
    def expected_maps(self, state: AmortisedState) -> np.ndarray:
        counts = torch.from_numpy(state.counts)
        scores = [scorer.scores(summed, counts) for scorer, summed in zip(self._used, state.summed, strict=True)]
        return torch.stack(scores).mean(0).cpu().numpy()

    @property
    def _used(self) -> list[LocationScorer]:
        return self.networks if self.network is None else [self.networks[self.network]]

    @torch.inference_mode()
    def add_new(self, histories: Histories, state: AmortisedState) -> None:
        new = histories.seen & (np.arange(histories.corners.shape[1]) >= state.counts[:, None])  # (B, T)
        if new.any():
            glimpses = self.encode_once(histories.glimpses[new])
            places = torch.from_numpy(self.grid.normalise(histories.corners[new]))
            index = torch.from_numpy(self.grid.nearest(histories.corners[new])).to(self.device)
            owner = torch.from_numpy(np.nonzero(new)[0]).to(self.device)
            for scorer, kernels, summed in zip(self._used, self._kernels, state.summed, strict=True):
                encoded = scorer.glimpse_features(self.features_of(scorer, glimpses), places)
                summed.index_add_(0, owner, scorer.state_contribution(encoded, index, kernels))

    def save(self, path: str | Path) -> None:
        """Writes ``path`` (safetensors, half precision) and the card beside it as ``.json``."""
        ORACLES.save(path, self.networks, self.card, half=True)

    @classmethod
    def load(cls, path: str | Path, *, network: int | None = None) -> "AmortisedOracle":
        """Returns what :meth:`save` wrote, asking one ``network`` or all.

        Raises:
            OracleNotFoundError: if a file is missing.
            ArtifactError: if it is damaged or of another format.
        """
        networks, card = ORACLES.load(
            path, lambda card, frozen: LocationScorer(card.config, card.num_glimpses, card.relative, frozen)
        )
        return cls(networks, card, network=network)


def oracle_path(source: DataSource, judge: Judge, horizon: Horizon) -> Path:
    """Returns where the amortised oracle of a judge is kept in the cache."""
    return ORACLES.cached_path(f"{source.name}-{judge.identity}-{judge.geometry.windows}-{horizon}")


def oracle_command(source: DataSource, judge: Judge, horizon: Horizon) -> str:
    """Returns the command line that makes the amortised oracle of a judge."""
    return ORACLES.command(source, "--horizon", horizon)


def find_oracle(source: DataSource, judge: Judge, horizon: Horizon, *, network: int | None = None) -> AmortisedOracle:
    """Returns the amortised oracle that fits a judge, on its device: from the cache, else the one shipped with the
    package.

    Raises:
        OracleNotFoundError: if there is none; the message says which command makes one.
    """
    identity, name = judge.identity, f"{source.name}-{judge.geometry.windows}-{horizon}"

    def fits(card: OracleCard) -> bool:
        if card.judge != identity:
            return False
        theirs = (card.geometry, card.num_networks, card.horizon)
        ours = (judge.geometry, len(judge.networks), horizon)
        if theirs != ours:
            raise ArtifactError(f"an oracle of {theirs} is none of {ours}.")
        return True

    found = ORACLES.find(
        oracle_path(source, judge, horizon), name, fits, partial(AmortisedOracle.load, network=network)
    )
    if found is not None:
        return found.to(judge.device)
    raise OracleNotFoundError(
        f"no amortised oracle of horizon {horizon!r} fits the judge {identity} of {source.name!r}; "
        f"train one with `{oracle_command(source, judge, horizon)}`."
    )
