"""Demonstrations as agents learn them: states and target distributions over actions."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.geometry import Geometry, LocationGrid
from glimpse_env.sensing.observations import EmbeddingObserver, FeatureObserver, HistoryObserver

if TYPE_CHECKING:
    from oracles.demonstrations import Demonstrations

DEMONSTRATIONS_PER_CHUNK = 256
"""Demonstrations that are encoded, embedded or played together, at most."""
HistoryMode = Literal["history", "embedding", "features"]
HISTORY_OBSERVERS: dict[HistoryMode, type[HistoryObserver]] = {
    "history": HistoryObserver,
    "embedding": EmbeddingObserver,
    "features": FeatureObserver,
}
"""Observations that show an agent all its glimpses: their pixels, or numbers in place of those."""
Targets = Literal["soft", "argmax"]
"""Targets that follow the EPE maps, or only the locations taken."""


@dataclass(frozen=True)
class CloningData:
    """Demonstrations as states and target distributions: T states each, one before every glimpse.

    Where actions can stop there are L + 1 of them, and the states behind a stop have no target.

    Raises:
        ArtifactError: if the arrays' shapes do not fit.
    """

    grid: LocationGrid
    indices: np.ndarray
    """(N,) int64: indices of the images in their split."""
    taken: np.ndarray
    """(N, T) int64: grid locations in the order they were looked at, L to stop, -1 behind that."""
    glimpses: np.ndarray
    """(N, T - 1, g, g, C * scales) uint8, or (N, T - 1, D) float16 embeddings or features: the glimpses there; no
    action follows the last one. Zeros from a stop on."""
    targets: np.ndarray
    """(N, T, L) float32: q(l | s_t), the distribution to imitate; (N, T, L + 1) where actions can stop. All zero where
    there is no target: behind a stop and, with ``"argmax"``, where the demonstrator looked at a location for the second
    time."""
    observation: HistoryMode = "history"
    """Observation whose states these are."""
    stop: bool = False
    """Whether actions can stop."""

    def __post_init__(self) -> None:
        count, steps = self.taken.shape
        shapes = self.indices.shape, self.glimpses.shape[:2], self.targets.shape
        if shapes != ((count,), (count, steps - 1), (count, steps, self.num_actions)):
            raise ArtifactError(
                f"indices {self.indices.shape}, locations {self.taken.shape}, glimpses {self.glimpses.shape} "
                f"and targets {self.targets.shape} of demonstrations do not belong together."
            )

    @classmethod
    def from_demonstrations(
        cls,
        demonstrations: "Demonstrations",
        dataset: GlimpseDataset,
        *,
        targets: Targets = "soft",
        temperature: float = 0.02,
        stop: bool | None = None,
    ) -> "CloningData":
        """Cuts the demonstrations' glimpses out of the images, and computes the targets.

        Args:
            demonstrations: N sequences.
            dataset: the split that they were made on.
            targets: ``"soft"`` for q(l) = softmax(-EPE(l) / temperature) over the locations not yet looked
                at, and to stop, ``"argmax"`` for all of q on the action taken. A stop that does not follow from the
                maps has all of q.
            temperature: in the unit of the EPE maps, nats or expected success.
            stop: whether the agent's actions can stop; default whether the demonstrator's could.

        Raises:
            ConfigurationError: if an argument is out of range, targets are ``"soft"`` and there are no maps, or the
                demonstrator could stop and the agent cannot.
            ArtifactError: if the demonstrations do not fit the data set.
        """
        geometry, grid = dataset.geometry, dataset.geometry.grid
        locations, indices = demonstrations.locations, demonstrations.indices
        stop = demonstrations.stops if stop is None else stop
        if demonstrations.stops and not stop:
            raise ConfigurationError(
                "these demonstrations stop, which an agent without an action to stop cannot learn; take an environment "
                "with stop=True."
            )
        if locations.shape[1] != geometry.num_glimpses:
            raise ArtifactError(
                f"the demonstrations have {locations.shape[1]} glimpses a sequence, {dataset.name} has "
                f"{geometry.num_glimpses}; make them again."
            )
        for name, values, end in (("image", indices, len(dataset)), ("location", locations, len(grid))):
            if values.min(initial=0) < -(stop and name == "location") or values.max(initial=0) >= end:
                raise ArtifactError(
                    f"the demonstrations name {name}s {values.min()} to {values.max()}, "
                    f"{dataset.name}/{dataset.split} has {end}; make them again."
                )
        rows = np.repeat(indices, geometry.num_glimpses - 1)
        glimpses = geometry.sensor(dataset.images, rows, grid.corners[locations[:, :-1].clip(0).reshape(-1)])
        glimpses = glimpses.reshape(len(locations), geometry.num_glimpses - 1, *glimpses.shape[1:])
        glimpses[locations[:, :-1] < 0] = 0
        stops = np.arange(geometry.num_glimpses) == demonstrations.lengths[:, None]
        taken = np.where(stops, len(grid), locations)
        distributions = _target_distributions(targets, taken, demonstrations.epe, len(grid), stop, temperature)
        return cls(grid, indices, taken, glimpses, distributions, stop=stop)

    def __len__(self) -> int:
        """Returns N, the number of demonstrations."""
        return len(self.taken)

    def chunks(self) -> list[np.ndarray]:
        """Returns the indices of the demonstrations, in order, in chunks that are computed together."""
        return np.split(np.arange(len(self)), range(DEMONSTRATIONS_PER_CHUNK, len(self), DEMONSTRATIONS_PER_CHUNK))

    @property
    def num_glimpses(self) -> int:
        """T, glimpses in a demonstration."""
        return self.taken.shape[1]

    @property
    def num_actions(self) -> int:
        """L, and one more where actions can stop."""
        return len(self.grid) + self.stop

    @property
    def looked(self) -> np.ndarray:
        """(N, T - 1) bool: which of the glimpses were taken."""
        return (self.taken[:, :-1] >= 0) & (self.taken[:, :-1] < len(self.grid))

    @property
    def places(self) -> np.ndarray:
        """(N, T - 1) int64: grid locations of the glimpses, 0 where there is none."""
        return np.where(self.looked, self.taken[:, :-1], 0)

    def __getitem__(self, rows: Any) -> "CloningData":
        """Returns some of the demonstrations; ``rows`` is a slice, an index array or a mask."""
        names = ("indices", "taken", "glimpses", "targets")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def with_mirror_images(self) -> "CloningData":
        """Returns 2 N demonstrations, these and their mirror images, for classes that are symmetric.

        Raises:
            ConfigurationError: if the grid of locations is not symmetric, or glimpses are no pixels.
        """
        if self.observation != "history":
            key = HISTORY_OBSERVERS[self.observation].key
            raise ConfigurationError(f"{key} cannot be mirrored; mirror the demonstrations first, then embed them.")
        if not self.grid.mirror_symmetric:
            raise ConfigurationError(
                f"locations at every {self.grid.stride} of {self.grid.span} pixels are not symmetric, "
                "so demonstrations on them cannot be mirrored."
            )
        mirror = np.append(self.grid.mirrored, len(self.grid))[: self.num_actions]
        return CloningData(
            self.grid,
            np.concatenate([self.indices, self.indices]),
            np.concatenate([self.taken, np.where(self.taken < 0, -1, mirror[self.taken])]),
            np.concatenate([self.glimpses, self.glimpses[..., ::-1, :]]),
            np.concatenate([self.targets, self.targets[..., mirror]]),
            stop=self.stop,
        )

    @torch.inference_mode()
    def embedded(self, judge: Judge) -> "CloningData":
        """Returns these with embeddings by the judge's first network in place of pixels, as in observations of
        ``observation="embedding"``."""
        network = judge.networks[0]
        embeddings = []
        for rows in self.chunks():
            places = torch.from_numpy(self.grid.normalised[self[rows].places])  # (n, T - 1, coordinates)
            features = network.encode_glimpses(torch.from_numpy(np.ascontiguousarray(self.glimpses[rows])))
            embeddings.append(network.embed(features, places).half().cpu().numpy())  # (n, T - 1, D)
            embeddings[-1][~self[rows].looked] = 0
        return replace(self, glimpses=np.concatenate(embeddings), observation="embedding")

    def featured(self, table: FeatureTable) -> "CloningData":
        """Returns these with frozen features in place of pixels, as in observations of ``observation="features"``.

        Args:
            table: the features of the split that these were made on; with two copies, the original and its mirror
                image, of data as :meth:`with_mirror_images` returns it, else with the original alone.
        """
        parts = np.split(np.arange(len(self)), len(table.copies))
        features = [table(self.indices[rows, None], self[rows].places, copy) for copy, rows in enumerate(parts)]
        glimpses = np.concatenate(features)
        glimpses[~self.looked] = 0
        return replace(self, glimpses=glimpses, observation="features")

    def split(self, held_out: float, seed: int) -> tuple["CloningData", "CloningData"]:
        """Returns a part to train on and a held-out part; all demonstrations of one image are in the same part.

        Args:
            held_out: share of the images held out, in (0, 1).
            seed: seed of which images.

        Raises:
            ConfigurationError: if one part would be empty.
        """
        images = np.unique(self.indices)
        count = round(held_out * len(images))
        if not 0 < count < len(images):
            raise ConfigurationError(
                f"held_out={held_out} of {len(images)} images leaves one part empty; give more demonstrations or "
                "another share."
            )
        held = np.isin(self.indices, np.random.default_rng(seed).permutation(images)[:count])
        return self[~held], self[held]

    def batch(self, rows: np.ndarray, steps: np.ndarray) -> tuple[dict[str, Tensor], Tensor]:
        """Returns states as environments observe them, and their targets.

        Args:
            rows: (n,) int, indices of demonstrations.
            steps: (n,) int in 0..T - 1, number of actions before each state; behind a stop it is the last one.

        Returns:
            Observation tensors of n states, and targets (n, L) float32.
        """
        grid, width = self.grid, self.glimpses.shape[-1]  # all scales' channels, or the numbers in their place
        observer = HISTORY_OBSERVERS[self.observation](
            Geometry(grid.image_size, grid.glimpse_size, grid.stride, self.num_glimpses, zooms=grid.zooms), width
        )
        observations = observer.blank(len(rows))
        for t in range(int(steps.max(initial=0))):
            which = np.flatnonzero((steps > t) & self.looked[rows, t])
            corners = self.grid.corners[self.taken[rows[which], t]]
            observer.write(observations, t, self.glimpses[rows[which], t], corners, which)
        tensors = {key: torch.from_numpy(value) for key, value in observations.items()}
        return tensors, torch.from_numpy(self.targets[rows, steps])


def _target_distributions(
    targets: Targets, taken: np.ndarray, epe: np.ndarray | None, num_locations: int, stop: bool, temperature: float
) -> np.ndarray:
    """Returns targets (N, T, A) float32 for the actions ``taken`` (N, T), of which there are A = L or, with ``stop``,
    L + 1, and maps ``epe`` (N, T, L or A), see :meth:`CloningData.from_demonstrations`."""
    num_actions = num_locations + stop
    going_on = taken >= 0  # (N, T)
    looked = np.eye(num_actions, dtype=bool)[taken] & going_on[..., None]  # (N, T, A)
    visited = np.zeros_like(looked)
    visited[:, 1:] = np.logical_or.accumulate(looked, axis=1)[:, :-1]
    if targets == "argmax":
        return (looked & ~visited).astype(np.float32)
    if targets != "soft":
        raise ConfigurationError(f"targets={targets!r} must be one of {', '.join(get_args(Targets))}.")
    if temperature <= 0:
        raise ConfigurationError(f"temperature={temperature} must be positive.")
    if epe is None:
        raise ConfigurationError('these demonstrations have no EPE maps for soft targets; use targets="argmax".')
    if stop and epe.shape[2] == num_locations:  # of a demonstrator that cannot stop, for an agent that can
        epe = np.concatenate([epe, np.full_like(epe[..., :1], np.nan)], axis=2)
    if epe.shape != looked.shape:
        raise ArtifactError(f"EPE maps are {epe.shape}, where {looked.shape} is needed; make the demonstrations again.")
    usable = np.isfinite(epe) & ~visited
    lacking = going_on & ~usable.any(axis=-1)
    if lacking.any():
        n, t = np.argwhere(lacking)[0]
        raise ArtifactError(f"demonstration {n} has no finite EPE before glimpse {t + 1}; make them again.")
    decided = looked & ~np.isfinite(epe) & (np.arange(num_actions) == num_locations)  # a stop that has no value
    usable = np.where(decided.any(axis=-1, keepdims=True), decided, usable)
    scores = np.where(usable, np.where(decided, 0.0, -epe.astype(np.float32) / temperature), -np.inf)
    scores = np.where(going_on[..., None], scores, 0.0)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (going_on[..., None] * weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
