"""Drawn birds: what every picture keeps to, where species differ, and how hard their parts are to find."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glimpse_env.datasets.birds.anatomy import PART_NAMES, skeleton
from glimpse_env.datasets.birds.drawing import Marks, paint
from glimpse_env.datasets.birds.source import (
    SPLIT_STARTS,
    Birds,
    draw,
    draw_chunks,
    draw_many,
    label_of,
    sample_pose,
    sample_scene,
)
from glimpse_env.datasets.birds.species import ATTRIBUTES, FAMILIES, SPECIES
from glimpse_env.errors import ConfigurationError

GLIMPSE = 32
CORNERS = np.stack(np.meshgrid(np.arange(0, 97, 8), np.arange(0, 97, 8), indexing="ij"), axis=-1).reshape(-1, 2)
INSIDE = 5
"""Pixels between a part and the border of a glimpse that shows it whole."""
REACH = 14.75
"""Pixels around a part within which all that tells its species apart lies."""


def diagnostic(label: int) -> int:
    """Index into PART_NAMES of the part that tells a species apart."""
    return PART_NAMES.index(SPECIES[label].part)


def sure_glimpses(count: int) -> np.ndarray:
    """(count, 169) bool: which grid glimpses show the telling part whole, for poses and species in turn."""
    rng = np.random.default_rng(0)
    places = np.stack([skeleton(sample_pose(rng)).parts()[diagnostic(i % len(SPECIES)), ::-1] for i in range(count)])
    offset = places[:, None] - CORNERS  # (count, 169, 2)
    return np.all((offset >= INSIDE) & (offset <= GLIMPSE - INSIDE), axis=-1)


def test_there_are_48_species_in_8_families_told_apart_by_8_different_parts() -> None:
    assert len(SPECIES) == len({species.name for species in SPECIES}) == 48
    assert len(FAMILIES) == len({family.part for family in FAMILIES}) == 8
    assert {family.part for family in FAMILIES} <= set(PART_NAMES)
    assert len({species.plumage for species in SPECIES}) == 48


def test_a_mark_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"'cone'.*'sabre'"):
        Marks(beak="sabre", crown="", wing="", tail="", feet="red", breast="", eye="", vent="")


def test_a_picture_depends_on_seed_and_index_alone() -> None:
    alone, label = draw(3, 17)
    forwards, same_label = [draw(3, index) for index in (15, 16, 17)][-1]
    (other_seed, _), (other_index, _) = draw(4, 17), draw(3, 18)
    assert np.array_equal(alone.image, forwards.image)
    assert np.array_equal(alone.parts, forwards.parts)
    assert label == same_label
    assert not np.array_equal(alone.image, other_seed.image)
    assert not np.array_equal(alone.image, other_index.image)


def test_processes_draw_the_same_pictures_in_the_same_order() -> None:
    pooled = list(draw_chunks(0, 40, 150, workers=2))
    assert [len(labels) for _, labels, _ in pooled] == [64, 64, 22]
    for array, expected in zip(zip(*pooled, strict=True), draw_many(0, 40, 150), strict=True):
        assert np.array_equal(np.concatenate(array), expected)


def test_every_picture_keeps_its_promises() -> None:
    images, labels, parts = draw_many(0, 0, 144)
    assert images.shape == (144, 128, 128, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert parts.shape == (144, len(PART_NAMES), 3)
    assert parts.dtype == np.float32
    assert (parts[..., 2] == 1).all(), "birds are inside the image as a whole"
    telling = parts[np.arange(144), [diagnostic(label) for label in labels], :2]
    assert telling.min() >= 6
    assert telling.max() <= 128 - 6
    assert (np.bincount(labels) == 3).all()


def test_labels_are_shuffled_anew_every_48_pictures() -> None:
    blocks = np.array([[label_of(0, 48 * block + i) for i in range(48)] for block in range(40)])
    assert (np.sort(blocks, axis=1) == np.arange(48)).all()
    assert len(np.unique(blocks, axis=0)) == 40
    assert len(np.unique(blocks[:, 0])) > 20


@pytest.mark.parametrize("family", range(len(FAMILIES)), ids=[family.name for family in FAMILIES])
def test_species_of_a_family_differ_near_their_part_only_and_clearly(family: int) -> None:
    rows, cols = np.mgrid[0:128, 0:128] + 0.5
    labels = range(6 * family, 6 * family + 6)
    for seed in range(3):
        scene = sample_scene(np.random.default_rng([family, seed]))
        drawings = [paint(scene, SPECIES[label].plumage) for label in labels]
        row, col, _ = drawings[0].parts[diagnostic(labels[0])]
        near = np.hypot(rows - row, cols - col) <= REACH
        for a in range(6):
            for b in range(a):
                difference = np.abs(drawings[a].image.astype(int) - drawings[b].image).max(axis=-1)
                assert difference[~near].max() == 0
                assert (difference > 40).sum() >= 25
        assert all(np.array_equal(drawing.parts, drawings[0].parts) for drawing in drawings)


@pytest.mark.parametrize(
    ("part", "frame", "axis", "seam"),
    [("feet", "legs", (0.0, 1.0), 5.8), ("vent", "body", (0.88, 0.47), -9.9)],
)
def test_half_of_a_two_coloured_mark_leaves_two_species(
    part: str, frame: str, axis: tuple[float, float], seam: float
) -> None:
    labels = [label for label, species in enumerate(SPECIES) if species.part == part]
    pixels = np.stack(np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5), axis=-1)  # (128, 128, 2) of x, y
    for seed in range(3):
        scene = sample_scene(np.random.default_rng(seed))
        local = getattr(skeleton(scene.pose), frame)
        along = (pixels - local.origin) @ np.linalg.inv(local.axes) @ axis - seam
        images = [paint(scene, SPECIES[label].plumage).image for label in labels]
        for half in (along < -1.5, along > 1.5):
            assert len({image[half].tobytes() for image in images}) == 3
        assert len({image.tobytes() for image in images}) == 6


def test_families_differ_all_over_the_bird() -> None:
    scene = sample_scene(np.random.default_rng(0))
    drawings = [paint(scene, SPECIES[label].plumage) for label in range(0, 48, 6)]
    mask = drawings[0].mask
    for a in range(8):
        for b in range(a):
            difference = np.abs(drawings[a].image.astype(int) - drawings[b].image).max(axis=-1)
            assert (difference[mask] > 25).mean() > 0.6


def test_looking_without_seeing_rarely_finds_the_part() -> None:
    shown = sure_glimpses(2000)
    at_random = (1 - (1 - shown.mean(axis=1)) ** 5).mean()
    assert 0.1 < at_random < 0.4
    missed = np.ones(len(shown), dtype=bool)
    for _ in range(5):
        missed &= ~shown[:, shown[missed].sum(axis=0).argmax()]
    assert 0.3 < 1 - missed.mean() < 0.62, "the best five places for all images alike"
    assert shown.any(axis=1).all(), "some glimpse shows the part of every bird"


def test_the_middle_nearly_always_shows_a_piece_of_the_bird() -> None:
    rng = np.random.default_rng(0)
    masks = [paint(sample_scene(rng), SPECIES[0].plumage).mask[48:80, 48:80] for _ in range(300)]
    shares = np.array([mask.mean() for mask in masks])
    assert (shares >= 0.10).mean() >= 0.9
    assert (shares > 0).mean() >= 0.97


def test_splits_are_made_once_and_share_no_picture(fresh_cache: Path) -> None:
    birds = Birds(num_train=48, num_val=48, num_test=48, num_judge=48, num_oracle=48)
    splits = {split: birds.load(split) for split in SPLIT_STARTS}
    pictures = np.concatenate([split.images for split in splits.values()])
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)
    assert (np.bincount(splits["train"].labels) == 1).all()
    assert all((split.folds == -1).all() for split in splits.values())
    more = Birds(num_train=96, num_val=48, num_test=48, num_judge=48)
    assert more.fingerprint == birds.fingerprint
    assert np.array_equal(more.load("train").images[:48], splits["train"].images)
    assert Birds(seed=1).fingerprint != birds.fingerprint
    assert Birds(**birds.options).options == birds.options


def test_judge_images_are_the_judge_split_shuffled_and_partly_mirrored(fresh_cache: Path) -> None:
    birds = Birds(num_judge=48)
    judge = birds.load("judge")
    batch = birds.judge_images(0, np.random.default_rng(0))
    again = birds.judge_images(0, np.random.default_rng(0))
    assert np.array_equal(batch.images, again.images)
    assert sorted(batch.labels) == sorted(judge.labels)
    sources = {image.tobytes(): index for index, image in enumerate(judge.images)}
    mirrored = 0
    for image, label, parts in zip(batch.images, batch.labels, batch.parts, strict=True):
        source = sources.pop(image.tobytes(), None)
        if source is None:
            mirrored += 1
            source = sources.pop(np.ascontiguousarray(image[:, ::-1]).tobytes())
            parts[:, 1] = 128 - parts[:, 1]
        assert label == judge.labels[source]
        assert np.allclose(parts, judge.parts[source])
    assert not sources
    assert 10 < mirrored < 38


def test_the_usual_birds_stay_what_they_were() -> None:
    birds = Birds()
    assert birds.fingerprint == "00a3c0a91791f1ea"  # of the shipped judge
    assert birds.options.keys() == {"seed", "num_train", "num_val", "num_test", "num_judge", "num_oracle"}
    assert Birds(size=128, attribute=None).fingerprint == birds.fingerprint
    pictures = hashlib.sha256(b"".join(draw(0, index)[0].image.tobytes() for index in range(4)))
    assert pictures.hexdigest() == "17f012a2024a369e7d1a6cbc48d75c516bc283bee861a81cf8a40a38d3996cd0"
    others = [Birds(size=224), Birds(attribute="eye ring"), Birds(size=224, attribute="eye ring")]
    assert len({other.fingerprint for other in [birds, *others]}) == 4
    for other in others:
        assert Birds(**other.options).options == other.options
        assert Birds(**other.chosen_options).fingerprint == other.fingerprint


def test_larger_pictures_show_the_same_birds_with_more_detail() -> None:
    small, large = draw_many(0, 0, 6), draw_many(0, 0, 6, 224)
    assert large[0].shape == (6, 224, 224, 3)
    assert np.array_equal(small[1], large[1])
    np.testing.assert_allclose(large[2][..., :2], small[2][..., :2] * 1.75, rtol=1e-5)
    for one, other in zip(small[0], large[0], strict=True):
        reduced = np.asarray(Image.fromarray(other).resize((128, 128), Image.Resampling.BOX), dtype=int)
        assert np.abs(reduced - one).mean() < 4
        enlarged = np.asarray(Image.fromarray(one).resize((224, 224), Image.Resampling.BICUBIC), dtype=int)
        assert np.abs(np.diff(other.astype(int), axis=1)).max() > 1.2 * np.abs(np.diff(enlarged, axis=1)).max()


def test_attributes_are_marks_that_some_species_have(fresh_cache: Path) -> None:
    birds = Birds(attribute="eye ring", num_train=96)
    plain = Birds(num_train=96).load("train")
    expected = [SPECIES[label].plumage.marks.eye == "ring" for label in plain.labels]
    train = birds.load("train")
    assert np.array_equal(train.labels, expected)
    assert np.array_equal(train.images, plain.images)
    assert birds.class_names == ("no eye ring", "eye ring")
    assert all(0 < has.sum() < 48 for has in ATTRIBUTES.values())
    assert {"eye ring", "wing bar", "breast spots"} <= ATTRIBUTES.keys()
    with pytest.raises(ConfigurationError, match=r"attribute='third leg' must be one of .*wing bar"):
        Birds(attribute="third leg")
    with pytest.raises(ConfigurationError, match="size=200 must be one of 128, 224"):
        Birds(size=200)


def test_the_judge_sees_large_birds_mirrored(fresh_cache: Path) -> None:
    birds = Birds(size=224, num_judge=8)
    batch, judge = birds.judge_images(0, np.random.default_rng(0)), birds.load("judge")
    pictures = {image.tobytes(): parts for image, parts in zip(judge.images, judge.parts, strict=True)}
    for image, parts in zip(batch.images, batch.parts, strict=True):
        if image.tobytes() not in pictures:
            image, parts[:, 1] = np.ascontiguousarray(image[:, ::-1]), 224 - parts[:, 1]
        assert np.allclose(parts, pictures[image.tobytes()], atol=1e-4)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"num_train": 0}, {"num_test": 10**8}])
def test_numbers_out_of_range_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=str(next(iter(wrong.values())))):
        Birds(**wrong)
