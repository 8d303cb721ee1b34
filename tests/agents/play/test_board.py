"""The picture of a game: where a click lands, and what it must not show."""

import numpy as np
import pytest

from agents.play.board import HEIGHT, PERSON, WIDTH, Board
from agents.play.game import Game
from oracles.boed.oracle import BOEDOracle
from tests.agents.play.test_game import look, noise_game, solved_game
from tests.support import toy

SIZES = [(WIDTH, HEIGHT), (2 * WIDTH, HEIGHT), (620, 900), (1333, 907)]


def bright_game() -> Game:
    """On a white image."""
    dataset, judge = toy.toy_dataset(split="test", images=np.full((24, 40, 40, 1), 255, np.uint8)), toy.toy_judge()
    return Game(dataset, judge, BOEDOracle(toy.toy_dataset(), judge), np.arange(3))


def inside(board: Board, game: Game) -> list[tuple[int, int]]:
    """Pixels of the window that lie on the image, spread over it."""
    points = [(x, y) for x in range(0, board.width, 7) for y in range(0, board.height, 7)]
    return [point for point in points if board.pixel_at(point, game) is not None]


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (300, 120)])
def test_a_frame_fills_the_window(size: tuple[int, int]) -> None:
    frame = Board(*size).draw(solved_game(0))
    assert frame.shape == (size[1], size[0], 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("size", SIZES)
def test_a_click_uncovers_what_is_under_it(size: tuple[int, int]) -> None:
    board, points = Board(*size), inside(Board(*size), bright_game())
    for pointer in (points[0], points[len(points) // 2], points[len(points) * 2 // 3], points[-1]):
        game = bright_game()
        aimed = board.pixel_at(pointer, game)
        assert aimed is not None
        before = board.draw(game)[pointer[::-1]].max()
        assert game.click(*aimed)
        frame = board.draw(game)
        around = frame[max(pointer[1] - 3, 0) : pointer[1] + 4, max(pointer[0] - 3, 0) : pointer[0] + 4]
        assert before < 100 < around.max()
        white = np.argwhere((frame == 255).all(axis=-1))
        side = 12 / 40 * 576 * board.zoom
        assert (np.ptp(white, axis=0) <= side).all(), "more than one glimpse is white"
        assert len(white) > 0.8 * side**2


def test_beside_the_image_nothing_is_aimed_at() -> None:
    board, game = Board(WIDTH, HEIGHT), solved_game(0)
    for pointer in ((31, 300), (300, 63), (608, 300), (300, 640), (800, 300)):
        assert board.pixel_at(pointer, game) is None
    assert board.pixel_at((32, 64), game) == (0, 0)


def test_the_button_is_there_when_an_episode_is_over() -> None:
    board, game = Board(2 * WIDTH, 2 * HEIGHT), solved_game(0, 1)
    pointer = (1640, 1230)
    assert not board.on_button(pointer, game)
    look(game, 0, 1)
    assert board.on_button(pointer, game)
    assert not board.on_button((1640, 1100), game)
    assert (board.draw(game) != board.draw(game, pointer)).any()  # it lights up


def test_the_glimpse_at_the_pointer_is_outlined() -> None:
    board, game = Board(WIDTH, HEIGHT), noise_game()
    changed = np.argwhere((board.draw(game) != board.draw(game, (330, 300))).any(axis=-1))
    row, col = game.grid.corners[game.locate(*board.pixel_at((330, 300), game))]
    scale = 576 / 40
    assert changed.min(axis=0) == pytest.approx([64 + row * scale, 32 + col * scale], abs=2)
    assert changed.max(axis=0) == pytest.approx([64 + (row + 12) * scale, 32 + (col + 12) * scale], abs=2)


def test_the_counter_counts() -> None:
    game = noise_game()
    for taken in range(4):
        blue = (Board(WIDTH, HEIGHT).draw(game)[26:47, :620] == PERSON).all(axis=-1).sum()
        assert blue == pytest.approx(taken * 19 * 19, rel=0.1)
        look(game, 9 * taken)


def test_until_the_end_nothing_drawn_depends_on_what_was_not_seen() -> None:
    """Two images of other classes that agree where the person looks, and only there."""
    locations, size = (0, 12, 43, 62), (WIDTH, HEIGHT)
    judge = toy.toy_judge()
    bank = toy.toy_dataset(seed=5)
    games = [Game(dataset, judge, BOEDOracle(bank, judge), np.array([4, 9])) for dataset in toy.toy_twins(locations)]

    def frames(pointer: tuple[int, int] | None) -> list[np.ndarray]:
        return [Board(*size).draw(game, pointer) for game in games]

    for t, location in enumerate(locations):
        for pointer in (None, (320, 320), (800, 620)):
            np.testing.assert_array_equal(*frames(pointer))
        if t == 2:
            for game in games:
                game.toggle_map()
            np.testing.assert_array_equal(*frames((320, 320)))
        for game in games:
            look(game, location)
    assert games[0].rounds[0].oracle.success != games[1].rounds[0].oracle.success, "the oracle saw no difference"
    one, other = frames(None)
    assert (one != other)[:, :620].any(axis=-1).mean() > 0.5
    assert (one != other)[:, 640:].any()


def test_the_map_and_the_help_come_and_go() -> None:
    board, game = Board(WIDTH, HEIGHT), noise_game()
    plain = board.draw(game)
    assert (board.draw(game, help_shown=False) != plain)[:, 640:].any()
    game.toggle_map()
    shown = board.draw(game)
    assert (shown != plain)[64:640, 32:608].any(axis=-1).mean() > 0.4
    game.toggle_map()
    hidden = board.draw(game)
    np.testing.assert_array_equal(hidden[64:], plain[64:])
    assert (hidden[:64] != plain[:64]).any(), "the heading says that the image is assisted"


def test_the_score_is_drawn_at_the_end_of_the_game() -> None:
    game = solved_game(0, 1, 2)
    for _ in range(3):
        look(game, 0, 1)
        last = Board(WIDTH, HEIGHT).draw(game)
        game.next()
    assert game.finished
    assert (Board(WIDTH, HEIGHT).draw(game) != last).any(axis=-1).mean() > 0.2
    assert Board(WIDTH, HEIGHT).pixel_at((300, 300), game) is None
