"""Trained networks in files: cards, saving, loading and finding, for judges and amortised oracles alike.

An artefact is a safetensors file with the networks' weights, named ``k.parameter``, and a card beside it as ``.json``.
Where the networks read the features of a frozen encoder the file also has the reduction of these, but not the encoder.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.features import GlimpseFeatures, StoredFeatures
from glimpse_env.encoding.reduction import Reduction
from glimpse_env.encoding.registry import is_frozen
from glimpse_env.errors import ArtifactError, GlimpseError
from glimpse_env.files import cache_folder, digest, whole_file, write_json
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.presets import env_of
from glimpse_env.sensing.geometry import Geometry

Card = TypeVar("Card", bound="ArtifactCard")
Trained = TypeVar("Trained", bound="TrainedNetworks[Any, Any]")


@dataclass(frozen=True, kw_only=True)
class ArtifactCard:
    """What an artefact was made from; JSON values."""

    dataset: str
    """Name of the data set."""
    fingerprint: str
    """Fingerprint of the data set."""
    config: PosteriorConfig
    """Shape of the networks."""
    image_size: int
    """Side of the images in pixels."""
    scales: int
    """Concentric windows of a glimpse."""
    num_glimpses: int
    """T."""
    num_networks: int
    """K: network k never saw the images of fold k."""
    seed: int
    """Seed of training."""
    command: str
    """Command line that makes it again."""
    format: int = 1
    """Format of the files that this version reads and writes."""

    @classmethod
    def of(cls: type[Card], source: DataSource, networks: Sequence[Any], **further: Any) -> Card:
        """Returns the card of ``networks`` (each with a ``config``) for a data set, with ``further`` fields."""
        geometry = source.geometry
        return cls(
            dataset=source.name,
            fingerprint=source.fingerprint,
            config=networks[0].config,
            image_size=geometry.image_size,
            scales=geometry.scales,
            num_glimpses=geometry.num_glimpses,
            num_networks=len(networks),
            **further,
        )

    @property
    def geometry(self) -> Geometry:
        """The glimpses that the networks take."""
        return Geometry(self.image_size, self.config.glimpse_size, self.config.stride, self.num_glimpses, self.scales)

    @property
    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "config": self.config.to_json}


Network = TypeVar("Network", bound=GlimpsePosterior)
_REDUCTION = ("reduction.mean", "reduction.components")


@dataclass(frozen=True)
class ArtifactKind(Generic[Card]):
    """One kind of artefact, and where its files are."""

    name: str
    """What it is called in messages."""
    card: type[Card]
    """Its card's class."""
    script: str
    """Script that trains one."""
    missing: type[GlimpseError]
    """Error raised where there is none."""
    cache: str
    """Folder of the cache that holds those of this machine."""
    shipped: tuple[str, str]
    """Package, and folder in it, of those that come with the package."""

    def cached_path(self, name: str) -> Path:
        """Returns where the weights called ``name`` are kept in the cache."""
        return cache_folder() / self.cache / f"{name}.safetensors"

    def find(self, cached: Path, shipped: str, fits: Callable[[Card], bool]) -> Path | None:
        """Returns the path of an artefact whose card fits: in the cache, else shipped; None where there is none.

        Args:
            cached: its path in the cache.
            shipped: its name among those that come with the package.
            fits: says whether a card is the right one.

        Raises:
            ArtifactError: if a card is damaged or of another format.
        """
        package, folder = self.shipped
        for path in (cached, Path(str(resources.files(package) / folder / f"{shipped}.safetensors"))):
            if path.is_file() and fits(self.read_card(path)):
                return path
        return None

    def read_card(self, path: Path) -> Card:
        """Returns the card beside the weights at ``path``.

        Raises:
            ArtifactError: if it is damaged or of another format.
        """
        try:
            content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(
                f"the card of the {self.name} at {path} is no JSON ({error}); train the {self.name} again."
            ) from error
        if content.get("format") != self.card.format:
            raise ArtifactError(
                f"the {self.name} at {path} has format {content.get('format')}, not {self.card.format}; train it again."
            )
        return self.card(**{**content, "config": PosteriorConfig(**content["config"])})

    def save(self, path: str | Path, networks: Sequence[GlimpsePosterior], card: Card, *, half: bool = False) -> None:
        """Writes the weights to ``path``, in half precision where ``half``, and the card beside it as ``.json``."""
        path = Path(path)
        tensors = {
            f"{k}.{name}": (value.half() if half and value.is_floating_point() else value).contiguous()
            for k, network in enumerate(networks)
            for name, value in network.state_dict().items()
        }
        frozen = networks[0].frozen
        if frozen is not None and frozen.reduction is not None:  # the same of all networks, and never in half precision
            arrays = (frozen.reduction.mean, frozen.reduction.components)
            tensors |= {name: array.contiguous() for name, array in zip(_REDUCTION, arrays, strict=True)}
        with whole_file(path) as temporary:
            save_file(tensors, temporary)
        write_json(path.with_suffix(".json"), card.to_json)

    def load(
        self, path: str | Path, make: Callable[[Card, GlimpseFeatures | None], Network]
    ) -> tuple[list[Network], Card]:
        """Returns the networks and the card that :meth:`save` wrote. A frozen encoder is not loaded yet.

        Args:
            path: of the weights.
            make: makes one network of the card's shape, on frozen features where the card names some.

        Raises:
            GlimpseError: of the class :attr:`missing`, if a file is missing.
            ArtifactError: if a file is damaged or of another format.
        """
        path = Path(path)
        try:
            card = self.read_card(path)
            tensors = load_file(path)
            frozen = _frozen_features(card, tensors) if is_frozen(card.config.encoder) else None
            networks = []
            for k in range(card.num_networks):
                network, prefix = make(card, frozen), f"{k}."
                network.load_state_dict(
                    {
                        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
                        for name, value in tensors.items()
                        if name.startswith(prefix)
                    }
                )
                networks.append(network)
        except FileNotFoundError as error:
            raise self.missing(f"no {self.name} at {path} ({error}); train one with scripts/{self.script}.") from error
        except (SafetensorError, RuntimeError, KeyError, TypeError, OSError) as error:
            raise ArtifactError(f"the {self.name} at {path} cannot be read ({error}); train it again.") from error
        return networks, card

    def command(self, source: DataSource, *words: str) -> str:
        """Returns the command line that trains one for a data set, with further ``words``."""
        options = source.chosen_options
        root = options.pop("root", None)
        command = ["python", f"scripts/{self.script}", "--env", env_of(source.name)]
        command += ["--root", root] if root else []
        command += ["--dataset-options", json.dumps(options)] if options else []
        return shlex.join([*command, "--scales", str(source.geometry.scales), *words])


