"""Trained networks in files: cards, saving, loading and finding, for judges and amortised oracles alike.

An artefact is a safetensors file with the networks' weights, named ``k.parameter``, and a card beside it as ``.json``,
which is written last and holds the weights' digest: without a card that fits its weights there is no artefact.
Where the networks read the features of a frozen encoder the file also has the reduction of these, but not the encoder.
"""

import json
import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glimpse_env.checks import content_of
from glimpse_env.console.names import command
from glimpse_env.datasets.base import DataSource
from glimpse_env.encoding.features import GlimpseFeatures, StoredFeatures
from glimpse_env.encoding.reduction import Reduction
from glimpse_env.encoding.registry import is_frozen
from glimpse_env.errors import ArtifactError, ConfigurationError, GlimpseError
from glimpse_env.files import (
    cache_folder,
    card_path,
    digest,
    file_digest,
    only_process,
    read_json,
    refuse_special,
    whole_file,
)
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig, encoder_plan
from glimpse_env.presets import env_of
from glimpse_env.sensing.geometry import Geometry

logger = logging.getLogger(__name__)

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
    zooms: list[int] = field(default_factory=lambda: [1])
    """How many times as wide as a glimpse its window can be."""
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
            zooms=list(geometry.zooms),
            num_glimpses=geometry.num_glimpses,
            num_networks=len(networks),
            **further,
        )

    @property
    def geometry(self) -> Geometry:
        """The glimpses that the networks take."""
        config = self.config
        glimpses = (config.glimpse_size, config.stride, self.num_glimpses, self.scales)
        return Geometry(self.image_size, *glimpses, tuple(self.zooms))

    @property
    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, without ``zooms`` where there are none, as in older cards."""
        content = {**asdict(self), "config": self.config.to_json}
        if len(self.zooms) == 1:
            del content["zooms"]
        return content

    def check(self) -> None:
        """Checks that the numbers go together, as their types alone do not say.

        Raises:
            ArtifactError: if they do not.
        """
        config, channels = self.config, self.config.channels
        try:
            encoder_plan(config.glimpse_size, config.stride)
            possible = len(self.geometry.grid) > 0 and channels % self.scales == 0
        except (ValueError, OverflowError) as error:
            raise ArtifactError(f"its geometry is impossible ({error})") from error
        positive = {name: getattr(config, name) for name in ("num_classes", "features", "embedding", "hidden")}
        positive |= {"num_networks": self.num_networks, "channels": channels}
        wrong = [f"{name}={value}" for name, value in positive.items() if value < 1]
        wrong += [f"num_parts={config.num_parts}"] if config.num_parts < 0 else []
        wrong += [f"coordinates={config.coordinates}"] if config.coordinates != self.geometry.grid.coordinates else []
        shares = {"dropout": config.dropout, "input_dropout": config.input_dropout}
        wrong += [f"{name}={value}" for name, value in shares.items() if not 0 <= value < 1]
        if wrong or not possible:
            raise ArtifactError(f"it has {', '.join(wrong) or f'{channels} channels and scales={self.scales}'}")


Network = TypeVar("Network", bound=GlimpsePosterior)
Loaded = TypeVar("Loaded")
_REDUCTION = ("reduction.mean", "reduction.components")
_DIGEST = "weights_digest"
"""Entry of a card's file with the digest of the weights' file; those of version 0.2 and before have none."""


@dataclass(frozen=True)
class ArtifactKind(Generic[Card]):
    """One kind of artefact, and where its files are."""

    name: str
    """What it is called in messages."""
    card: type[Card]
    """Its card's class."""
    script: str
    """Script that trains one, without its suffix."""
    missing: type[GlimpseError]
    """Error raised where there is none."""
    cache: str
    """Folder of the cache that holds those of this machine."""
    shipped: tuple[str, str]
    """Package, and folder in it, of those that come with the package."""

    def cached_path(self, name: str) -> Path:
        """Returns where the weights called ``name`` are kept in the cache."""
        return cache_folder() / self.cache / f"{name}.safetensors"

    def find(
        self, cached: Path, shipped: str, fits: Callable[[Card], bool], load: Callable[[Path], Loaded]
    ) -> Loaded | None:
        """Returns an artefact whose card fits: from the cache, else shipped; None where there is none.

        One in the cache that is damaged or incomplete counts as none, which is said in the log.

        Args:
            cached: its path in the cache.
            shipped: its name among those that come with the package.
            fits: says whether a card is the right one; an ArtifactError says that it should be and is not.
            load: loads it.

        Raises:
            ArtifactError: if a shipped one is damaged.
        """
        package, folder = self.shipped
        path = Path(str(resources.files(package) / folder / f"{shipped}.safetensors"))
        try:
            if fits(self.read_card(cached)[0]):
                return load(cached)
        except (FileNotFoundError, NotADirectoryError):
            if cached.is_file():
                logger.warning("The %s at %s has no card, and so counts as none.", self.name, cached)
        except ArtifactError as error:
            logger.warning("The %s at %s counts as none: %s", self.name, cached, error)
        return load(path) if path.is_file() and fits(self.read_card(path)[0]) else None

    def read_card(self, path: Path) -> tuple[Card, str | None]:
        """Returns the card beside the weights at ``path``, and the digest that these should have; None for an old card,
        which has none.

        Raises:
            FileNotFoundError: if there is no card.
            ArtifactError: if it is damaged or of another format.
        """
        try:
            content = read_json(path.parent / f"{path.stem}.json")
            if content.get("format") != self.card.format:
                raise ArtifactError(f"it has format {content.get('format')}, not {self.card.format}")
            expected = content.pop(_DIGEST, None)
            config = PosteriorConfig(**content_of(PosteriorConfig, content.pop("config", None)))
            card: Card = self.card(config=config, **content_of(self.card, content, "config"))
            card.check()
        except ArtifactError as error:
            raise ArtifactError(
                f"the card of the {self.name} at {path} is damaged: {str(error).rstrip('.')}; train the {self.name} "
                "again."
            ) from error
        return card, expected

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
        beside = card_path(path)
        with only_process([path]), whole_file(beside) as card_file, whole_file(path) as weights_file:
            save_file(tensors, weights_file)
            content = {**card.to_json, _DIGEST: file_digest(weights_file)}
            card_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            beside.unlink(missing_ok=True)  # weights first, then their card: in between there is none

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
            card, expected = self.read_card(path)
            refuse_special(path)
            if expected not in (None, file_digest(path)):
                raise TypeError("these are not the weights of the card beside it")
            tensors = load_file(path)
            frozen = _frozen_features(card, tensors) if is_frozen(card.config.encoder) else None
            with torch.device("meta"):
                _check_weights(tensors, make(card, frozen).state_dict(), card.num_networks)
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
            raise self.missing(
                f"no {self.name} at {path} ({error}); train one with `{command(self.script)}`."
            ) from error
        except OSError as error:
            raise ArtifactError(
                f"the {self.name} at {path} cannot be read ({error.strerror}); name another file, or mend its rights."
            ) from error
        except (SafetensorError, RuntimeError, KeyError, TypeError, ConfigurationError) as error:
            raise ArtifactError(f"the {self.name} at {path} cannot be read ({error}); train it again.") from error
        return networks, card

    def command(self, source: DataSource, *words: str) -> str:
        """Returns the command line that trains one for a data set, with further ``words``."""
        options = source.chosen_options
        root = options.pop("root", None)
        flags = ["--env", env_of(source.name)]
        flags += ["--root", root] if root else []
        flags += ["--dataset-options", json.dumps(options)] if options else []
        flags += ["--scales", str(source.geometry.scales)]
        zooms = source.geometry.zooms
        flags += ["--zooms", *map(str, zooms)] if len(zooms) > 1 else []
        return command(self.script, *flags, *words)


