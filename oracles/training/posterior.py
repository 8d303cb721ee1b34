"""Trains the judge: cross-entropy over random and visited glimpse histories, then calibration."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.features import GlimpseFeatures, glimpse_features
from glimpse_env.encoding.registry import is_frozen
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge, JudgeCard, cut_features, find_judge, grid_features
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.sensing.geometry import LocationGrid
from oracles.base import random_keys
from oracles.training.entries import FeatureEntries
from oracles.training.loop import TrainingLoop
from oracles.training.plans import JudgePlan


@dataclass(frozen=True)
class VisitedHistories:
    """Glimpse sequences that a policy chose on images a network is trained on."""

    images: np.ndarray
    """(M, H, W, C) uint8; (M,) int64 entries of :class:`FeatureEntries` where the encoder is frozen."""
    labels: np.ndarray
    """(M,) int64."""
    parts: np.ndarray
    """(M, P, 3) float32."""
    locations: np.ndarray
    """(M, T) int64 grid locations."""


Visit = Callable[[Judge, int, np.random.Generator], VisitedHistories]
"""``visit(judge of one network, fold, rng)``: plays the oracle on training images of network ``fold``."""


class NetworkTrainer(TrainingLoop[GlimpsePosterior, JudgePlan]):
    """Trains network ``fold`` of a judge; a stage is a pass over the training images."""

    unit = "passes"

    def __init__(
        self,
        source: DataSource,
        fold: int,
        plan: JudgePlan,
        *,
        seed: int,
        visit: Visit | None = None,
        device: torch.device | str = "cpu",
    ):
        """
        Args:
            source: the data set.
            fold: whose images the network will not see.
            plan: how to train.
            seed: of all that is random.
            visit: collects the histories that an oracle visits; None trains on random ones only.
            device: that computes; the network starts as on the CPU, but dropout draws other numbers.

        Raises:
            ConfigurationError: if ``plan.start`` cannot be followed, as the encoders' shapes differ.
        """
        self.source, self.visit = source, visit
        self.geometry = geometry = source.geometry
        self.num_glimpses = geometry.num_glimpses
        self.grid = geometry.grid
        frozen = glimpse_features(source, plan.encoder, plan.width, device) if is_frozen(plan.encoder) else None
        self.entries = None if frozen is None else FeatureEntries(source, frozen, "judge")
        torch.manual_seed(seed * 1000 + fold)
        network = GlimpsePosterior(network_config(source, plan, frozen), frozen)
        self.keeps_encoder = plan.start == source.name
        if self.keeps_encoder:
            _start_unzoomed(network, find_judge(source.with_zooms((1,)), plan.encoder).networks[fold])
        elif plan.start is not None:
            _start_from(network, find_judge(make_source(plan.start)).networks[0], plan.start)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.encoder.requires_grad_(not self.keeps_encoder)
        super().__init__(network, plan, total=plan.passes, fold=fold, seed=seed)
        self.visits = {round(plan.passes * (r + 1) / (plan.rounds + 1)) for r in range(plan.rounds)}
        self.visited: VisitedHistories | None = None

    @property
    def title(self) -> str:
        return f"judge of {self.source.name}, network {self.fold + 1}/{self.source.num_folds}"

    @property
    def identity(self) -> str:
        trained = f"{self.source.name} {self.source.fingerprint} fold {self.fold} {self.geometry.windows}"
        return f"{trained} seed {self.seed} {self.plan} {self.network.config.encoder_identity}".rstrip()

    def stage(self, rng: np.random.Generator) -> Iterator[tuple[int, dict[str, str]]]:
        if self.visit is not None and self.done in self.visits:
            self.visited = self.visit(self.provisional_judge(), self.fold, rng)
        # dropout draws from PyTorch's generator
        torch.manual_seed(np.random.SeedSequence([self.seed, self.fold, self.done, 1]).generate_state(1).item())
        yield 1, self._one_pass(rng)

    def further_state(self) -> dict[str, Any]:
        if self.visited is None:
            return {"visited": None}
        return {"visited": {name: torch.from_numpy(array) for name, array in vars(self.visited).items()}}

    def restore_further(self, state: dict[str, Any]) -> None:
        if state["visited"] is not None:
            self.visited = VisitedHistories(**{name: tensor.numpy() for name, tensor in state["visited"].items()})

    def provisional_judge(self) -> Judge:
        """Returns the present network as a judge of its own, uncalibrated."""
        self.network.eval()
        temperatures = [[1.0] * (self.num_glimpses + 1)]
        card = JudgeCard.of(
            self.source, [self.network], temperatures=temperatures, seed=self.seed, splits={}, scores={}, command=""
        )
        return Judge([self.network], card)

    def _one_pass(self, rng: np.random.Generator) -> dict[str, str]:
        draw = self.source.judge_images if self.entries is None else self.entries.draw
        data = draw(self.fold, rng)
        self.network.train().requires_grad_(True)
        if self.keeps_encoder:
            self.network.encoder.eval().requires_grad_(False)
        size = min(self.plan.batch_size, len(data.labels))
        fresh = size
        if self.visited is not None:
            fresh = round(size * (1 - self.plan.visited_share))
        steps = len(data.labels) // fresh
        losses, right = [], []
        for step in tqdm(range(steps), desc=f"pass {self.done + 1}", unit="batch", leave=False):
            rows = np.arange(step * fresh, (step + 1) * fresh)
            images, labels, parts = data.images[rows], data.labels[rows], data.parts[rows]
            locations = self._random_locations(parts, rng)  # (b, h, T)
            if self.visited is not None:
                again = rng.integers(len(self.visited.labels), size=size - fresh)
                images = np.concatenate([images, self.visited.images[again]])
                labels = np.concatenate([labels, self.visited.labels[again]])
                parts = np.concatenate([parts, self.visited.parts[again]])
                histories = np.repeat(self.visited.locations[again][:, None], self.plan.histories, axis=1)
                # half the visited histories in the order they were made, half in any: subsets count as well
                half = self.plan.histories // 2
                histories[:, half:] = rng.permuted(histories[:, half:], axis=-1)
                locations = np.concatenate([locations, histories])
            loss, accuracy = self._loss(images, labels, parts, locations)
            self.descend(loss, (self.done + step / steps) / self.plan.passes)
            losses.append(loss.item())
            right.append(accuracy)
        return {"loss": f"{np.mean(losses):.3f}", "accuracy": f"{np.mean(right):.3f}"}

    def _random_locations(self, parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws histories (b, h, T), uniform without repetition, with zooms see :func:`random_histories`.

        In every second one, where an image of ``parts`` (b, P, 3) has visible ones, about half the glimpses are near a
        random part, since few of the uniform ones show any.
        """
        shape = (len(parts), self.plan.histories, self.num_glimpses)
        locations = random_histories(rng, shape, self.grid)
        if parts.shape[1] == 0:
            return locations
        drawn = rng.random((*shape, parts.shape[1]), dtype=np.float32) * parts[:, None, None, :, 2]
        part = drawn.argmax(-1)  # (b, h, T): a visible one, each as likely
        centres = parts[np.arange(len(parts))[:, None, None], part, :2]
        half = self.grid.glimpse_size / 2
        near = self._nearest(centres, rng.uniform(-half / 2, half / 2, centres.shape), locations)
        taken = (rng.random(shape) < 0.5) & (drawn.max(-1) > 0) & (np.arange(shape[1]) % 2 == 1)[:, None]
        return np.where(taken, near, locations)

    def _nearest(self, centres: np.ndarray, shifts: np.ndarray, locations: np.ndarray) -> np.ndarray:
        """Returns the locations (...) of windows about ``centres`` (..., 2), each as wide as the one at ``locations``
        (...) and moved by ``shifts`` (..., 2) times its zoom, all in pixels."""
        half, grid = self.grid.glimpse_size / 2, self.grid
        if len(grid.levels) == 1:
            return grid.nearest(centres - half + shifts)
        zooms = grid.corners[locations][..., 2:]
        return grid.nearest(np.concatenate([centres + (shifts - half) * zooms, zooms], axis=-1))

    def _loss(
        self, images: np.ndarray, labels: np.ndarray, parts: np.ndarray, locations: np.ndarray
    ) -> tuple[Tensor, float]:
        """Returns the mean loss over all prefixes of histories (b, h, T), and the accuracy after T glimpses."""
        network = self.network
        if self.entries is None:
            summed = prefix_sums(network, images, locations, self.grid, self.geometry.scales)  # (b, h, T + 1, D)
        else:
            features = self.entries(images, locations.reshape(len(locations), -1))
            summed = prefix_sums_of(network, features, locations, self.grid)
        logits = network.logits(summed)
        target = torch.from_numpy(labels).to(logits.device)[:, None, None].expand(logits.shape[:-1])
        loss = F.cross_entropy(logits.flatten(0, 2), target.flatten(), label_smoothing=self.plan.label_smoothing)
        if network.part_head is not None and self.plan.part_weight > 0:
            known = torch.from_numpy(np.ascontiguousarray(parts)).to(logits.device)[:, None, None]  # (b, 1, 1, P, 3)
            places = network.part_places(summed[:, :, 1:])  # (b, h, T, P, 2)
            error = (places - known[..., :2] / self.grid.image_size).abs().sum(-1) * known[..., 2]
            loss = loss + self.plan.part_weight * error.mean()
        accuracy = (logits[:, :, -1].argmax(-1) == target[:, :, -1]).float().mean().item()
        return loss, accuracy