def _frozen_features(card: ArtifactCard, tensors: dict[str, Any]) -> StoredFeatures:
    """Returns the features that a card names, with the reduction among an artefact's ``tensors``."""
    config, arrays = card.config, [tensors[name] for name in _REDUCTION if name in tensors]
    channels, reduction = config.channels // card.scales, Reduction(*arrays) if arrays else None
    return StoredFeatures(config.encoder, config.encoder_identity, config.features, channels, card.scales, reduction)


class TrainedNetworks(Generic[Network, Card]):
    """The networks of an artefact. They are pickled by their weights and the name of their device.

    Attributes:
        networks: K networks in evaluation mode, gradients off.
        card: see :class:`ArtifactCard`.
        geometry, grid: the glimpses that the networks take, and where.
    """

    tensors: ClassVar[tuple[str, ...]] = ()
    """Cached properties that hold tensors on the device."""

    def __init__(self, networks: Sequence[Network], card: Card):
        self.networks = [network.eval().requires_grad_(False) for network in networks]
        self.card = card
        self.geometry = card.geometry
        self.grid = self.geometry.grid

    @property
    def device(self) -> torch.device:
        """Where the networks are, and all tensors that are made with them."""
        return self.networks[0].device

    def to(self: Trained, device: torch.device | str) -> Trained:
        """Moves the networks, and the frozen encoder for all who share it, to a device; returns these."""
        for network in self.networks:
            network.to(device)
        if self.frozen is not None:
            self.frozen.to(device)
        for name in self.tensors:
            self.__dict__.pop(name, None)
        return self

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in self.tensors}
        if self.device.type != "cpu":  # what holds the weights then belongs to this process
            kept["networks"] = [deepcopy(network).cpu() for network in self.networks]
        return kept | {"device": str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = state.pop("device")
        self.__dict__.update(state)
        if device != "cpu":
            self.to(device)

    @property
    def identity(self) -> str:
        """A fingerprint of the weights and the card."""
        weights = (value.cpu().numpy() for network in self.networks for value in network.state_dict().values())
        return digest(self.card.to_json, *weights)

    @property
    def frozen(self) -> GlimpseFeatures | None:
        """The frozen features that all networks read; None where each has convolutions of its own."""
        return self.networks[0].frozen

    def encode_once(self, glimpses: np.ndarray) -> np.ndarray | Tensor:
        """Returns what networks then take in place of glimpses, so that none encodes a glimpse anew.

        Args:
            glimpses: (B, g, g, C * scales) uint8.

        Returns:
            Frozen features (B, W) float32, the same for all networks; where each has convolutions of its own, the
            glimpses.
        """
        if self.frozen is None:
            return glimpses
        # without a glimpse, as before an episode's first, the encoder need not be loaded
        return self.frozen.encode(glimpses) if len(glimpses) else torch.empty(0, self.frozen.width)

    @staticmethod
    def features_of(network: GlimpsePosterior, encoded: np.ndarray | Tensor) -> Tensor:
        """Returns features (B, F) float32 that a network reads, from what :meth:`encode_once` returned."""
        if isinstance(encoded, Tensor):
            return encoded.to(network.device)
        return network.encode_glimpses(torch.from_numpy(encoded))
