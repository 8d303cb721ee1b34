"""The judge: posterior networks, their calibration, and the rule that none judges an image it was trained on."""

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy
from glimpse_env.encoding.registry import CONVOLUTIONAL, default_encoder, is_frozen
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ArtifactError, JudgeNotFoundError
from glimpse_env.judge.artifacts import ArtifactCard, ArtifactKind, TrainedNetworks
from glimpse_env.judge.posterior import GlimpsePosterior
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.sensor import cut_on_grid, reduced_to_level

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JudgeCard(ArtifactCard):
    """Origin and scores of a judge, kept as JSON beside the weights."""

    temperatures: list[list[float]]
    """[k][t], t = 0..T, what logits of network k after t glimpses are divided by."""
    splits: dict[str, str]
    """Splits that were ``trained``, ``calibrated`` and ``scored`` on."""
    scores: dict[str, list[float]]
    """random_ and visited_accuracy, _log_loss and _calibration_error on held-out images, t = 1..T: after random
    glimpses and after those that the oracle visits; means over networks."""

    def check(self) -> None:
        super().check()
        shape = (len(self.temperatures), {len(row) for row in self.temperatures})
        wrong = [one for row in self.temperatures for one in row if not 0 < one < math.inf]
        if shape != (self.num_networks, {self.num_glimpses + 1}) or wrong:
            raise ArtifactError(f"its temperatures are {wrong[0] if wrong else self.temperatures}")

    def check_fits(self, source: DataSource) -> None:
        """Checks that the judge is one for a data set's images and glimpses.

        Raises:
            ArtifactError: if it is not.
        """
        theirs = (self.fingerprint, self.geometry, self.config.num_classes, self.config.channels)
        geometry, channels = source.geometry, source.image_shape[2] * source.geometry.scales
        ours = (source.fingerprint, geometry, len(source.class_names), channels)
        names = ("fingerprint", "geometry", "number of classes", "channels")
        for name, their, our in zip(names, theirs, ours, strict=True):
            if their != our:
                raise ArtifactError(
                    f"it was trained on {self.dataset} {self.fingerprint} with {described(self.geometry)}, not on "
                    f"{source.name} {source.fingerprint} with {described(geometry)}: its {name} is {their}, not {our}."
                )


JUDGES = ArtifactKind("judge", JudgeCard, "train_judge", JudgeNotFoundError, "judges", ("glimpse_env", "judges"))


