"""Small worlds of 3 x 3 images in which where to look and until when can be solved exactly, and oracles for them."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from oracles.boed.anytime import AnytimeConfig, AnytimeOracle
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.validation.optimal import AnytimeProblem
from oracles.validation.toy_world import ExactJudge, ToyWorld


def world_of(rows: list[tuple[list[int], int]]) -> ToyWorld:
    """The world of some images of nine pixels, with their classes."""
    images = np.array([row for row, _ in rows], dtype=np.uint8).reshape(-1, 3, 3, 1)
    return ToyWorld.of_images(images, np.array([label for _, label in rows]))


TOGETHER = world_of(
    [
        ([a, b, 7, 7, hint if a != b else 255 - hint, 7, 7, 7, 7], int(a != b))
        for a, b in itertools.product((0, 255), repeat=2)
        for hint in (255, 255, 255, 0)
    ]
)
"""The class is whether pixels 0 and 1 differ; either alone tells nothing. Pixel 4 tells it three times in four."""

HOPELESS = world_of(
    [([family, detail, 7, 7, 7, 7, 7, 7, 7], 2 * (family > 0) + label)
     for family, detail, label in ((0, 0, 0), (0, 255, 1), (255, 0, 0), (255, 255, 0), (255, 0, 1), (255, 255, 1))
     for _ in range(2 if family == 0 else 1)]
)  # fmt: skip
"""Pixel 0 tells the family. Of the first family pixel 1 tells the class, of the second nothing does."""


def random_world(seed: int) -> ToyWorld:
    """Sixteen images of three values, of four classes."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(4), rng.integers(0, 4, 12)])
    return ToyWorld.of_images(rng.choice(np.array([0, 120, 255], dtype=np.uint8), size=(16, 3, 3, 1)), labels)


def exact_completions(world: ToyWorld) -> CompletionConfig:
    """All images of the world, of which those count that show what was seen, each as much."""
    return CompletionConfig(bandwidth=1e-3, samples=len(world.labels), short_list=len(world.labels))


def exact_judge(problem: AnytimeProblem) -> ExactJudge:
    judge = ExactJudge(problem.world)
    judge.geometry, judge.card.num_glimpses = problem.geometry, problem.num_glimpses
    return judge


def images_of(problem: AnytimeProblem, **fields: Any) -> Any:
    """The images of a problem's world, once each, as a split of a data set."""
    world = problem.world
    return replace(world.dataset(world.likelihood.argmax(-1), world.labels, **fields), geometry=problem.geometry)


def greedy(problem: AnytimeProblem, criterion: str) -> BOEDOracle:
    """The oracle with all images of a problem's world, which does not stop."""
    config = OracleConfig(criterion, exact_completions(problem.world))
    return BOEDOracle(images_of(problem), exact_judge(problem), config)


def anytime(problem: AnytimeProblem, **config: Any) -> AnytimeOracle:
    """The oracle that stops, with all images of a problem's world and among all of its places."""
    oracle = OracleConfig("entropy", exact_completions(problem.world))
    settings = {"cost": problem.cost, "criterion": problem.criterion, "places": 9, "oracle": oracle, **config}
    return AnytimeOracle(images_of(problem), exact_judge(problem), AnytimeConfig(**settings))
