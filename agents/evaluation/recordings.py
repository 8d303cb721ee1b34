"""Episodes of policies with all that pictures of them need, and these pictures step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.evaluate import TITLES, start_on
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ArtifactError
from glimpse_env.files import read_npz, write_npz
from glimpse_env.judge.judge import Judge
from glimpse_env.judge.sequences import judge_sequences
from glimpse_env.rendering.frames import draw_episode, paint_zoomed
from glimpse_env.rollout import Rollouts, can_stop, play
from glimpse_env.sensing.geometry import Geometry

MAPPED = ("oracle", "boed", "boed-paper", "kernel", "amortised", "lookahead")
"""Policies whose maps are drawn beside their episodes."""


@dataclass(frozen=True)
class Recording:
    """Episodes of one policy with all that a picture of them shows."""

    indices: np.ndarray
    """(N,) int64: images of the split."""
    corners: np.ndarray
    """(N, T, 2) int64 pixels: top-left corners (row, col); (N, T, 3) with zooms, (row, col, zoom); 0 from a stop on."""
    probabilities: np.ndarray
    """(N, T, classes) float32: the judge's posterior after each glimpse; from a stop on that at the end."""
    maps: np.ndarray | None
    """(N, T, L) float32: what the policy minimised before each glimpse, e.g. the EPE, NaN behind a stop; None where it
    has no map."""
    map_title: str
    """Title of the maps."""
    success: np.ndarray
    """(N,) bool: whether the judge was right after the last glimpse."""
    lengths: np.ndarray | None = None
    """(N,) int64: glimpses taken, where episodes could stop; None where each took T."""

    def __post_init__(self) -> None:
        shape = self.probabilities.shape[:2]
        arrays = {"indices": (1, "iu"), "corners": (3, "iu"), "probabilities": (3, "f"), "success": (1, "b")}
        arrays |= {} if self.maps is None else {"maps": (3, "f")}
        arrays |= {} if self.lengths is None else {"lengths": (1, "iu")}
        for name, (dimensions, kinds) in arrays.items():
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
    """
    steps = dataset.geometry.num_glimpses
    seen: list[np.ndarray] = []

    def keep(rows: np.ndarray, t: int, policy: Any) -> None:
        maps = getattr(policy, "last_maps", None)
        if maps is not None:
            if not seen:
                seen.append(np.full((len(indices), steps, maps.shape[1]), np.nan, dtype=np.float32))
            seen[0][rows, t] = maps

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
    stops = can_stop(policy, dataset, judge)
    return Recording(
        indices=rollouts.indices,
        corners=rollouts.corners,
        probabilities=_probabilities(dataset, judge, rollouts),
        maps=seen[0] if seen else None,
        map_title=getattr(policy, "map_title", ""),
        success=rollouts.success,
        lengths=rollouts.lengths if stops else None,
    )


def _probabilities(dataset: GlimpseDataset, judge: Judge, rollouts: Rollouts) -> np.ndarray:
    """Returns the judge's posterior (N, T, classes) after each glimpse, from a stop on that at the end."""
    lengths, steps = rollouts.lengths, dataset.geometry.num_glimpses
    played = np.where(lengths[:, None, None] > 0, rollouts.corners, 0)
    stopped = np.arange(steps) >= lengths[:, None]
    if stopped.any():
        # windows have to lie in the image, also those that were not looked through
        played[stopped] = dataset.geometry.grid.corners[0]
    after = judge_sequences(dataset, judge, rollouts.indices, played)
    if not stopped.any():
        return after
    glimpses = dataset.geometry.sensor(dataset.images, rollouts.indices, played[:, 0])
    folds = np.asarray(dataset.folds[rollouts.indices])
    before = judge.probabilities(glimpses[:, None], played[:, :1], np.zeros(len(lengths), dtype=np.int64), folds)
    last = np.minimum(np.arange(steps) + 1, lengths[:, None])  # (N, T) glimpses seen
    return np.take_along_axis(np.concatenate([before[:, None], after], axis=1), last[..., None], axis=1)


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
    """Draws an episode step by step: a picture after each glimpse, the true class named in the last; one picture of an
    episode that stopped before the first.

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
    steps = taken = geometry.num_glimpses
    if recording.lengths is not None:
        taken = int(recording.lengths[row])
    maps = recording.maps if name in MAPPED else None
    image = np.asarray(dataset.images[index])
    return [
        draw_episode(
            image if whole else _seen(image, recording.corners[row, : min(t + 1, taken)], geometry),
            recording.corners[row, : min(t + 1, taken)],
            geometry,
            recording.probabilities[row, t],
            dataset.class_names,
            label=int(dataset.labels[index]) if t + 1 >= taken else None,
            epe_map=None if maps is None else maps[row, t],
            map_title=recording.map_title,
            title=f"{name if name == 'agent' else TITLES.get(name, name)}: "  # which may not have been fine-tuned
            + (f"glimpse {t + 1} of {steps}" if t + 1 < taken or taken == steps else f"stops after {taken} of {steps}"),
        )
        for t in range(max(taken, 1))
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
