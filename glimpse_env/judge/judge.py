"""The judge: posterior networks, their calibration, and the rule that none judges an image it was trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, JudgeNotFoundError
from glimpse_env.judge.artifacts import ArtifactKind, identity_of
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.pyramid import cut_on_grid

FORMAT = 1


@dataclass(frozen=True)
class JudgeCard:
    """What a judge was made from and how well it does; kept as JSON beside the weights."""

    dataset: str
    fingerprint: str
    """Of the data set."""
    config: PosteriorConfig
    image_size: int
    """Side of the images in pixels."""
    scales: int
    num_glimpses: int
    """T."""
    num_networks: int
    """K: network k never saw the images of fold k."""
    temperatures: list[list[float]]
    """[k][t], t = 0..T: logits of network k after t glimpses are divided by it."""
    seed: int
    splits: dict[str, str]
    """What was trained, calibrated and measured on what."""
    scores: dict[str, list[float]]
    """random_ and visited_accuracy, _log_loss and _calibration_error on held-out images, t = 1..T: after random
    glimpses and after those that the oracle visits; means over networks."""
    command: str
    """What makes this judge again."""
    format: int = FORMAT


JUDGES = ArtifactKind(
    "judge", JudgeCard, FORMAT, "train_judge.py", JudgeNotFoundError, "judges", ("glimpse_env", "judges")
)


class Judge:
    """p(theta | y_1:t, l_1:t) for batches of glimpse histories.

    Attributes:
        networks: K posterior networks in evaluation mode, gradients off.
        card: see :class:`JudgeCard`.
    """

    def __init__(self, networks: list[GlimpsePosterior], card: JudgeCard):
        self.networks = [network.eval().requires_grad_(False) for network in networks]
        self.card = card
        self.geometry = Geometry(
            card.image_size, card.config.glimpse_size, card.config.stride, card.num_glimpses, card.scales
        )
        self.grid = self.geometry.grid
        self._temperatures = torch.tensor(card.temperatures, dtype=torch.float32)  # (K, T + 1)

    @property
    def num_classes(self) -> int:
        return self.card.config.num_classes

    @property
    def identity(self) -> str:
        """A fingerprint of the weights and the card."""
        return identity_of(self.networks, self.card)

    def class_log_probabilities(self, network: int, summed: Tensor, counts: Tensor | int) -> Tensor:
        """Calibrated log p(theta) of one network.

        Args:
            network: k.
            summed: (..., D) sums of embeddings.
            counts: t, the number of glimpses summed; an int or (...,) int64.

        Returns:
            (..., classes) float32.
        """
        temperature = self._temperatures[network][counts]
        if isinstance(counts, Tensor):
            temperature = temperature[..., None]
        return torch.log_softmax(self.networks[network].logits(summed) / temperature, dim=-1)

    @torch.inference_mode()
    def embed_glimpses(self, network: int, glimpses: np.ndarray, corners: np.ndarray) -> Tensor:
        """Embeddings (B, D) of glimpses (B, g, g, C * scales) uint8 at ``corners`` (B, 2) pixels."""
        posterior = self.networks[network]
        features = posterior.encode_glimpses(torch.from_numpy(glimpses))
        return posterior.embed(features, torch.from_numpy(self.grid.normalise(corners)))

    @torch.inference_mode()
    def embed_grid(self, network: int, images: np.ndarray) -> Tensor:
        """Embeddings (N, L, D) of the glimpses at every grid location of images (N, H, W, C) uint8."""
        posterior = self.networks[network]
        features = grid_features(posterior, images, self.grid, self.card.scales)
        return posterior.embed(features, torch.from_numpy(self.grid.normalised))

    @torch.inference_mode()
    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        """Class probabilities after the first ``counts`` glimpses of each history.

        Args:
            glimpses: (B, T, g, g, C * scales) uint8.
            corners: (B, T, 2) int pixels; any pixel position, not only the grid's.
            counts: (B,) int in 0..T; what lies behind is not looked at.
            folds: (B,) int: the network to ask, or -1 for the mean of all.

        Returns:
            (B, classes) float32, rows sum to one.
        """
        seen = torch.from_numpy(np.arange(glimpses.shape[1]) < counts[:, None])  # (B, T)
        locations = torch.from_numpy(self.grid.normalise(corners))
        steps = torch.from_numpy(counts.astype(np.int64))

        def ask(k: int, rows: np.ndarray) -> Tensor:
            chosen = torch.from_numpy(rows)
            mask, network = seen[chosen], self.networks[k]
            features = network.encode_glimpses(torch.from_numpy(glimpses[rows])[mask])  # (sum of counts, F)
            embedded = network.embed(features, locations[chosen][mask])
            owner = torch.arange(len(rows))[:, None].expand_as(mask)[mask]
            summed = torch.zeros(len(rows), embedded.shape[-1]).index_add_(0, owner, embedded)
            return self.class_log_probabilities(k, summed, steps[chosen])

        return self.mean_over_networks(folds, ask)

    @torch.inference_mode()
    def embed_sum(self, glimpses: np.ndarray, corners: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """What the networks take in of further glimpses; it adds up over the glimpses of an episode.

        Args:
            glimpses: (B, n, g, g, C * scales) uint8.
            corners: (B, n, 2) int pixels.
            folds: (B,) int, as in :meth:`probabilities`.

        Returns:
            (K, B, D) float32: sums of embeddings, zero where a network is not asked.
        """
        batch, count = glimpses.shape[:2]
        sums = np.zeros((len(self.networks), batch, self.card.config.embedding), dtype=np.float32)
        for k in range(len(self.networks)):
            rows = rows_for_network(k, folds)
            if len(rows):
                embedded = self.embed_glimpses(
                    k, glimpses[rows].reshape(-1, *glimpses.shape[2:]), corners[rows].reshape(-1, 2)
                )
                sums[k, rows] = embedded.unflatten(0, (len(rows), count)).sum(1).numpy()
        return sums

    @torch.inference_mode()
    def predict_from_sum(self, sums: np.ndarray, count: int, folds: np.ndarray) -> np.ndarray:
        """Class probabilities (B, classes) float32 after ``count`` glimpses, given what :meth:`embed_sum` took in."""
        return self.mean_over_networks(
            folds, lambda k, rows: self.class_log_probabilities(k, torch.from_numpy(sums[k, rows]), count)
        )

    def mean_over_networks(self, folds: np.ndarray, ask: Callable[[int, np.ndarray], Tensor]) -> np.ndarray:
        """Class probabilities from the networks that may judge.

        Args:
            folds: (B,) int: the network to ask, or -1 for the mean of all.
            ask: gives log p(theta) (b, classes) of network k for the rows (b,) of the batch.

        Returns:
            (B, classes) float32, rows sum to one.

        Raises:
            ArtifactError: if there is no network of a fold.
        """
        total = np.zeros((len(folds), self.num_classes), dtype=np.float32)
        asked = np.zeros(len(folds), dtype=np.float32)
        for k in range(len(self.networks)):
            rows = rows_for_network(k, folds)
            if len(rows):
                total[rows] += ask(k, rows).exp().numpy()
                asked[rows] += 1
        if (asked == 0).any():
            raise ArtifactError(
                f"fold {folds[asked == 0][0]} has no network in this judge of {len(self.networks)}; "
                "train one for this data set."
            )
        return total / asked[:, None]

    def save(self, path: str | Path) -> None:
        """Writes ``path`` (safetensors) and the card beside it as ``.json``."""
        JUDGES.save(path, self.networks, self.card)

    @classmethod
    def load(cls, path: str | Path) -> "Judge":
        """Returns what :meth:`save` wrote.

        Raises:
            JudgeNotFoundError: if a file is missing.
            ArtifactError: if it is damaged or of another format.
        """
        return cls(*JUDGES.load(path, lambda card: GlimpsePosterior(card.config)))


def rows_for_network(network: int, folds: np.ndarray) -> np.ndarray:
    """(b,) int64: the rows whose images a network may judge, as it was not trained on them; ``folds`` (B,) int."""
    return np.flatnonzero((folds == network) | (folds == -1))


def grid_features(network: GlimpsePosterior, images: np.ndarray, grid: LocationGrid, scales: int = 1) -> Tensor:
    """Features of the glimpses at every grid location, (N, L, F): one dense pass, or cut out where scales > 1 or
    locations are spaced unevenly."""
    if scales == 1 and network.has_dense_pass:
        return network.encode_dense(torch.from_numpy(np.array(images)))  # a copy: memory maps are not writable
    every = np.arange(len(grid))[None]
    # image by image: all glimpses of many images at once would take gigabytes
    return torch.cat([cut_features(network, images[i : i + 1], every, grid, scales) for i in range(len(images))])


def cut_features(
    network: GlimpsePosterior, images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int
) -> Tensor:
    """Features (N, n, F) of the glimpses at ``locations`` (N, n) of images (N, H, W, C), each cut out and encoded."""
    return network.encode_glimpses(torch.from_numpy(cut_on_grid(images, locations, grid, scales)))


def judge_path(source: DataSource) -> Path:
    """Returns where the judge of a data set is kept in the cache."""
    return JUDGES.cached_path(f"{source.name}-{source.fingerprint}-x{source.geometry.scales}")


def judge_command(source: DataSource) -> str:
    """Returns the command line that makes the judge of a data set."""
    return JUDGES.command(source)


def find_judge(source: DataSource) -> Judge:
    """The judge that fits a data set: from the cache, else the one shipped with the package.

    Raises:
        JudgeNotFoundError: if there is none; the message says which command makes one.
    """
    name = f"{source.name}-x{source.geometry.scales}"
    path = JUDGES.find(judge_path(source), name, lambda card: card.fingerprint == source.fingerprint)
    if path is not None:
        return Judge.load(path)
    raise JudgeNotFoundError(
        f"no judge fits the data set {source.name!r} (fingerprint {source.fingerprint}, "
        f"scales={source.geometry.scales}); make one with `{judge_command(source)}`."
    )
