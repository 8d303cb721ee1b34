"""What rivals that learn share: a network that scores all locations, trained on the frozen judge, and where it is kept.

The network is that of the amortised oracle, :class:`oracles.amortised.network.LocationScorer`, higher scores for better
places, and so are its images, which the judge's network was not trained on, and its schedule. A rival is an objective.
"""

import contextlib
import logging
from abc import abstractmethod
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import DataSource, LabelledImages
from glimpse_env.errors import ArtifactError, OracleNotFoundError
from glimpse_env.files import cache_folder, digest, only_process
from glimpse_env.judge.judge import Judge
from oracles.amortised.oracle import ORACLES, AmortisedOracle, AmortisedState, OracleCard
from oracles.presets import preset_of
from oracles.training.loop import only_maker, remove_checkpoints
from oracles.training.plans import ScorerPlan
from oracles.training.scorer import ScorerTrainer, train_to_end

logger = logging.getLogger(__name__)

MAX_IMAGES = 4800
"""Images that each network of a rival sees, at most, counted with repetition."""
MAX_HISTORIES = 2
"""Histories per image, at most."""


class LearnedRival(AmortisedOracle):
    """Looks where the scores are highest. With several networks the scores are their mean."""

    def expected_maps(self, state: AmortisedState) -> np.ndarray:
        return -super().expected_maps(state)