def _frozen_features(card: ArtifactCard, tensors: dict[str, Any]) -> StoredFeatures:
    """Returns the features that a card names, with the reduction among an artefact's ``tensors``."""
    config, arrays = card.config, [tensors.pop(name) for name in _REDUCTION if name in tensors]
    channels, reduction = config.channels // card.scales, Reduction(*arrays) if arrays else None
    return StoredFeatures(config.encoder, config.encoder_identity, config.features, channels, card.scales, reduction)


def _check_weights(tensors: dict[str, Tensor], network: dict[str, Tensor], count: int) -> None:
    """Checks that a file's ``tensors`` are the weights of ``count`` networks with tensors like those of ``network``.

    Raises:
        TypeError: if one is missing, is none of theirs or of another shape, or its numbers are of another kind, not
            finite or variances below 0.
    """
    places = {f"{k}.{name}": value for k in range(min(count, len(tensors))) for name, value in network.items()}
    for name in sorted(places.keys() | tensors.keys()):
        if name not in tensors or name not in places or count > len(tensors):
            raise TypeError(f"it {'lacks' if name not in tensors else 'has no place for'} {name}")
        value, place = tensors[name], places[name]
        if (value.shape, value.is_floating_point()) != (place.shape, place.is_floating_point()):
            raise TypeError(f"{name} is {value.dtype} {tuple(value.shape)}, not {place.dtype} {tuple(place.shape)}")
        if value.is_floating_point() and not value.isfinite().all():
            raise TypeError(f"{name} holds numbers that are not finite")
        if name.endswith(".running_var") and (value < 0).any():
            raise TypeError(f"{name} holds variances below 0")


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
