"""The interface of data sets: splits as memory-mapped arrays, and fresh images for training judges and oracles."""

import copy
import inspect
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm.auto import tqdm

from glimpse_env.errors import ArtifactError, ConfigurationError, DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import cache_folder, kept, load_array, new_arrays, whole_folder, write_json
from glimpse_env.sensing.geometry import Geometry, checked_zooms

logger = logging.getLogger(__name__)

Split = Literal["train", "val", "test", "judge", "oracle"]
"""``train``: agents learn from it and the oracle's bank is it. ``val``: for choosing. ``test``: for reporting only.
``judge`` and ``oracle``: only in drawn data sets, what the judge and the amortised oracle are trained on."""

PUBLIC_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def data_root(root: str | Path | None = None) -> Path:
    """Returns the folder of the data sets: the argument, else ``GLIMPSE_DATA``, else a per-user cache folder."""
    return Path(os.path.expanduser(root or os.environ.get("GLIMPSE_DATA") or cache_folder() / "data"))


@dataclass(frozen=True)
class LabelledImages:
    """N images of a split, or for one pass of training, and what is known of them."""

    images: np.ndarray
    """(N, H, W, C) uint8; those of a split are memory-mapped."""
    labels: np.ndarray
    """(N,) int64 in 0..len(class_names) - 1."""
    folds: np.ndarray
    """(N,) int64: index of the judge's network that may judge an image, as it was not trained on it; -1 for all."""
    parts: np.ndarray
    """(N, P, 3) float32: row and column in pixels, and 1 where visible, else 0."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> "LabelledImages":
        """Returns copies of the images ``rows`` (n,)."""
        return LabelledImages(*(np.asarray(getattr(self, field.name)[rows]) for field in fields(LabelledImages)))


@dataclass(frozen=True, kw_only=True)
class GlimpseDataset(LabelledImages):
    """One split of a data set.

    Raises:
        DatasetFormatError: where shapes or dtypes disagree or a class of the training split has no image.
    """

    name: str
    """Name of the data set, e.g. ``"birds"``."""
    split: Split
    class_names: tuple[str, ...]
    part_names: tuple[str, ...]
    """Names of the P parts; empty where the data set has none."""
    fingerprint: str
    """Fingerprint of the data set, the same for all its splits."""
    geometry: Geometry
    """Where and how glimpses of the images are taken."""

    def __post_init__(self) -> None:
        count = len(self.images)
        for field, (shape, dtype) in _layout(count, self.images.shape[1:], len(self.part_names)).items():
            array = getattr(self, field)
            if array.dtype != dtype or array.shape != shape:
                raise DatasetFormatError(
                    f"{self.name}/{self.split}: {field} is {array.dtype} {array.shape}, "
                    f"where {np.dtype(dtype)} {shape} is needed."
                )
        if count == 0:
            raise DatasetFormatError(f"{self.name}/{self.split} holds no image; check the data set's split file.")
        present = np.bincount(self.labels, minlength=len(self.class_names))
        if self.split == "train" and (present == 0).any():
            empty = self.class_names[int(np.argmin(present))]
            raise DatasetFormatError(
                f"{self.name}: class {empty!r} has no training image; add images or leave the class out."
            )

    def __getstate__(self) -> dict[str, Any]:
        """Pickles memory-mapped arrays as the paths of their files."""
        return {name: Path(str(v.filename)) if _is_mapped(v) else v for name, v in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, Path):
                try:
                    value = load_array(value)
                except FileNotFoundError as error:
                    raise DatasetNotFoundError(
                        f"{value}, which a pickled environment of {state['name']} reads, is gone; make it anew."
                    ) from error
            object.__setattr__(self, name, value)  # the class is frozen


def _layout(count: int, image_shape: tuple[int, ...], num_parts: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Returns shape and dtype of each array of a split with ``count`` images."""
    return {
        "images": ((count, *image_shape), np.uint8),
        "labels": ((count,), np.int64),
        "folds": ((count,), np.int64),
        "parts": ((count, num_parts, 3), np.float32),
    }


def _is_mapped(value: Any) -> bool:
    """Returns whether an array is a whole .npy file, memory-mapped."""
    return (
        isinstance(value, np.memmap)
        and value.filename is not None
        and value.offset + value.nbytes == os.path.getsize(value.filename)
    )


