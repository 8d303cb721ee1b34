"""Episodes of policies with all that pictures of them need, and these pictures step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES, start_on
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_npz, write_npz
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rendering.frames import draw_episode, paint_zoomed
from glimpse_env.rollout import play
from glimpse_env.sensing.geometry import Geometry

MAPPED = ("oracle", "boed", "boed-paper", "kernel", "amortised", "lookahead")
"""Policies whose maps are drawn beside their episodes."""


@dataclass(frozen=True)
class Recording:
    """Episodes of one policy with all that a picture of them shows."""

    indices: np.ndarray
    """(N,) int64: images of the split."""
    corners: np.ndarray
    """(N, T, 2) int64 pixels: top-left corners (row, col); (N, T, 3) with zooms, (row, col, zoom)."""
    probabilities: np.ndarray
    """(N, T, classes) float32: the judge's posterior after each glimpse."""
    maps: np.ndarray | None
    """(N, T, L) float32: what the policy minimised before each glimpse, e.g. the EPE; None where it has no map."""
    map_title: str
    """Title of the maps."""
    success: np.ndarray
    """(N,) bool: whether the judge was right after the last glimpse."""

    def __post_init__(self) -> None:
        shape = self.probabilities.shape[:2]
        arrays = {"indices": (1, "iu"), "corners": (3, "iu"), "probabilities": (3, "f"), "success": (1, "b")}
        for name, (dimensions, kinds) in arrays.items() | ({"maps": (3, "f")}.items() if self.maps is not None else ()):
            array = getattr(self, name)
            if array.ndim != dimensions or array.dtype.kind not in kinds or array.shape[:2] != shape[: array.ndim]:
                raise ArtifactError(
                    f"a recording has {name} of {array.dtype} {array.shape}; record the episodes again."
                )


def record(
    policy: Any,
    dataset: GlimpseDataset,
    judge: Judge,
    indices: np.ndarray,
    *,
    observation: str = "history",
) -> Recording:
    """Plays one deterministic episode on each of a few images and keeps what pictures need.

    Arguments as in :func:`agents.evaluation.evaluate.evaluate`.

    Raises:
        ConfigurationError: if an episode stopped before its T-th glimpse.
    """
    seen: list[list[np.ndarray]] = [[] for _ in range(dataset.geometry.num_glimpses)]

    def keep(_rows: np.ndarray, t: int, policy: Any) -> None:
        maps = getattr(policy, "last_maps", None)
        if maps is not None:
            seen[t].append(np.array(maps, dtype=np.float32))

    rollouts = play(
        policy,
        dataset,
        judge,
        indices,
        observation=observation,
        progress=False,
        start=start_on(policy, dataset),
        on_step=keep,
    )
    if (rollouts.lengths < dataset.geometry.num_glimpses).any():
        raise ConfigurationError(
            "recordings hold episodes of T glimpses, and this policy stopped before; record one that does not stop."
        )
    return Recording(
        indices=rollouts.indices,
        corners=rollouts.corners,
        probabilities=judge_sequences(dataset, judge, rollouts.indices, rollouts.corners),
        maps=np.stack([np.concatenate(step) for step in seen], axis=1) if seen[0] else None,
        map_title=getattr(policy, "map_title", ""),
        success=rollouts.success,
    )


def save_recordings(path: Path, recordings: Mapping[str, Recording]) -> None:
    """Writes recordings by policy to a NumPy archive at ``path``."""
    arrays = {
        f"{name}/{field.name}": np.asarray(getattr(recording, field.name))
        for name, recording in recordings.items()
        for field in fields(recording)
        if getattr(recording, field.name) is not None
    }
    write_npz(path, arrays)


def load_recordings(path: Path) -> dict[str, Recording]:
    """Reads what :func:`save_recordings` wrote.

    Raises:
        ArtifactError: if it cannot be read.
    """
    by_policy: dict[str, dict[str, Any]] = {}
    try:
        for key, array in read_npz(path).items():
            name, _, field = key.rpartition("/")
            by_policy.setdefault(name, {"maps": None})[field] = str(array) if field == "map_title" else array
        return {name: Recording(**arrays) for name, arrays in by_policy.items()}
    except (OSError, ArtifactError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); record the episodes again.") from error


def episode_frames(
    recording: Recording, row: int, dataset: GlimpseDataset, *, name: str, whole: bool = True
) -> list[np.ndarray]:
    """Draws an episode step by step: T pictures, one after each glimpse, the true class named in the last.

    Args:
        recording: of one policy.
        row: index of its episode.
        dataset: the split that was played on.
        name: of the policy. Oracles' pictures show the map that the newest glimpse was chosen by.
        whole: whether the image is shown; else what the glimpses so far have seen of it, on grey.

    Returns:
        (h, w, 3) uint8 pictures of one size.
    """
    index, geometry = int(recording.indices[row]), dataset.geometry
    steps = geometry.num_glimpses
    maps = recording.maps if name in MAPPED else None
    image = np.asarray(dataset.images[index])
    return [
        draw_episode(
            image if whole else _seen(image, recording.corners[row, : t + 1], geometry),
            recording.corners[row, : t + 1],
            geometry,
            recording.probabilities[row, t],
            dataset.class_names,
            label=int(dataset.labels[index]) if t == steps - 1 else None,
            epe_map=None if maps is None else maps[row, t],
            map_title=recording.map_title,
            title=f"{TITLES.get(name, name)}: glimpse {t + 1} of {steps}",
        )
        for t in range(steps)
    ]


def _seen(image: np.ndarray, corners: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns an image (H, W, C) that is grey but for what glimpses at ``corners`` (t, 2 or 3) saw, as coarse as it."""
    if len(geometry.zooms) > 1:
        seen = np.full_like(image, 128)
        paint_zoomed(seen, image, corners, geometry)
        return seen
    size, channels = geometry.glimpse_size, image.shape[2]
    widest = 2 ** (geometry.scales - 1)
    margin = size * (widest - 1) // 2  # of the widest window about the narrowest
    seen = np.pad(np.full_like(image, 128), ((margin, margin), (margin, margin), (0, 0)))
    glimpses = geometry.sensor(image[None], np.zeros(len(corners), dtype=np.int64), corners)
    for scale in reversed(range(geometry.scales)):  # the narrowest, which is the sharpest, on top
        factor = 2**scale
        offset = margin - size * (factor - 1) // 2
        for (top, left), glimpse in zip(corners + offset, glimpses, strict=True):
            window = glimpse[..., scale * channels : (scale + 1) * channels].repeat(factor, 0).repeat(factor, 1)
            seen[top : top + len(window), left : left + len(window)] = window
    return seen[margin : len(seen) - margin, margin : seen.shape[1] - margin]