class RivalTrainer(ScorerTrainer):
    """Trains network ``fold`` of a rival on episodes of its own; subclasses give :meth:`objective`."""

    name: ClassVar[str]
    """Name of the policy."""

    def __init__(self, source: DataSource, judge: Judge, fold: int, plan: ScorerPlan, *, seed: int):
        """
        Args:
            source, judge, plan, seed: see :func:`oracles.training.scorer.train_oracle`.
            fold: whose images it will not see.
        """
        super().__init__(source, judge, fold, plan, criterion="log_loss", seed=seed)

    @property
    def title(self) -> str:
        return f"{self.name} of {self.source.name}, network {self.fold + 1}/{self.source.num_folds}"

    @property
    def identity(self) -> str:
        return digest(self.name, super().identity)

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return self.done / self.total

    @abstractmethod
    def objective(
        self, scores: Tensor, before: Tensor, judged: Tensor, labels: Tensor, count: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss () of one step, and where it looks, (b, H) int64.

        Args:
            scores: (b, H, L) of H histories on b images, -inf where one has looked; with gradients.
            before: (b, H, D), sums of the judge's embeddings.
            judged: (b, L, D), those at all locations.
            labels: (b, H) int64.
            count: t, glimpses in each history.
            rng: draws what is random.
        """

    def log_probabilities(self, summed: Tensor, count: int) -> Tensor:
        """Returns the judge's log p(theta) (..., classes) from sums (..., D) of embeddings."""
        return self.judge.class_log_probabilities(self._network, summed, count)

    def _step(self, data: LabelledImages, rows: np.ndarray, rng: np.random.Generator) -> float:
        features, player = self._player(data, rows)
        self._network, judged = player.network, player.judged.clone()  # no tensor of inference mode, for gradients
        device, (images, places, width) = judged.device, judged.shape
        every = torch.arange(places, device=device).expand(images, self.plan.histories, -1)
        encoded = self.network.glimpse_features(features, torch.from_numpy(self.judge.grid.normalised))
        index = torch.empty(images, self.plan.histories, 0, dtype=torch.int64, device=device)
        summed = judged.new_zeros(images, self.plan.histories, width)
        labels = player.labels[:, None].expand(-1, self.plan.histories)
        own = torch.arange(images, device=device)[:, None]
        losses = []
        for t in range(self.num_glimpses):
            scores = self.network.scores_at(encoded[own[..., None], index], index, every)
            seen = torch.zeros_like(every, dtype=torch.bool).scatter(-1, index, True)
            scores = scores.masked_fill(seen, -torch.inf)
            loss, chosen = self.objective(scores, summed, judged, labels, t, rng)
            losses.append(loss)
            index = torch.cat([index, chosen[..., None]], dim=-1)
            summed = summed + judged[own, chosen]
        total = torch.stack(losses).mean()
        self.descend(total, self.progress)
        return total.item()


def rival_path(trainer: type[RivalTrainer], source: DataSource, judge: Judge) -> Path:
    """Returns where the networks of a rival are kept in the cache."""
    name = trainer.name.replace("/", "-")
    return ORACLES.cached_path(f"{source.name}-{judge.identity}-{judge.geometry.windows}-{name}")


def find_rival(
    trainer: type[RivalTrainer], source: DataSource, judge: Judge, *, network: int | None = None
) -> LearnedRival:
    """Returns the networks of a rival that fit a judge, on its device.

    Raises:
        OracleNotFoundError: if there are none; :func:`ensure_rival` trains them.
    """

    def fits(card: OracleCard) -> bool:
        theirs, ours = (card.judge, card.geometry), (judge.identity, judge.geometry)
        if theirs != ours:
            raise ArtifactError(f"networks of {theirs} are none of {ours}.")
        return True

    path = rival_path(trainer, source, judge)
    found = ORACLES.find(path, path.stem, fits, partial(LearnedRival.load, network=network))
    if found is None:
        raise OracleNotFoundError(f"no networks of {trainer.name!r} fit the judge {judge.identity} of {source.name!r}.")
    return cast(LearnedRival, found.to(judge.device))


def ensure_rival(
    trainer: type[RivalTrainer], source: DataSource, judge: Judge, *, network: int | None = None
) -> LearnedRival:
    """Returns the networks of a rival that fit a judge; where there are none they are trained, which takes minutes, and
    kept in the cache. The plan is that of the data set's greedy amortised oracle, with fewer images."""
    with contextlib.suppress(OracleNotFoundError):
        rival = find_rival(trainer, source, judge, network=network)
        remove_checkpoints(_checkpoints(trainer, judge, rival.card.seed, rival.card.plan), rival.networks)
        return rival
    out = rival_path(trainer, source, judge)
    with only_process([out]):
        try:  # another process may have made it meanwhile
            return find_rival(trainer, source, judge, network=network)
        except OracleNotFoundError as missing:
            logger.info("%s Training them.", missing)
        plan = preset_of(source).greedy
        images, histories = min(plan.images, MAX_IMAGES), min(plan.histories, MAX_HISTORIES)
        train_rival(trainer, source, judge, replace(plan, images=images, histories=histories), seed=0, out=out)
        return find_rival(trainer, source, judge, network=network)


def train_rival(
    trainer: type[RivalTrainer],
    source: DataSource,
    judge: Judge,
    plan: ScorerPlan,
    *,
    seed: int,
    out: Path | None = None,
) -> LearnedRival:
    """Trains the networks of a rival; arguments and errors as of :func:`oracles.training.scorer.train_oracle`."""
    work = _checkpoints(trainer, judge, seed, asdict(plan))
    with only_maker(work, out) as made:
        if made is not None:
            return cast(LearnedRival, LearnedRival.load(made).to(judge.device))
        trainers = [trainer(source, judge, fold, plan, seed=seed) for fold in range(source.num_folds)]
        rival = train_to_end(trainers, LearnedRival, work, out, horizon="next", command=trainer.name)
    return cast(LearnedRival, rival)


def _checkpoints(trainer: type[RivalTrainer], judge: Judge, seed: int, plan: dict[str, Any]) -> Path:
    """Returns the folder of a training's checkpoints."""
    return cache_folder() / "oracle-training" / digest(trainer.name, judge.identity, seed, plan)


def unseen_choice(scores: Tensor, exploration: float, rng: np.random.Generator) -> Tensor:
    """Returns the places (b, H) of the highest scores (b, H, L), a share of them random instead: never one of -inf."""
    keys = torch.from_numpy(rng.random(tuple(scores.shape), dtype=np.float32)).to(scores.device)
    random = keys.masked_fill(torch.isinf(scores), -1.0).argmax(-1)
    explores = torch.from_numpy(rng.random(tuple(scores.shape[:2])) < exploration).to(scores.device)
    return torch.where(explores, random, scores.argmax(-1))
