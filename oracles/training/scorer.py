"""Training of an amortised oracle's networks: regression on the judge's criterion for the images themselves.

A history h of glimpses at an image gives, for each location l, one sample of what a look at l leads to. With c the
criterion under the judge, of the image's label where it counts:

    horizon "next":  c(h + l)
    horizon "last":  c(h + l + g + ... + g)              g: what the greedy network chooses, up to T glimpses

The optimum of a mean squared error is the conditional expectation given h, so the scores become

    next:  EPE(l) (for the entropy)                      greedy Bayesian experimental design, without a bank
    last:  Q(h, l) of the greedy policy                  one step of policy iteration: argmin Q is never worse than it

For ``last``, scores and samples are compared after subtracting their means over the locations tried. That keeps the
order of the locations and removes most of the noise, which is how hard the image is. The network starts as the greedy
one.

Training needs no image bank and no image completion, only images that the judge's network was not trained on; their
labels are used in training, never by the oracle. Histories are those that the present scores visit, with some
exploration.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glimpse_env.checks import one_of
from glimpse_env.datasets.base import DataSource, LabelledImages
from glimpse_env.errors import OracleNotFoundError
from glimpse_env.files import cache_folder, digest, only_process
from glimpse_env.judge.judge import Judge, grid_features
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.threads import at_most_threads
from oracles.amortised.network import LocationScorer
from oracles.amortised.oracle import AmortisedOracle, OracleCard, find_oracle, oracle_command, oracle_path
from oracles.base import random_keys, random_locations
from oracles.boed.criteria import CRITERIA, Horizon
from oracles.presets import preset_of
from oracles.training.entries import FeatureEntries
from oracles.training.loop import TrainingLoop, only_maker, remove_checkpoints
from oracles.training.plans import ScorerPlan

logger = logging.getLogger(__name__)


STATE_NUMBERS_AT_ONCE = 2**18
"""Numbers in the states of histories played at a time, at most, so that they stay in the processor's cache."""
START_GAIN = 0.3
"""Gain on the greedy scores with which a network that looks ahead starts: later glimpses make up for a bad one."""


def ensure_oracle(source: DataSource, judge: Judge, horizon: Horizon, *, network: int | None = None) -> AmortisedOracle:
    """Returns the amortised oracle that fits a judge; where there is none it is trained, which takes tens of minutes,
    and kept in the cache."""
    with contextlib.suppress(OracleNotFoundError):
        oracle = find_oracle(source, judge, horizon, network=network)
        card = oracle.card
        remove_checkpoints(_checkpoints(judge, horizon, card.criterion, card.seed, card.plan), oracle.networks)
        return oracle
    out = oracle_path(source, judge, horizon)
    with only_process([out]):
        try:  # another process may have made it meanwhile
            return find_oracle(source, judge, horizon, network=network)
        except OracleNotFoundError as missing:
            logger.info("%s Training one.", missing)
        preset, command = preset_of(source), oracle_command(source, judge, horizon)
        plan, how = preset.scorer(horizon), {"criterion": preset.criterion, "command": command}
        train_oracle(source, judge, plan, horizon=horizon, seed=0, out=out, **how)
        return find_oracle(source, judge, horizon, network=network)


