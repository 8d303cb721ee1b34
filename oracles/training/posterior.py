"""Training of the judge: cross-entropy over random and visited glimpse histories, then calibration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from glimpse_env.datasets import make_source
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError
from glimpse_env.files import whole_file
from glimpse_env.judge.judge import Judge, JudgeCard, cut_features, find_judge, grid_features
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.sensing.geometry import LocationGrid


@dataclass(frozen=True)
class JudgePlan:
    """How a judge is trained."""

    passes: int = 12
    """Passes over a fold's training images (freshly augmented or composed each time)."""
    rounds: int = 2
    """How often, evenly spread over the passes, histories of the oracle under the present judge are collected."""
    visited_images: int = 1500
    """Images a round whose histories are collected."""
    visited_share: float = 0.25
    """Images of each minibatch that carry visited histories instead of random ones."""
    batch_size: int = 64
    """Images a minibatch."""
    histories: int = 8
    """Random histories an image; each is scored after every number of glimpses 0..T."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    part_weight: float = 0.5
    """Weight of the auxiliary regression of the parts' places, where a data set has parts."""
    features: int = 192
    embedding: int = 192
    hidden: int = 128
    start: str | None = None
    """Data set whose judge the glimpse encoder starts from, where its shape fits; None starts afresh."""
    heldout_images: int = 2000
    """Held-out images at most for calibration and the scores."""


@dataclass(frozen=True)
class VisitedHistories:
    """Glimpse sequences that a policy chose on images a network is trained on."""

    images: np.ndarray
    """(M, H, W, C) uint8."""
    labels: np.ndarray
    """(M,) int64."""
    parts: np.ndarray
    """(M, P, 3) float32."""
    locations: np.ndarray
    """(M, T) int64 grid locations."""


Visit = Callable[[Judge, int, np.random.Generator], VisitedHistories]
"""``visit(judge of one network, fold, rng)``: runs the oracle on training images of network ``fold``."""


