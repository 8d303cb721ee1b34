"""The judge: posterior networks, their calibration, and the rule that none judges an image it was trained on."""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ArtifactError, JudgeNotFoundError
from glimpse_env.files import cache_folder, digest, whole_file, write_json
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.presets import env_of
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.sensor import cut_on_grid

FORMAT = 1


@dataclass(frozen=True)
class JudgeCard:
    """Origin and scores of a judge, kept as JSON beside the weights."""

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
        """Fingerprint of the weights and the card."""
        weights = [value.numpy() for network in self.networks for value in network.state_dict().values()]
        return digest(asdict(self.card), *weights)

    def class_log_probabilities(self, network: int, summed: Tensor, counts: Tensor | int) -> Tensor:
        """Computes the calibrated log p(theta) of one network.

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
        """Computes the embeddings (B, D) of glimpses (B, g, g, C * scales) uint8 at ``corners`` (B, 2) pixels."""
        posterior = self.networks[network]
        features = posterior.encode_glimpses(torch.from_numpy(glimpses))
        return posterior.embed(features, torch.from_numpy(self.grid.normalise(corners)))

    @torch.inference_mode()
    def embed_grid(self, network: int, images: np.ndarray) -> Tensor:
        """Computes the embeddings (N, L, D) of the glimpses at every grid location of images (N, H, W, C) uint8."""
        posterior = self.networks[network]
        features = grid_features(posterior, images, self.grid, self.card.scales)
        return posterior.embed(features, torch.from_numpy(self.grid.normalised))

    @torch.inference_mode()
    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        """Computes class probabilities after the first ``counts`` glimpses of each history.

        Args:
            glimpses: (B, T, g, g, C * scales) uint8.
            corners: (B, T, 2) int pixels; any pixel position, not only the grid's.
            counts: (B,) int in 0..T; later glimpses are ignored.
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
        """Sums the networks' embeddings of some glimpses; sums of parts of an episode add up to that of the whole.

        Args:
            glimpses: (B, n, g, g, C * scales) uint8.
            corners: (B, n, 2) int pixels.
            folds: (B,) int, as in :meth:`probabilities`.

        Returns:
            (K, B, D) float32, zero where a network may not judge the image.
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
        """Computes class probabilities (B, classes) float32 from the :meth:`embed_sum` of ``count`` glimpses."""
        return self.mean_over_networks(
            folds, lambda k, rows: self.class_log_probabilities(k, torch.from_numpy(sums[k, rows]), count)
        )

    def mean_over_networks(self, folds: np.ndarray, ask: Callable[[int, np.ndarray], Tensor]) -> np.ndarray:
        """Averages class probabilities over the networks that may judge each image.

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
        path = Path(path)
        tensors = {
            f"{k}.{name}": value.contiguous()
            for k, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        with whole_file(path) as temporary:
            save_file(tensors, temporary)
        write_json(path.with_suffix(".json"), asdict(self.card))

    @classmethod
    def load(cls, path: str | Path) -> "Judge":
        """Reads what :meth:`save` wrote.

        Raises:
            JudgeNotFoundError: if a file is missing.
            ArtifactError: if it is damaged or of another format.
        """
        path = Path(path)
        try:
            card = load_card(path)
            tensors = load_file(path)
            networks = []
            for k in range(card.num_networks):
                network = GlimpsePosterior(card.config)
                prefix = f"{k}."
                network.load_state_dict(
                    {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
                )
                networks.append(network)
        except FileNotFoundError as error:
            raise JudgeNotFoundError(f"no judge at {path} ({error}); train one with scripts/train_judge.py.") from error
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
            raise ArtifactError(f"the judge at {path} cannot be read ({error}); train it again.") from error
        return cls(networks, card)


def rows_for_network(network: int, folds: np.ndarray) -> np.ndarray:
    """Returns the rows (b,) of ``folds`` (B,) whose images a network may judge, as it was not trained on them."""
    return np.flatnonzero((folds == network) | (folds == -1))


def grid_features(network: GlimpsePosterior, images: np.ndarray, grid: LocationGrid, scales: int = 1) -> Tensor:
    """Computes the features of the glimpses at every grid location, (N, L, F) float32.

    One dense pass does; where scales > 1 or locations are spaced unevenly, glimpses are cut out.
    """
    if scales == 1 and network.has_dense_pass:
        return network.encode_dense(torch.from_numpy(np.array(images)))  # a copy: memory maps are not writable
    every = np.arange(len(grid))[None]
    # image by image: all glimpses of many images at once would take gigabytes
    return torch.cat([cut_features(network, images[i : i + 1], every, grid, scales) for i in range(len(images))])


def cut_features(
    network: GlimpsePosterior, images: np.ndarray, locations: np.ndarray, grid: LocationGrid, scales: int
) -> Tensor:
    """Cuts out the glimpses at ``locations`` (N, n) of images (N, H, W, C) and encodes them: features (N, n, F)."""
    return network.encode_glimpses(torch.from_numpy(cut_on_grid(images, locations, grid, scales)))


def load_card(path: Path) -> JudgeCard:
    """The card beside the weights at ``path``.

    Raises:
        ArtifactError: if it is damaged or of another format.
    """
    return JudgeCard(**card_content(path, "judge", FORMAT))


def card_content(path: Path, what: str, format: int) -> dict[str, Any]:
    """The fields of the card beside the weights of ``what`` at ``path``, its ``config`` a :class:`PosteriorConfig`.

    Raises:
        ArtifactError: if it is damaged or not of this ``format``.
    """
    try:
        content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(
            f"the card of the {what} at {path} is no JSON ({error}); train the {what} again."
        ) from error
    if content.get("format") != format:
        raise ArtifactError(f"the {what} at {path} has format {content.get('format')}, not {format}; train it again.")
    return {**content, "config": PosteriorConfig(**content["config"])}


def judge_path(source: DataSource) -> Path:
    """Returns the path of a data set's judge in the cache."""
    return cache_folder() / "judges" / f"{source.name}-{source.fingerprint}-x{source.geometry.scales}.safetensors"


def judge_command(source: DataSource) -> str:
    """Returns the command line that trains the judge of a data set."""
    return command_for("train_judge.py", source)


def command_for(script: str, source: DataSource, *words: str) -> str:
    """Returns the command line that calls a script for a data set, with further ``words``."""
    options = source.chosen_options
    root = options.pop("root", None)
    command = ["python", f"scripts/{script}", "--env", env_of(source.name)]
    command += ["--root", root] if root else []
    command += ["--dataset-options", json.dumps(options)] if options else []
    return shlex.join([*command, "--scales", str(source.geometry.scales), *words])


def find_judge(source: DataSource) -> Judge:
    """Loads the judge that fits a data set: from the cache, else the one shipped with the package.

    Raises:
        JudgeNotFoundError: if there is none; the message says which command makes one.
    """
    shipped = Path(
        str(resources.files("glimpse_env") / "judges" / f"{source.name}-x{source.geometry.scales}.safetensors")
    )
    for path in (judge_path(source), shipped):
        if path.is_file() and load_card(path).fingerprint == source.fingerprint:
            return Judge.load(path)
    raise JudgeNotFoundError(
        f"no judge fits the data set {source.name!r} (fingerprint {source.fingerprint}, "
        f"scales={source.geometry.scales}); make one with `{judge_command(source)}`."
    )