def train_oracle(
    source: DataSource,
    judge: Judge,
    plan: ScorerPlan,
    *,
    criterion: str,
    horizon: Horizon,
    seed: int,
    command: str = "",
    out: Path | None = None,
) -> AmortisedOracle:
    """Trains the networks of an amortised oracle; a run that was stopped goes on from its last checkpoint.

    Where another process does the same already, it is waited for, and its oracle returned. PyTorch has one thread per
    network: the arrays are too small to share. The judge's device computes.

    Args:
        source: the data set.
        judge: of that data set.
        plan: how to train.
        criterion: what the scores expect.
        horizon: glimpse after which the criterion counts. For ``last`` the greedy oracle is trained first if it is
            missing.
        seed: of all that is random.
        command: command line that makes this oracle again; kept in its card.
        out: file that it is saved to; None for none.

    Raises:
        ConfigurationError: if there is no such criterion or horizon.
        StorageError: if the cache, or ``out``, cannot be written.
    """
    one_of("horizon", horizon, get_args(Horizon))
    greedy = ensure_oracle(source, judge, "next").networks if horizon == "last" else None
    work = _checkpoints(judge, horizon, criterion, seed, asdict(plan))
    guides = [None] * source.num_folds if greedy is None else greedy
    with only_maker(work, out) as made:
        if made is not None:
            return AmortisedOracle.load(made).to(judge.device)
        trainers = [
            ScorerTrainer(source, judge, fold, plan, criterion=criterion, guide=guide, seed=seed)
            for fold, guide in enumerate(guides)
        ]
        return train_to_end(trainers, AmortisedOracle, work, out, horizon=horizon, command=command)


def _checkpoints(judge: Judge, horizon: Horizon, criterion: str, seed: int, plan: dict[str, Any]) -> Path:
    """Returns the folder of a training's checkpoints."""
    return cache_folder() / "oracle-training" / digest(judge.identity, horizon, criterion, seed, plan)


def train_to_end(
    trainers: Sequence["ScorerTrainer"],
    kind: type[AmortisedOracle],
    work: Path,
    out: Path | None,
    *,
    horizon: Horizon,
    command: str,
) -> AmortisedOracle:
    """Trains the networks of one oracle, saves it and removes its checkpoints.

    Args:
        trainers: of all networks, alike but for their folds.
        kind: of oracle.
        work: folder of the checkpoints.
        out: file that it is saved to; None for none.
        horizon, command: of its card.
    """
    _run_side_by_side(trainers, work)
    networks, first = [one.network for one in trainers], trainers[0]
    card = OracleCard.of(
        first.source,
        networks,
        judge=first.judge.identity,
        horizon=horizon,
        criterion=first.criterion,
        seed=first.seed,
        plan=asdict(first.plan),
        command=command,
        relative=networks[0].relative,
    )
    oracle = kind(networks, card)
    if out is not None:
        oracle.save(out)
    shutil.rmtree(work, ignore_errors=True)  # not before it is saved
    return oracle


def _run_side_by_side(trainers: Sequence["ScorerTrainer"], work: Path) -> None:
    """Runs trainers to their ends, each in a thread of its own with one thread of PyTorch."""
    stop = Event()
    with at_most_threads(1), ThreadPoolExecutor(len(trainers)) as pool:
        running = [pool.submit(trainer.run, work / f"{trainer.fold}.pt", stop=stop) for trainer in trainers]
        try:
            for one in as_completed(running):
                one.result()
        finally:
            stop.set()  # the others, where one failed or somebody interrupts