class NetworkTrainer:
    """Trains network ``fold`` of a judge; the state after every pass can be saved and gone on from.

    The random numbers of a pass depend on (seed, fold, pass) only, so a resumed run ends like one that was not.
    """

    def __init__(self, source: DataSource, fold: int, plan: JudgePlan, *, seed: int):
        self.source, self.fold, self.plan, self.seed = source, fold, plan, seed
        self.geometry = geometry = source.geometry
        self.num_glimpses = geometry.num_glimpses
        self.grid = geometry.grid
        torch.manual_seed(seed * 1000 + fold)
        config = PosteriorConfig(
            glimpse_size=geometry.glimpse_size,
            stride=geometry.stride,
            channels=source.image_shape[2] * geometry.scales,
            num_classes=len(source.class_names),
            num_parts=len(source.part_names),
            features=plan.features,
            embedding=plan.embedding,
            hidden=plan.hidden,
        )
        self.network = GlimpsePosterior(config)
        if plan.start is not None:
            _start_from(self.network, find_judge(make_source(plan.start)).networks[0])
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=plan.learning_rate,
        )
        self.passes_done = 0
        self.visited: VisitedHistories | None = None

    def run(self, visit: Visit | None = None, checkpoint: Path | None = None) -> None:
        """Trains to the plan's end, collecting visited histories on the way, saving ``checkpoint`` each pass."""
        if checkpoint is not None and checkpoint.is_file():
            self._restore(checkpoint)
        visits = {round(self.plan.passes * (r + 1) / (self.plan.rounds + 1)) for r in range(self.plan.rounds)}
        passes = tqdm(
            range(self.passes_done, self.plan.passes),
            initial=self.passes_done,
            total=self.plan.passes,
            desc=f"judge of {self.source.name}, network {self.fold + 1}/{self.source.num_folds}",
            unit="pass",
        )
        for index in passes:
            rng = np.random.default_rng([self.seed, self.fold, index])
            if visit is not None and index in visits:
                self.visited = visit(self.provisional_judge(), self.fold, rng)
            passes.set_postfix(self._one_pass(rng))
            self.passes_done = index + 1
            if checkpoint is not None:
                self._save(checkpoint)

    def provisional_judge(self) -> Judge:
        """The present network as a judge of its own, uncalibrated."""
        self.network.eval()
        card = JudgeCard(
            dataset=self.source.name,
            fingerprint=self.source.fingerprint,
            config=self.network.config,
            image_size=self.grid.image_size,
            scales=self.geometry.scales,
            num_glimpses=self.num_glimpses,
            num_networks=1,
            temperatures=[[1.0] * (self.num_glimpses + 1)],
            seed=self.seed,
            splits={},
            scores={},
            command="",
        )
        return Judge([self.network], card)

    def _one_pass(self, rng: np.random.Generator) -> dict[str, str]:
        data = self.source.judge_images(self.fold, rng)
        self.network.train().requires_grad_(True)
        size = min(self.plan.batch_size, len(data.labels))
        fresh = size
        if self.visited is not None:
            fresh = round(size * (1 - self.plan.visited_share))
        steps = len(data.labels) // fresh
        losses, right = [], []
        for step in tqdm(range(steps), desc=f"pass {self.passes_done + 1}", unit="batch", leave=False):
            progress = (self.passes_done + step / steps) / self.plan.passes
            for group in self.optimiser.param_groups:
                group["lr"] = self.plan.learning_rate * one_cycle(progress)
            rows = np.arange(step * fresh, (step + 1) * fresh)
            images, labels, parts = data.images[rows], data.labels[rows], data.parts[rows]
            locations = self._random_locations(parts, rng)  # (b, h, T)
            if self.visited is not None:
                again = rng.integers(len(self.visited.labels), size=size - fresh)
                images = np.concatenate([images, self.visited.images[again]])
                labels = np.concatenate([labels, self.visited.labels[again]])
                parts = np.concatenate([parts, self.visited.parts[again]])
                chosen = np.repeat(self.visited.locations[again][:, None], self.plan.histories, axis=1)
                # half the visited histories in the order they were made, half in any: subsets count as well
                half = self.plan.histories // 2
                chosen[:, half:] = rng.permuted(chosen[:, half:], axis=-1)
                locations = np.concatenate([locations, chosen])
            loss, accuracy = self._loss(images, labels, parts, locations)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            losses.append(loss.item())
            right.append(accuracy)
        return {"loss": f"{np.mean(losses):.3f}", "accuracy": f"{np.mean(right):.3f}"}

    def _random_locations(self, parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(b, h, T) histories: uniform without repetition; in every second one, where an image of ``parts`` (b, P, 3)
        has visible ones, about half the glimpses near a random part, since few of the uniform ones show any."""
        shape = (len(parts), self.plan.histories, self.num_glimpses)
        order = rng.random((*shape[:2], len(self.grid)), dtype=np.float32)
        last = min(self.num_glimpses, len(self.grid) - 1)
        locations = order.argpartition(last, axis=-1)[..., : self.num_glimpses]
        if parts.shape[1] == 0:
            return locations
        drawn = rng.random((*shape, parts.shape[1]), dtype=np.float32) * parts[:, None, None, :, 2]
        chosen = drawn.argmax(-1)  # (b, h, T): a visible part, each as likely
        centres = parts[np.arange(len(parts))[:, None, None], chosen, :2]
        half = self.grid.glimpse_size / 2
        near = self.grid.nearest(centres - half + rng.uniform(-half / 2, half / 2, centres.shape))
        taken = (rng.random(shape) < 0.5) & (drawn.max(-1) > 0) & (np.arange(shape[1]) % 2 == 1)[:, None]
        return np.where(taken, near, locations)

    def _loss(
        self, images: np.ndarray, labels: np.ndarray, parts: np.ndarray, locations: np.ndarray
    ) -> tuple[Tensor, float]:
        """Mean loss over all prefixes of all histories (b, h, T), and the accuracy after T glimpses."""
        network = self.network
        summed = prefix_sums(network, images, locations, self.grid, self.geometry.scales)  # (b, h, T + 1, D)
        logits = network.logits(summed)
        target = torch.from_numpy(labels)[:, None, None].expand(logits.shape[:-1])
        loss = F.cross_entropy(logits.flatten(0, 2), target.flatten())
        if network.part_head is not None and self.plan.part_weight > 0:
            known = torch.from_numpy(np.ascontiguousarray(parts))[:, None, None]  # (b, 1, 1, P, 3)
            places = network.part_places(summed[:, :, 1:])  # (b, h, T, P, 2)
            error = (places - known[..., :2] / self.grid.image_size).abs().sum(-1) * known[..., 2]
            loss = loss + self.plan.part_weight * error.mean()
        accuracy = (logits[:, :, -1].argmax(-1) == target[:, :, -1]).float().mean().item()
        return loss, accuracy

    def _save(self, path: Path) -> None:
        with whole_file(path) as temporary:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "passes_done": self.passes_done,
                    "identity": self._identity(),
                    "visited": None
                    if self.visited is None
                    else {name: torch.from_numpy(array) for name, array in vars(self.visited).items()},
                },
                temporary,
            )

    def _restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["identity"] != self._identity():
            raise ArtifactError(
                f"the checkpoint {path} belongs to another data set or plan; delete it to start afresh."
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.passes_done = state["passes_done"]
        if state["visited"] is not None:
            self.visited = VisitedHistories(**{name: tensor.numpy() for name, tensor in state["visited"].items()})

    def _identity(self) -> str:
        trained = f"{self.source.name} {self.source.fingerprint} fold {self.fold} x{self.geometry.scales}"
        return f"{trained} seed {self.seed} {self.plan}"


def _start_from(network: GlimpsePosterior, other: GlimpsePosterior) -> None:
    """Gives ``network`` the glimpse encoder and the location embedding of another, unless their shapes differ."""
    own = network.state_dict()
    shared = {name: value for name, value in other.state_dict().items() if not name.startswith(("head.", "part_head."))}
    if (
        all(own[name].shape == value.shape for name, value in shared.items() if name in own)
        and shared.keys() <= own.keys()
    ):
        network.load_state_dict({**own, **shared})


def one_cycle(progress: float, warm_up: float = 0.05) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine down to zero; ``progress`` in [0, 1]."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1.0 + float(np.cos(np.pi * (progress - warm_up) / (1.0 - warm_up))))


def prefix_sums(
    network: GlimpsePosterior, images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int = 1
) -> Tensor:
    """Sums of the first 0..T embeddings of histories ``locations`` (N, h, T): (N, h, T + 1, D)."""
    shape, index = locations.shape, torch.from_numpy(locations).flatten(1)  # (N, h * T)
    if scales == 1 and network.has_dense_pass:
        features = grid_features(network, images, grid)  # (N, L, F)
        chosen = features.gather(1, index[..., None].expand(-1, -1, features.shape[-1]))
    else:
        chosen = cut_features(network, images, index.numpy(), grid, scales)  # there is no dense pass to gain by
    embedded = network.embed(chosen, torch.from_numpy(grid.normalised)[index]).unflatten(1, shape[1:])
    return F.pad(embedded.cumsum(2), (0, 0, 1, 0))  # (N, h, T + 1, D)


def fit_temperatures(log_probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """The temperature per t that minimises the log-loss.

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
    """Expected calibration error: the mean gap of confidence and accuracy over ``bins`` equally filled bins."""
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(confidence[rows].mean() - right[rows].mean()) * len(rows)
        for rows in np.array_split(order, bins)
        if len(rows)
    ]
    return float(np.sum(gaps) / len(labels))
