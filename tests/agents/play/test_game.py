"""A game against the oracle: what a click takes, what the score counts, what the map is."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from agents.play.game import Game, Score
from glimpse_env.errors import ConfigurationError
from glimpse_env.rollout import play
from oracles.baselines import FixedPolicy
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from tests.oracles.boed.test_oracle import observe
from tests.support import toy, toy_problem
from tests.support.toy_problem import IMAGES, ToyJudge, exact_epe

EVERY = np.arange(len(IMAGES))
SHARP = CompletionConfig(bandwidth=1e-2, samples=len(IMAGES), short_list=len(IMAGES))
LABEL_1, LABEL_3, LABEL_0 = 2, 5, 0
"""Images of the world by their class. The first and the last belong to the family that pixel 1 tells apart."""


def noise_game(indices: tuple[int, ...] = (4, 9)) -> Game:
    """Makes a game on noise images with an untrained judge."""
    dataset, judge = toy.toy_dataset(split="test"), toy.toy_judge()
    return Game(dataset, judge, BOEDOracle(toy.toy_dataset(seed=1), judge), np.array(indices))


def solved_game(*indices: int) -> Game:
    """Makes a game on the finite world, where the oracle and its map are exact: two glimpses of a pixel, on 3 x 3."""
    judge = ToyJudge()
    oracle = BOEDOracle(toy_problem.toy_dataset(EVERY), judge, OracleConfig(completion=SHARP))
    dataset = toy_problem.toy_dataset(EVERY, "test")
    return Game(dataset, judge, oracle, np.array(indices))


def look(game: Game, *locations: int) -> None:
    for location in locations:
        assert game.click(*(game.grid.corners[location] + game.grid.glimpse_size / 2))


def test_a_click_takes_the_glimpse_centred_nearest_to_it() -> None:
    game = noise_game()
    for location, (row, col) in enumerate(game.grid.corners):
        for down, right in ((0, 0), (1.9, -1.9), (-1.9, 1.9)):  # less than half a stride of 4
            assert game.locate(row + 6 + down, col + 6 + right) == location
    assert game.locate(6 + 2.1, 6) == 8
    assert game.locate(6, 6 + 2.1) == 1
    assert [game.locate(*point) for point in ((0, 0), (0, 39.9), (39.9, 0), (39.9, 39.9))] == [0, 7, 56, 63]


def test_only_what_was_glimpsed_is_on_the_canvas() -> None:
    game = noise_game()
    assert not game.canvas.any()
    assert game.click(6 + 8.5, 6 + 19.5)
    assert game.click(39, 0)
    assert game.corners.tolist() == [[8, 20], [28, 0]]
    expected = np.zeros((40, 40, 2), np.uint8)
    for row, col in game.corners:
        window = np.s_[row : row + 12, col : col + 12]
        expected[window] = np.concatenate([game.dataset.images[4][window], np.full((12, 12, 1), 255)], axis=-1)
    np.testing.assert_array_equal(game.canvas, expected)


def test_wider_scales_lie_under_the_narrower_ones() -> None:
    wide = replace(toy.GEOMETRY, scales=2)
    dataset, judge = toy.toy_dataset(split="test", geometry=wide), toy.toy_judge(wide)
    bank = toy.toy_dataset(seed=1, fingerprint="bank")
    game = Game(dataset, judge, BOEDOracle(bank, judge), np.array([4]))
    look(game, 0)  # the wide window reaches 6 pixels over the rim
    image = dataset.images[4].astype(float)
    blocks = image[:18, :18].reshape(9, 2, 9, 2).mean(axis=(1, 3)).repeat(2, axis=0).repeat(2, axis=1)
    expected = np.zeros((40, 40, 2), np.uint8)
    expected[:18, :18, 0] = np.rint(blocks)
    expected[:12, :12, 0] = image[:12, :12, 0]
    expected[:18, :18, 1] = 255
    np.testing.assert_array_equal(game.canvas, expected)


def test_no_glimpse_is_taken_twice_at_a_place_or_after_the_end() -> None:
    game = noise_game()
    look(game, 5, 40)
    assert not game.click(*(game.grid.corners[5] + 6))
    assert not game.next()
    look(game, 17, 63)
    assert game.over
    assert not game.click(20, 20)
    assert len(game.corners) == 4
    assert [len(game.rounds), game.number, game.finished] == [1, 0, False]


def test_the_score_is_that_of_known_outcomes() -> None:
    game = solved_game(LABEL_1, LABEL_3, LABEL_0)
    assert game.score() == Score(0, 0, 0, None, None)
    look(game, 0, 1)  # all that matters: right, no loss
    assert game.next()
    look(game, 7, 8)  # nothing: one of four classes, and the first is named
    assert game.next()
    game.toggle_map()
    look(game, 0)
    game.toggle_map()
    look(game, 1)
    assert [(played.index, played.label, played.assisted) for played in game.rounds] == [
        (LABEL_1, 1, False),
        (LABEL_3, 3, False),
        (LABEL_0, 0, True),
    ]
    assert [(played.person.success, played.oracle.success) for played in game.rounds] == [
        (True, True),
        (False, True),
        (True, True),
    ]
    assert all(f"{played.oracle.log_loss:.2f}" == "0.00" for played in game.rounds)  # not -0.00
    for assisted, images, successes, loss in ((None, 3, 2, 4), (False, 2, 1, 4), (True, 1, 1, 1)):
        score = game.score(assisted)
        assert (score.images, score.person_successes, score.oracle_successes) == (images, successes, images)
        assert score.person_log_loss == pytest.approx(math.log(loss) / images, abs=1e-6)
        assert score.oracle_log_loss == pytest.approx(0, abs=1e-6)
    assert game.next()
    assert game.finished


def test_json_has_scores_and_rounds() -> None:
    game = solved_game(LABEL_1, LABEL_3, LABEL_0)
    game.toggle_map()
    look(game, 7, 8)
    content = json.loads(json.dumps(game.to_json()))
    assert (content["dataset"], content["split"], content["images"]) == ("toy", "test", 3)
    assert content["judge"] == game.judge.identity
    assert content["score"]["all"] == content["score"]["assisted"]
    assert content["score"]["all"]["person_successes"] == 0
    assert content["score"]["unassisted"]["images"] == 0
    assert content["score"]["unassisted"]["person_log_loss"] is None
    (played,) = content["rounds"]
    assert (played["index"], played["class"], played["assisted"]) == (LABEL_1, "b", True)
    assert played["person"]["locations"] == [7, 8]
    assert played["person"]["judged"] == "a"
    assert played["oracle"]["success"]
    assert sorted(played["oracle"]["locations"]) == [0, 1]


def test_the_oracle_plays_the_same_images_as_in_any_rollout() -> None:
    game = noise_game((4, 9))
    rollouts = play(game.oracle, game.dataset, game.judge, np.array([4, 9]), progress=False)
    for _ in range(2):
        look(game, 0, 1, 2, 3)
        game.next()
    for row, played in enumerate(game.rounds):
        np.testing.assert_array_equal(played.oracle.corners, rollouts.corners[row])
        assert played.oracle.success == rollouts.success[row]
        assert played.oracle.log_loss == pytest.approx(float(rollouts.log_loss[row, -1]), abs=1e-5)
    alone = play(FixedPolicy(game.grid, np.arange(4)), game.dataset, game.judge, np.array([4, 9]), progress=False)
    assert [played.person.success for played in game.rounds] == alone.success.tolist()
    assert [played.person.log_loss for played in game.rounds] == pytest.approx(alone.log_loss[:, -1].tolist(), rel=1e-5)


@pytest.mark.parametrize("early", [False, True])
def test_the_map_is_the_epe_of_the_persons_history(early: bool) -> None:
    """Whether the map was visible from the start or is asked for later."""
    game = solved_game(LABEL_3)
    if early:
        game.toggle_map()
        assert game.epe_map == pytest.approx(exact_epe([]), abs=1e-4)
        assert game.choice == 0
    look(game, 0)
    if not early:
        assert (game.epe_map, game.choice) == (None, None)
        game.toggle_map()
    assert game.epe_map == pytest.approx(exact_epe([(0, 255)]), abs=1e-4)
    assert game.choice == 5


def test_the_map_follows_a_history_that_the_oracle_would_not_have() -> None:
    game = noise_game()
    game.toggle_map()
    for count, location in enumerate((33, 2, 50), start=1):
        look(game, location)
        game.oracle.predict(observe(game.dataset, game.judge, np.array([4]), np.array([[33, 2, 50][:count]])))
        assert game.oracle.last_maps is not None
        np.testing.assert_allclose(game.epe_map, game.oracle.last_maps[0], atol=1e-5)


def test_a_shown_map_makes_an_image_assisted_for_good_and_no_other() -> None:
    game = solved_game(LABEL_1, LABEL_0, LABEL_3)
    game.toggle_map()
    game.toggle_map()
    assert (game.map_shown, game.epe_map) == (False, None)
    look(game, 0, 1)
    game.next()
    look(game, 0)
    game.toggle_map()
    look(game, 1)
    assert game.epe_map is None  # there is no next glimpse
    game.next()
    assert not game.map_shown
    look(game, 0, 5)
    game.toggle_map()  # after the end
    assert [played.assisted for played in game.rounds] == [True, True, False]


def test_a_game_needs_images() -> None:
    with pytest.raises(ConfigurationError, match="0 images"):
        solved_game()
    with pytest.raises(ConfigurationError, match="99"):
        solved_game(99)