class ScorerTrainer(TrainingLoop[LocationScorer, ScorerPlan]):
    """Trains network ``fold`` of an amortised oracle; a stage is ``plan.chunk`` images."""

    unit = "images"

    def __init__(
        self,
        source: DataSource,
        judge: Judge,
        fold: int,
        plan: ScorerPlan,
        *,
        criterion: str,
        guide: LocationScorer | None = None,
        seed: int,
    ):
        """
        Args:
            source, judge, plan, criterion, seed: as for :func:`train_oracle`.
            fold: whose images it will not see.
            guide: the greedy network, for horizon ``last``; None for ``next``.
        """
        self.source, self.judge, self.guide = source, judge, guide
        frozen = judge.networks[0].frozen
        self.entries = None if frozen is None else FeatureEntries(source, frozen, "oracle")
        self.criterion = criterion
        self.num_glimpses = source.geometry.num_glimpses
        torch.manual_seed(seed * 1000 + fold)
        # convolutions that see these images as they will see others: of a network that was not trained on them
        self.trunk = (fold + 1) % len(judge.networks)
        relative = plan.relative if guide is None else guide.relative
        if len(judge.grid.levels) > 1:
            relative = 0  # offsets between windows of different zooms are on no common grid
        network = LocationScorer.like(judge.networks[self.trunk], len(judge.grid), self.num_glimpses, relative)
        network.to(judge.device)
        if guide is not None:
            network.load_state_dict(guide.state_dict())
            network.gain.data[:-1] = START_GAIN
        network.eval().requires_grad_(True).encoder.requires_grad_(False)
        network.gain.requires_grad_(guide is not None)
        # every history has a say in base and gain, so they may learn faster
        fast = [p for p in (network.base, network.gain) if p.requires_grad]
        super().__init__(network, plan, total=plan.images, fold=fold, seed=seed, fast=fast)

    @property
    def title(self) -> str:
        return f"oracle of {self.source.name}, network {self.fold + 1}/{self.source.num_folds}"

    @property
    def identity(self) -> str:
        guide = [] if self.guide is None else [value.cpu().numpy() for value in self.guide.state_dict().values()]
        return digest(self.judge.identity, self.fold, self.seed, self.criterion, asdict(self.plan), *guide)

    def stage(self, rng: np.random.Generator) -> Iterator[tuple[int, dict[str, str]]]:
        draw = self.source.unseen_images if self.entries is None else self.entries.draw
        data = draw(self.fold, rng)
        for rows in self._batches(data.folds, rng):
            yield len(rows), {"loss": f"{self._step(data, rows, rng):.3f}"}

    def _batches(self, folds: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Returns the rows of the minibatches of one chunk, each of one fold, which one network of the judge judges."""
        size = min(self.plan.batch_size, *np.unique(folds, return_counts=True)[1])
        batches = []
        for fold in np.unique(folds):
            members = rng.permutation(np.flatnonzero(folds == fold))
            batches += np.split(members[: len(members) // size * size], len(members) // size)
        return [batches[i] for i in rng.permutation(len(batches))][: max(1, self.plan.chunk // size)]

    def _step(self, data: LabelledImages, rows: np.ndarray, rng: np.random.Generator) -> float:
        """Trains on one minibatch and returns its loss."""
        features, player = self._player(data, rows)
        if self.done == 0 and self.guide is None:
            self._begin_at_means(player, rng)
        looked_at, candidates, targets = self._play_histories(player, rng)
        index = looked_at[..., :-1]  # the last glimpse has no successor
        seen = features.gather(1, index.flatten(1)[..., None].expand(-1, -1, features.shape[-1]))
        places = torch.from_numpy(self.judge.grid.normalised).to(index.device)[index]
        encoded = self.network.glimpse_features(seen.unflatten(1, index.shape[1:]), places)  # (b, H, T - 1, D + E)
        losses = [
            self._error(self.network.scores_at(encoded[:, :, :t], index[:, :, :t], candidates[t]), targets[t])
            for t in range(self.num_glimpses)
        ]
        loss = torch.stack(losses).mean()
        self.descend(loss, self.done / self.plan.images)
        return loss.item()

    @torch.no_grad()
    def _player(self, data: LabelledImages, rows: np.ndarray) -> tuple[Tensor, "_Player"]:
        """Returns the encoder's features (b, L, F) of all glimpses of some images of one fold, and a player on them."""
        images, labels = data.images[rows], torch.from_numpy(data.labels[rows]).to(self.judge.device)
        network = max(int(data.folds[rows[0]]), 0)
        places = torch.from_numpy(self.judge.grid.normalised)
        if self.entries is None:
            features = grid_features(self.network, images, self.judge.grid, self.judge.card.scales)
            judged = self.judge.embed_grid(network, images)
        else:
            features = self.entries(images).to(self.judge.device)  # which both networks read
            judged = self.judge.networks[network].embed(features, places)
        scorers = [self.network] if self.guide is None else [self.network, self.guide]  # of the same convolutions
        encoded = [scorer.glimpse_features(features, places) for scorer in scorers]
        return features, _Player(scorers, self.judge, network, encoded, judged, labels)

    def _error(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean squared error of scores (b, H, n), see the module's docstring."""
        if self.guide is None:
            return F.mse_loss(scores, targets)
        scores, targets = (x - x.mean(-1, keepdim=True) for x in (scores, targets))
        # differences between locations are small at the first glimpses, and shall count as much
        return F.mse_loss(scores, targets) / targets.square().mean().clamp_min(1e-8)

    @torch.no_grad()
    def _begin_at_means(self, player: "_Player", rng: np.random.Generator) -> None:
        """Sets ``base`` to the mean criterion after random histories of some images."""
        state = player.begin(self.plan.histories)
        everywhere = torch.arange(len(self.judge.grid), device=self.judge.device).expand(*state.seen.shape)
        for t in range(self.num_glimpses):
            self.network.base[t] = player.outcome(state, everywhere, self.criterion).mean((0, 1))
            locations = random_locations(rng, tuple(state.seen.shape[:2]), self.judge.grid)
            state = player.look(state, torch.from_numpy(locations).to(self.judge.device))

    def _play_histories(self, player: "_Player", rng: np.random.Generator) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Plays histories and computes the targets of some locations at each of their steps.

        Returns:
            Locations looked at (b, H, T); for each t, locations (b, H, n) and their targets (b, H, n).
        """
        rollouts = 1 if self.guide is None else self.plan.ahead
        images = max(1, STATE_NUMBERS_AT_ONCE // (self.plan.histories * rollouts * self.network.state_width))
        looked_at, candidates, targets = zip(*(self._play_few(few, rng) for few in player.split(images)), strict=True)
        return (
            torch.cat(looked_at),
            [torch.cat(step) for step in zip(*candidates, strict=True)],
            [torch.cat(step) for step in zip(*targets, strict=True)],
        )

    @torch.no_grad()
    def _play_few(self, player: "_Player", rng: np.random.Generator) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Does the work of :meth:`_play_histories` for a few images."""
        state = player.begin(self.plan.histories)
        looked_at, candidates, targets = [], [], []
        for t in range(self.num_glimpses):
            scores = player.scores(state)
            choice = scores.argmin(-1)
            rollout = self.guide is not None and t < self.num_glimpses - 1
            some = _some_locations(scores, self.plan.ahead if rollout else self.plan.locations, rng, self.judge.grid)
            if self.guide is not None:
                greedy = player.scores(state, guide=True).argmin(-1)
                some[..., -1] = greedy
                choice[:, ::2] = greedy[:, ::2]  # half the histories are the greedy policy's own
            random = torch.from_numpy(rng.random(scores.shape[:2]) < self.plan.exploration).to(scores.device)
            anywhere = torch.from_numpy(random_locations(rng, tuple(scores.shape[:2]), self.judge.grid))
            anywhere = anywhere.to(scores.device)
            candidates.append(some)
            targets.append(player.outcome(state, some, self.criterion, to_the_end=rollout))
            looked_at.append(torch.where(random, anywhere, choice))
            state = player.look(state, looked_at[-1])
        return torch.stack(looked_at, dim=-1), candidates, targets


@dataclass(frozen=True)
class _Histories:
    """n histories of equal length of each of b images."""

    count: int
    """t, glimpses in each."""
    sums: tuple[Tensor, ...]
    """(b, n, S) states for each scorer, then (b, n, D) sums of the judge's embeddings."""
    seen: Tensor
    """(b, n, L) bool, locations looked at."""


class _Player:
    """Plays histories on a batch of images, whose glimpses are all encoded beforehand."""

    def __init__(
        self,
        scorers: list[LocationScorer],
        judge: Judge,
        network: int,
        encoded: list[Tensor],
        judged: Tensor,
        labels: Tensor,
    ):
        """
        Args:
            scorers: the one that is trained, then the guide of rollouts where there is one.
            judge, network: network k of the judge gives the criterion.
            encoded: (b, L, D + E) per scorer, see :meth:`LocationScorer.glimpse_features`.
            judged: (b, L, D), the judge's embeddings.
            labels: (b,) int64.
        """
        self.scorers, self.judge, self.network = scorers, judge, network
        self.encoded, self.judged, self.labels = encoded, judged, labels
        self.kernels = [scorer.kernels_from() for scorer in scorers]
        self.images = torch.arange(len(labels), device=labels.device)[:, None]

    def split(self, images: int) -> Iterator["_Player"]:
        """Yields players of at most ``images`` images each."""
        for start in range(0, len(self.labels), images):
            rows = slice(start, start + images)
            part = copy(self)
            part.encoded, part.judged = [encoded[rows] for encoded in self.encoded], self.judged[rows]
            part.labels, part.images = self.labels[rows], self.images[: len(self.labels[rows])]
            yield part

    def guided(self) -> "_Player":
        """Returns a player for the last of the scorers alone."""
        part = copy(self)
        part.scorers, part.encoded, part.kernels = self.scorers[-1:], self.encoded[-1:], self.kernels[-1:]
        return part

    def begin(self, histories: int) -> _Histories:
        count, places, width = self.judged.shape
        widths = [*(scorer.state_width for scorer in self.scorers), width]
        sums = tuple(self.judged.new_zeros(count, histories, width) for width in widths)
        return _Histories(0, sums, self.labels.new_zeros(count, histories, places, dtype=torch.bool))

    def scores(self, state: _Histories, *, guide: bool = False) -> Tensor:
        """Returns the scores (b, n, L) of the trained scorer or the guide, +inf where a history has looked."""
        k = len(self.scorers) - 1 if guide else 0
        return self.scorers[k].scores(state.sums[k], state.count).masked_fill(state.seen, torch.inf)

    def look(self, state: _Histories, locations: Tensor) -> _Histories:
        """Returns the histories with one glimpse more, at ``locations`` (b, n)."""
        added = [
            scorer.state_contribution(encoded[self.images, locations], locations, kernels)
            for scorer, encoded, kernels in zip(self.scorers, self.encoded, self.kernels, strict=True)
        ]
        added.append(self.judged[self.images, locations])
        sums = tuple(summed + more for summed, more in zip(state.sums, added, strict=True))
        return _Histories(state.count + 1, sums, state.seen.scatter(-1, locations[..., None], True))

    def outcome(self, state: _Histories, locations: Tensor, criterion: str, *, to_the_end: bool = False) -> Tensor:
        """Returns the criterion (b, n, m) after a look at each of ``locations`` (b, n, m), or ``to_the_end`` after the
        last glimpse, where the guide chooses the others."""
        b, n, m = locations.shape
        if not to_the_end:
            judged = state.sums[-1][:, :, None] + self.judged[self.images[..., None], locations]
            return self._criterion(judged, state.count + 1, criterion)
        guided = self.guided()
        sums = tuple(summed[:, :, None].expand(b, n, m, -1).flatten(1, 2) for summed in state.sums[-2:])
        seen = state.seen[:, :, None].expand(b, n, m, -1).flatten(1, 2)
        branched = guided.look(_Histories(state.count, sums, seen), locations.flatten(1))
        steps = len(self.scorers[0].base)
        while branched.count < steps:
            branched = guided.look(branched, guided.scores(branched).argmin(-1))
        return self._criterion(branched.sums[-1], steps, criterion).unflatten(1, (n, m))

    def _criterion(self, judged: Tensor, count: int, criterion: str) -> Tensor:
        log_probabilities = self.judge.class_log_probabilities(self.network, judged, count)
        labels = self.labels.view(-1, *[1] * (judged.ndim - 2)).expand(judged.shape[:-1])
        return CRITERIA[criterion].function(log_probabilities, labels)


def _some_locations(scores: Tensor, count: int, rng: np.random.Generator, grid: LocationGrid) -> Tensor:
    """Returns different locations (b, n, min(count, L)): a third of lowest ``scores`` (b, n, L), others random."""
    count = min(count, scores.shape[-1])
    key = torch.from_numpy(random_keys(rng, tuple(scores.shape[:-1]), grid)).to(scores.device)
    best = scores.topk(max(1, count // 3), dim=-1, largest=False).indices
    return key.scatter(-1, best, -1.0).topk(count, dim=-1, largest=False).indices
