"""An agent beside other policies on one image: what each looked at, as pictures and as words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.evaluation.recordings import Recording, episode_frames, record
from agents.networks.encoders import observation_of
from agents.reports.episodes import beside
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge


def watch(
    policies: Mapping[str, Any], dataset: GlimpseDataset, judge: Judge, index: int
) -> tuple[list[np.ndarray], list[str]]:
    """Plays one deterministic episode of each policy on an image.

    Args:
        policies: by name, anything with Stable-Baselines3's ``predict``.
        dataset: a split.
        judge: of its data set.
        index: of the image in the split.

    Returns:
        A picture (h, w, 3) uint8 after each glimpse, the policies from left to right; and a line for each glimpse, with
        its place in pixels and the class that the judge then takes for the likeliest.

    Raises:
        ConfigurationError: if there is no such image.
    """
    if not 0 <= index < len(dataset):
        raise ConfigurationError(f"--index {index} must lie in 0..{len(dataset) - 1} for {dataset.split}.")
    image, columns = np.array([index]), []
    lines = [f"{dataset.name}/{dataset.split}, image {index}: {dataset.class_names[int(dataset.labels[index])]}"]
    for name, policy in policies.items():
        space = getattr(policy, "observation_space", None)
        observation = "history" if space is None else observation_of(space) or "history"
        recording = record(policy, dataset, judge, image, observation=observation)
        columns.append(episode_frames(recording, 0, dataset, name=name))
        lines += _told(name, recording, dataset)
    return beside(columns), lines


def _told(name: str, recording: Recording, dataset: GlimpseDataset) -> list[str]:
    """Returns what the only episode of a recording saw, in words."""
    taken = recording.corners.shape[1] if recording.lengths is None else int(recording.lengths[0])
    lines = [f"{name}: {'right' if recording.success[0] else 'wrong'} after {taken} glimpses"]
    for t in range(taken):
        row, column, *zoom = map(int, recording.corners[0, t])
        likeliest = int(recording.probabilities[0, t].argmax())
        share = recording.probabilities[0, t, likeliest]
        wide = f", {zoom[0]} times as wide" if zoom else ""
        lines.append(f"  {t + 1}. row {row}, column {column}{wide}: {dataset.class_names[likeliest]} {share:.0%}")
    return lines