class Judge(TrainedNetworks[GlimpsePosterior, JudgeCard]):
    """p(theta | y_1:t, l_1:t) for batches of glimpse histories; its ``networks`` are K posterior networks."""

    tensors = ("_temperatures",)

    @cached_property
    def _temperatures(self) -> Tensor:
        """(K, T + 1) float32."""
        return torch.tensor(self.card.temperatures, dtype=torch.float32).to(self.device)

    @property
    def num_classes(self) -> int:
        return self.card.config.num_classes

    def class_log_probabilities(self, network: int, summed: Tensor, counts: Tensor | int) -> Tensor:
        """Returns calibrated log p(theta) of one network.

        Args:
            network: k.
            summed: (..., D) sums of embeddings, on any device.
            counts: t, the number of glimpses summed; an int or (...,) int64.

        Returns:
            (..., classes) float32.
        """
        temperature = self._temperatures[network][counts]
        if isinstance(counts, Tensor):
            temperature = temperature[..., None]
        return torch.log_softmax(self.networks[network].logits(summed.to(self.device)) / temperature, dim=-1)

    @torch.inference_mode()
    def embed_glimpses(self, network: int, glimpses: np.ndarray | Tensor, corners: np.ndarray) -> Tensor:
        """Returns embeddings (B, D) of glimpses at ``corners`` (B, 2) pixels, (B, 3) with zooms.

        Args:
            network: k.
            glimpses: (B, g, g, C * scales) uint8, or what :meth:`encode_once` made of them.
            corners: top-left corners (row, col), or (row, col, zoom).
        """
        posterior = self.networks[network]
        features = self.features_of(posterior, glimpses)
        return posterior.embed(features, torch.from_numpy(self.grid.normalise(corners)))

    @torch.inference_mode()
    def embed_grid(self, network: int, images: np.ndarray) -> Tensor:
        """Returns embeddings (N, L, D) of the glimpses at every grid location of images (N, H, W, C) uint8."""
        posterior = self.networks[network]
        features = grid_features(posterior, images, self.grid, self.card.scales)
        return posterior.embed(features, torch.from_numpy(self.grid.normalised))

    @torch.inference_mode()
    def embed_split(
        self, network: int, dataset: GlimpseDataset, rows: np.ndarray, copy: ImageCopy = ORIGINAL
    ) -> Tensor:
        """Returns embeddings (n, L, D) of the glimpses at every grid location of images of a split.

        A judge with a frozen encoder reads the split's table of features, in half precision, which is made on first
        use and kept in the cache.

        Args:
            network: k.
            dataset: the split, with the images that it has in the data set.
            rows: (n,) int64, which of its images.
            copy: how they are copied first.
        """
        if self.frozen is None:
            return self.embed_grid(network, np.asarray(copy(dataset.images[rows])))
        table = FeatureTable(dataset, self.frozen, (copy,))
        features = torch.from_numpy(table(rows[:, None], np.arange(len(self.grid)))).float()
        return self.networks[network].embed(features, torch.from_numpy(self.grid.normalised))

    @torch.inference_mode()
    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        """Returns class probabilities, see :class:`glimpse_env.judge.assessment.Posterior`."""
        seen = np.arange(glimpses.shape[1]) < counts[:, None]  # (B, T)
        encoded, places, owner = self.encode_once(glimpses[seen]), corners[seen], np.nonzero(seen)[0]
        steps = torch.from_numpy(counts.astype(np.int64))

        def ask(k: int, rows: np.ndarray) -> Tensor:
            asked = np.isin(owner, rows)
            embedded = self.embed_glimpses(k, encoded[asked], places[asked])  # (sum of counts, D)
            index = torch.from_numpy(np.searchsorted(rows, owner[asked])).to(self.device)
            summed = embedded.new_zeros(len(rows), embedded.shape[-1]).index_add_(0, index, embedded)
            return self.class_log_probabilities(k, summed, steps[torch.from_numpy(rows)])

        return self.mean_over_networks(folds, ask)

    @torch.inference_mode()
    def embed_sum(self, glimpses: np.ndarray, corners: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Returns sums of the embeddings of glimpses, which add up over an episode.

        Args:
            glimpses: (B, n, g, g, C * scales) uint8.
            corners: (B, n, 2) int pixels, (B, n, 3) with zooms.
            folds: (B,) int, as in :meth:`probabilities`.

        Returns:
            (K, B, D) float32, zero where a network may not judge.
        """
        batch, count = glimpses.shape[:2]
        sums = np.zeros((len(self.networks), batch, self.card.config.embedding), dtype=np.float32)
        encoded = self.encode_once(glimpses.reshape(-1, *glimpses.shape[2:]))
        encoded = encoded.reshape(batch, count, *encoded.shape[1:])
        for k in range(len(self.networks)):
            rows = rows_for_network(k, folds)
            if len(rows):
                mine = encoded[rows]
                places = corners[rows].reshape(-1, corners.shape[2])
                embedded = self.embed_glimpses(k, mine.reshape(-1, *mine.shape[2:]), places)
                sums[k, rows] = embedded.unflatten(0, (len(rows), count)).sum(1).cpu().numpy()
        return sums

    @torch.inference_mode()
    def predict_from_sum(self, sums: np.ndarray, count: int | np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Returns class probabilities (B, classes) float32 after ``count`` glimpses, an int or (B,) int64, from their
        sums (K, B, D), see :meth:`embed_sum`."""

        def ask(k: int, rows: np.ndarray) -> Tensor:
            steps = count if isinstance(count, int) else torch.from_numpy(count[rows])
            return self.class_log_probabilities(k, torch.from_numpy(sums[k, rows]), steps)

        return self.mean_over_networks(folds, ask)

    def mean_over_networks(self, folds: np.ndarray, ask: Callable[[int, np.ndarray], Tensor]) -> np.ndarray:
        """Returns class probabilities, means over the networks that may judge.

        Args:
            folds: (B,) int, the network to use, or -1 for the mean of all.
            ask: ``ask(k, rows (b,))`` gives log p(theta) (b, classes) of network k for these rows of the batch.

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
                total[rows] += ask(k, rows).exp().cpu().numpy()
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
        return cls(*JUDGES.load(path, lambda card, frozen: GlimpsePosterior(card.config, frozen)))


def rows_for_network(network: int, folds: np.ndarray) -> np.ndarray:
    """Returns the rows (b,) int64 of ``folds`` (B,) int whose images a network may judge: not trained on."""
    return np.flatnonzero((folds == network) | (folds == -1))


def described(geometry: Geometry) -> str:
    """Returns scales and zooms as messages have them, without zooms where there are none."""
    return f"scales={geometry.scales}" + (f" and zooms={list(geometry.zooms)}" if len(geometry.zooms) > 1 else "")


def grid_features(network: GlimpsePosterior, images: np.ndarray, grid: LocationGrid, scales: int = 1) -> Tensor:
    """Returns features (N, L, F) of the glimpses at every grid location of images (N, H, W, C) uint8.

    One dense pass gives them, over the image reduced to each zoom; where scales > 1 or locations are spaced unevenly,
    glimpses are cut out.
    """
    if scales == 1 and network.has_dense_pass:
        # copies: memory maps are not writable
        passes = [network.encode_dense(torch.from_numpy(np.array(reduced_to_level(images, x)))) for x in grid.levels]
        return passes[0] if len(passes) == 1 else torch.cat(passes, dim=1)
    every = np.arange(len(grid))[None]
    # image by image: all glimpses of many images at once would take gigabytes
    return torch.cat([cut_features(network, images[i : i + 1], every, grid, scales) for i in range(len(images))])


def cut_features(
    network: GlimpsePosterior, images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int
) -> Tensor:
    """Returns features (N, n, F) of the glimpses at ``locations`` (N, n) of images (N, H, W, C), each cut out."""
    return network.encode_glimpses(torch.from_numpy(cut_on_grid(images, locations, grid, scales)))


def judge_path(source: DataSource, encoder: str = CONVOLUTIONAL) -> Path:
    """Returns where the judge of a data set, with an encoder, is kept in the cache."""
    return JUDGES.cached_path(f"{source.name}-{source.fingerprint}-{source.geometry.windows}{_suffix(encoder)}")


def _suffix(encoder: str) -> str:
    """Returns the end of the file names of judges with an encoder: nothing for the convolutional one."""
    return "-" + re.sub(r"[^\w.-]+", "-", encoder.replace("\\", "/").rpartition("/")[2]) if is_frozen(encoder) else ""


def judge_command(source: DataSource, encoder: str | None = None) -> str:
    """Returns the command line that makes the judge of a data set, with an encoder or the data set's own."""
    return JUDGES.command(source, *([] if encoder is None else ["--encoder", encoder]))


def find_judge(source: DataSource, encoder: str | None = None) -> Judge:
    """Returns the judge that fits a data set: from the cache, else the one shipped with the package.

    Args:
        source: the data set.
        encoder: the judge's encoder of glimpses; None for the data set's own where it can be used here and such a judge
            is there, else for the convolutional one.

    Raises:
        JudgeNotFoundError: if there is none; the message says which command makes one.
    """
    wanted = [default_encoder(source.name), CONVOLUTIONAL] if encoder is None else [encoder]
    for one in dict.fromkeys(wanted):
        fits = partial(_fits, source, one)
        shipped = f"{source.name}-{source.geometry.windows}{_suffix(one)}"
        judge = JUDGES.find(judge_path(source, one), shipped, fits, Judge.load)
        if judge is not None:
            if is_frozen(wanted[0]):
                _tell_encoder(source.name, wanted[0], one)
            return judge
    raise JudgeNotFoundError(
        f"no judge {'' if encoder is None else f'with encoder={encoder!r} '}fits the data set {source.name!r} "
        f"(fingerprint {source.fingerprint}, {described(source.geometry)}); make one with "
        f"`{judge_command(source, encoder)}`."
    )


def _fits(source: DataSource, encoder: str, card: JudgeCard) -> bool:
    if (card.fingerprint, card.config.encoder) != (source.fingerprint, encoder):
        return False
    card.check_fits(source)
    return True


@cache
def _tell_encoder(name: str, wanted: str, found: str) -> None:
    """Says once in the log which encoder the judge of a data set has."""
    missing = "" if found == wanted else f", as there is none with {wanted}"
    logger.info("The judge of %s has the encoder %s%s.", name, found, missing)