def network_config(source: DataSource, plan: JudgePlan, frozen: GlimpseFeatures | None = None) -> PosteriorConfig:
    """Returns the shape of the networks of a data set's judge, which read ``frozen`` features where there are some."""
    return PosteriorConfig(
        glimpse_size=source.geometry.glimpse_size,
        stride=source.geometry.stride,
        channels=source.image_shape[2] * source.geometry.scales,
        num_classes=len(source.class_names),
        num_parts=len(source.part_names),
        features=plan.features if frozen is None else frozen.width,
        embedding=plan.embedding,
        hidden=plan.hidden,
        encoder=plan.encoder,
        encoder_identity="" if frozen is None else frozen.identity,
        dropout=plan.dropout,
        input_dropout=plan.input_dropout,
        coordinates=source.geometry.grid.coordinates,
    )


def random_histories(rng: np.random.Generator, shape: tuple[int, int, int], grid: LocationGrid) -> np.ndarray:
    """Draws histories (b, h, T) int64 without repetition, uniform.

    With zooms the first glimpse is of each zoom as often. In half the histories of an image so are the others, as
    :func:`oracles.base.random_keys` draws them; in the other half they are the narrowest, of which there are most and
    which show most of what is small.
    """
    keys, steps = random_keys(rng, shape[:2], grid), shape[2]
    if len(grid.levels) == 1:  # all are as likely, so their order says nothing
        return keys.argpartition(min(steps, len(grid) - 1), axis=-1)[..., :steps]
    first, narrow = keys.argmin(axis=-1)[..., None], grid.level_slices[0]
    keys[:, shape[1] // 2 :, narrow.stop :] = np.inf
    np.put_along_axis(keys, first, -1.0, axis=-1)
    locations = keys.argpartition(min(steps, len(grid) - 1), axis=-1)[..., :steps]
    order = np.take_along_axis(keys, locations, axis=-1).argsort(axis=-1)
    return np.take_along_axis(locations, order, axis=-1)


def _start_from(network: GlimpsePosterior, other: GlimpsePosterior, name: str) -> None:
    """Gives ``network`` the glimpse encoder and the location embedding of the judge called ``name``.

    Raises:
        ConfigurationError: if their shapes differ.
    """
    own = network.state_dict()
    shared = {key: value for key, value in other.state_dict().items() if not key.startswith(("head.", "part_head."))}
    for key, value in shared.items():
        if key not in own or own[key].shape != value.shape:
            raise ConfigurationError(
                f"start={name!r} cannot be followed: {key} has the shape {tuple(value.shape)} there and "
                f"{tuple(own[key].shape) if key in own else 'no place'} here; plan with start=None."
            )
    network.load_state_dict({**own, **shared})


def _start_unzoomed(network: GlimpsePosterior, other: GlimpsePosterior) -> None:
    """Gives ``network``, of a data set with zooms, the weights of ``other``, of the same data set without.

    On the narrowest windows it begins as that one: the third coordinate has no effect yet.
    """
    weights, name = other.state_dict(), "location_embedding.0.weight"
    narrow = weights[name].unflatten(1, (-1, other.config.coordinates))  # (64, 1 + 2 K, 2)
    weights[name] = F.pad(narrow, (0, network.config.coordinates - other.config.coordinates)).flatten(1)
    network.load_state_dict(weights)


def prefix_sums(
    network: GlimpsePosterior, images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int = 1
) -> Tensor:
    """Returns sums of the first 0..T embeddings of histories ``locations`` (N, h, T): (N, h, T + 1, D)."""
    index = torch.from_numpy(locations).flatten(1)  # (N, h * T)
    # with zooms glimpses are encoded together in training: passes over each zoom would be normalised by statistics of
    # their own, and by those of the last one afterwards
    together = len(grid.levels) > 1 and network.encoder.training
    if scales == 1 and network.has_dense_pass and not together:
        features = grid_features(network, images, grid)  # (N, L, F)
        looked_at = features.gather(1, index.to(features.device)[..., None].expand(-1, -1, features.shape[-1]))
    else:
        looked_at = cut_features(network, images, index.numpy(), grid, scales)  # no dense pass to gain by
    return prefix_sums_of(network, looked_at, locations, grid)


def prefix_sums_of(network: GlimpsePosterior, features: Tensor, locations: np.ndarray, grid: LocationGrid) -> Tensor:
    """Returns what :func:`prefix_sums` does, from features (N, h * T, F) of the glimpses."""
    places = torch.from_numpy(grid.normalised)[torch.from_numpy(locations)]  # (N, h, T, coordinates)
    embedded = network.embed(features.unflatten(1, locations.shape[1:]), places)
    return F.pad(embedded.cumsum(2), (0, 0, 1, 0))  # (N, h, T + 1, D)


def fit_temperatures(log_probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Returns the temperature for each t that minimises the log-loss.

    Args:
        log_probabilities: (N, T + 1, classes) uncalibrated, t = 0..T.
        labels: (N,) int64.
    """
    temperatures = []
    for t in range(log_probabilities.shape[1]):
        logits = torch.from_numpy(log_probabilities[:, t])
        target = torch.from_numpy(labels)

        def loss(log_temperature: float, logits: Tensor = logits, target: Tensor = target) -> float:
            return F.cross_entropy(logits / np.exp(log_temperature), target).item()

        temperatures.append(float(np.exp(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x)))
    return temperatures


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the mean gap of confidence and accuracy over ``bins`` equally filled bins."""
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(confidence[rows].mean() - right[rows].mean()) * len(rows)
        for rows in np.array_split(order, bins)
        if len(rows)
    ]
    return float(np.sum(gaps) / len(labels))