class DataSource(ABC):
    """A data set with all its splits: caches them as arrays and gives the images that judges and oracles train on."""

    name: str
    geometry: Geometry
    image_shape: tuple[int, int, int]
    """(H, W, C), square."""
    class_names: tuple[str, ...]
    part_names: tuple[str, ...] = ()
    """Names of the P parts that are annotated."""
    mirror_symmetric: bool = False
    """Whether a mirror image is as likely as the image, and of the same class."""
    num_folds: int
    """Number of networks in the judge of this data set; 1 where the judge has a split of its own."""

    def with_scales(self, scales: int) -> "DataSource":
        """Returns this data set with glimpses of ``scales`` concentric windows.

        Raises:
            ConfigurationError: if the number is out of range.
        """
        changed = copy.copy(self)
        changed.geometry = replace(self.geometry, scales=scales)
        return changed

    def with_zooms(self, zooms: Sequence[int]) -> "DataSource":
        """Returns this data set with glimpses of windows ``zooms`` times as wide, (1,) for no zoom.

        Raises:
            ConfigurationError: if they do not ascend from 1, a window does not fit into the image, or a glimpse has
                several scales.
        """
        changed = copy.copy(self)
        changed.geometry = replace(self.geometry, zooms=checked_zooms(zooms))
        return changed

    @cached_property
    @abstractmethod
    def fingerprint(self) -> str:
        """Text that identifies the content: sources with equal fingerprints have the same image at each index."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """JSON-able keyword arguments that make this source again."""

    @property
    def chosen_options(self) -> dict[str, Any]:
        """The entries of :attr:`options` that differ from the defaults."""
        return self.unless_default(self.options)

    def unless_default(self, options: dict[str, Any]) -> dict[str, Any]:
        """Returns those of some options that the class takes and that differ from its defaults."""
        defaults = inspect.signature(type(self)).parameters
        return {name: value for name, value in options.items() if name in defaults and value != defaults[name].default}

    @abstractmethod
    def size(self, split: Split) -> int:
        """Returns the number of images in a split."""

    @abstractmethod
    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        """Writes a split into its arrays, which arrive zeroed, and ``folds`` as -1.

        ``progress(n)`` is called after every ``n`` further images.
        """

    @abstractmethod
    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        """Draws the images of one pass of training network ``fold``, in random order and augmented.

        None is in the fold that the network judges.
        """

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        """Draws the images of one pass of training network ``fold`` of an amortised oracle.

        None is in that fold, so that the network may be asked about those images afterwards; each comes with the
        index of the judge's network that was not trained on it.
        """
        train = self.load("train")
        return train.take(rng.permutation(np.flatnonzero(train.folds != fold)))

    def load(self, split: Split) -> GlimpseDataset:
        """Returns a split, built into the cache on first use and memory-mapped from there.

        Raises:
            ConfigurationError: if there is no such split.
            DatasetError: if a file of the data set is missing or damaged.
        """
        if split not in get_args(Split) or (split not in PUBLIC_SPLITS and self.num_folds > 1):
            raise ConfigurationError(f"split={split!r} of {self.name} must be one of {', '.join(PUBLIC_SPLITS)}.")
        count = self.size(split)
        folder = cache_folder() / "arrays" / f"{self.name}-{self.fingerprint}" / f"{split}-{count}"
        layout = _layout(count, self.image_shape, len(self.part_names))

        def read(folder: Path) -> dict[str, np.ndarray]:
            arrays = {name: load_array(folder / f"{name}.npy") for name in layout}
            for name, (shape, dtype) in layout.items():
                if arrays[name].shape != shape or arrays[name].dtype != dtype:
                    raise ArtifactError(f"{folder / name}.npy is {arrays[name].dtype} {arrays[name].shape}")
            return arrays

        return GlimpseDataset(
            **kept(folder, read, partial(self._build, split, count)),
            name=self.name,
            split=split,
            class_names=self.class_names,
            part_names=self.part_names,
            fingerprint=self.fingerprint,
            geometry=self.geometry,
        )

    def _build(self, split: Split, count: int, folder: Path) -> None:
        with whole_folder(folder) as temporary:
            arrays = new_arrays(temporary, _layout(count, self.image_shape, len(self.part_names)))
            arrays["folds"][:] = -1
            with tqdm(total=count, desc=f"{self.name}: {split} images", unit="img") as bar:
                self.fill(split, LabelledImages(**arrays), bar.update)
            for array in arrays.values():
                array.flush()
            write_json(
                temporary / "card.json",
                {"name": self.name, "split": split, "fingerprint": self.fingerprint, "options": self.options},
            )
        logger.info("Built %s/%s in %s", self.name, split, folder)


def folds_by_class(labels: np.ndarray, num_folds: int) -> np.ndarray:
    """Assigns the j-th image of each class to fold j mod ``num_folds``: (N,) int64."""
    folds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        folds[members] = np.arange(len(members)) % num_folds
    return folds
