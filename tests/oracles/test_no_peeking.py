"""No policy but those that say so knows more of an image than its glimpses: checked for all of them, by name."""

import re
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from glimpse_env.datasets.base import DataSource, GlimpseDataset, LabelledImages, Split
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from glimpse_env.sensing.observations import Histories, HistoryObserver
from glimpse_env.sensing.sensor import Sensor
from oracles.registry import POLICIES, make_policy, peeks, unavailable_reason
from tests.support.toy import GEOMETRY, NUM_CLASSES, SIZE, toy_dataset, toy_judge

PEEKING = frozenset(name for name in POLICIES if peeks(name))
"""Policies that may look at more than glimpses, by their own word. That ``human`` does is tested with photographs that
people looked at, in test_human.py; that ``boed-clairvoyant-stop`` does, which hardly looks for this untrained judge, in
test_baselines.py."""
ELSEWHERE = ("best", "coarse-to-fine")
"""Policies for images that these are not: diagnostics, and images that are looked at with zooms."""
HONEST = [name for name in POLICIES if name not in (*PEEKING, *ELSEWHERE)]
IMAGES = 3
"""Hidden images at a time."""
SAYS_SO = re.compile(r"\bpeeks\b|\bsees (all|the image)\b", re.IGNORECASE)


class NoiseSource(DataSource):
    """Images of noise, with parts."""

    name = "toy"
    geometry = GEOMETRY
    image_shape = (SIZE, SIZE, 1)
    num_folds = 2
    class_names = tuple(f"class {k}" for k in range(NUM_CLASSES))
    part_names = ("beak", "tail")
    fingerprint = "toy"
    options: ClassVar[dict[str, Any]] = {}

    def size(self, split: Split) -> int:
        return 24

    def load(self, split: Split) -> GlimpseDataset:
        return hidden(0, split)

    def fill(self, *arguments: Any, **fields: Any) -> None:
        raise NotImplementedError

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        raise NotImplementedError


def hidden(seed: int, split: Split) -> GlimpseDataset:
    """Another data set for every seed: its pixels and its parts; labels are shifted by it. Folds only in ``train``."""
    labels = (np.arange(24) + seed) % NUM_CLASSES
    parts = np.random.default_rng(seed).uniform(0, SIZE, (24, 2, 3)).astype(np.float32)
    other = {} if split == "train" else {"folds": np.full(24, -1)}
    return toy_dataset(seed=seed, split=split, labels=labels, part_names=("beak", "tail"), parts=parts, **other)


def choices(name: str, dataset: GlimpseDataset, indices: np.ndarray, begin: bool) -> tuple[np.ndarray, list[Any]]:
    """Where a fresh policy looks on some images (N, T), and the map it made before each look.

    Args:
        name: of the policy.
        dataset: the split looked at.
        indices: (N,) images of it.
        begin: whether episodes begin with the policy's ``start(dataset, indices)``.
    """
    judge, maps = toy_judge(GEOMETRY), []
    policy = make_policy(name, NoiseSource(), judge, seed=5)
    rollouts = play(
        policy,
        dataset,
        judge,
        indices,
        stop=POLICIES[name].stops,
        progress=False,
        start=(lambda chosen: policy.start(dataset, chosen)) if begin else None,
        on_step=lambda _rows, _t, _policy: maps.append(None if policy.last_maps is None else policy.last_maps.copy()),
    )
    return rollouts.locations, maps


def differences(name: str, begin: bool) -> list[str]:
    """How the choices and maps of a policy differ between images that show the same glimpses; none if it is honest.

    Once for every step t: two sets of images, of different splits, indices, labels and parts, that are the same in the
    first t windows the policy looks at, and different noise wherever else.
    """
    first, second = np.array([3, 8, 13]), np.array([21, 5, 4])  # not in the bank: of neither is the split ``train``
    here, there = hidden(1, "test"), hidden(2, "val")
    assert (here.labels[first] != there.labels[second]).all()
    locations, maps = choices(name, here, first, begin)
    found = []
    for t in range(GEOMETRY.num_glimpses):
        images = there.images.copy()
        corners = toy_judge(GEOMETRY).grid.corners[locations[:, :t]]  # (N, t, 2)
        for n in range(IMAGES):
            for row, col in corners[n]:
                window = slice(row, row + GEOMETRY.glimpse_size), slice(col, col + GEOMETRY.glimpse_size)
                images[second[n]][window] = here.images[first[n]][window]
        copied = replace(there, images=images)
        assert (copied.images[second] != here.images[first]).mean() > 0.3
        others, other_maps = choices(name, copied, second, begin)
        if (others[:, : t + 1] != locations[:, : t + 1]).any():
            found.append(f"glimpse {t + 1} is elsewhere")
        for s, (ours, theirs) in enumerate(zip(maps[: t + 1], other_maps, strict=False)):
            if (ours is None) != (theirs is None) or (ours is not None and ours.tobytes() != theirs.tobytes()):
                found.append(f"map {s + 1} is another")
    return found


@pytest.mark.parametrize("begin", [True, False], ids=["started", "unstarted"])
@pytest.mark.parametrize("name", HONEST)
def test_the_same_glimpses_give_the_same_choice_whatever_the_image(name: str, begin: bool) -> None:
    assert differences(name, begin) == []


@pytest.mark.parametrize("name", sorted(PEEKING - {"human", "boed-clairvoyant-stop"}))
def test_those_that_peek_are_caught(name: str) -> None:
    """The check above would find them, so it means something for the others."""
    assert differences(name, begin=True)


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("human", *ELSEWHERE)])
def test_a_policy_that_peeks_says_so_and_no_other(name: str) -> None:
    policy = make_policy(name, NoiseSource(), toy_judge(GEOMETRY))
    said = type(policy).__doc__ or ""
    assert bool(SAYS_SO.search(said)) == (name in PEEKING), f"{name}: {said}"


def test_names_of_those_that_peek_are_policies() -> None:
    assert set(POLICIES) >= PEEKING
    assert "oracle" in HONEST


def test_windows_copied_are_what_the_sensor_cuts() -> None:
    """The images compared do show the same glimpses."""
    dataset = hidden(1, "test")
    corner = np.array([[8, 20]])
    seen = Sensor(GEOMETRY.glimpse_size)(dataset.images, np.array([3]), corner)[0]
    np.testing.assert_array_equal(seen, dataset.images[3][8 : 8 + 12, 20 : 20 + 12])


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_refuses_a_full_history(name: str) -> None:
    source, judge = NoiseSource(), toy_judge(GEOMETRY)
    reason = unavailable_reason(name, source)
    if reason is not None:
        pytest.skip(reason)
    policy, steps = make_policy(name, source, judge), GEOMETRY.num_glimpses
    histories = Histories.empty(2, steps, GEOMETRY.glimpse_size, 1)
    observe = HistoryObserver(GEOMETRY, 1)
    histories.counts[:] = steps - 1
    policy.predict(observe(histories), policy.start(source.load("test"), np.arange(2)))
    histories.counts[1] = steps
    with pytest.raises(ConfigurationError, match=f"history of {steps} glimpses is full"):
        policy.predict(observe(histories), policy.start(source.load("test"), np.arange(2)))
