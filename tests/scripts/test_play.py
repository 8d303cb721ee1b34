"""The window of scripts/play.py, with events in place of a person and no screen."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glimpse_env.datasets import make_source
from oracles.demonstrations import Demonstrations
from tests.scripts.test_scripts import call
from tests.support.toy import write_toy_judge

pygame = pytest.importorskip("pygame")

CLICKS = {0: (33, 65), 12: (606, 65), 84: (320, 352), 156: (33, 638), 168: (606, 638), 78: (33, 352)}
"""The locations of GlimpseDigits-v0 that are clicked, and where they are in the window at first."""


@pytest.fixture(scope="module")
def _judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache with an untrained judge of the digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_toy_judge(make_source("digits"))
        yield


@pytest.fixture
def screen(_judged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A screen that is none, ready for events to be posted."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)  # which gets the games
    pygame.display.init()
    yield
    pygame.display.quit()


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def click(place: tuple[int, int], button: int = 1) -> None:
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=place, rel=(0, 0), buttons=(0, 0, 0)))
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=place, button=button))


def test_a_game_from_the_first_click_to_the_json(screen: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "scores" / "mine.json"
    for place in CLICKS.values():
        click(place)
    click((800, 618))  # next image
    press(pygame.K_m)
    for place in CLICKS.values():
        click(place)
        click(place)  # in vain
        click((500, 500), button=3)
    press(pygame.K_h)
    press(pygame.K_SPACE)
    click((300, 300))
    press(pygame.K_q)  # the third image is left
    call("play", "--env", "GlimpseDigits-v0", "--episodes", "3", "--seed", "5", "--player", "Ann", "--out", str(out))
    content = json.loads(out.read_text())
    (game,) = content["games"]
    assert [played["assisted"] for played in game["rounds"]] == [False, True]
    assert [played["person"]["locations"] for played in game["rounds"]] == [list(CLICKS)] * 2
    assert (content["env"], content["seed"]) == ("GlimpseDigits-v0", 5)
    assert (game["player"], game["split"], game["images"]) == ("Ann", "train", 3)
    successes = sum(played["person"]["success"] for played in game["rounds"])
    assert game["score"]["all"]["person_successes"] == successes
    assert game["score"]["assisted"]["images"] == 1
    kept = Demonstrations.load(tmp_path / "runs" / "play" / "GlimpseDigits-v0-train.npz")
    assert kept.locations.tolist() == [list(CLICKS)] * 2
    assert kept.indices.tolist() == [played["index"] for played in game["rounds"]]
    assert kept.manifest["games"] == [{"player": "Ann", "assisted": False}, {"player": "Ann", "assisted": True}]
    printed = capsys.readouterr().out
    assert "2 of 3 images played" in printed
    assert "Assisted by the oracle's map: 1." in printed
    assert pygame.display.get_surface() is None


def test_the_game_ends_after_the_last_image(screen: None, capsys: pytest.CaptureFixture) -> None:
    for place in CLICKS.values():
        click(place)
    press(pygame.K_RETURN)
    press(pygame.K_RETURN)  # closes the score
    call("play", "--env", "GlimpseDigits-v0", "--episodes", "1", "--split", "val")
    printed = capsys.readouterr().out
    assert "1 of 1 images played" in printed
    assert "ssisted" not in printed


def test_closing_the_window_at_once_is_fine(screen: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    out = tmp_path / "none.json"
    call("play", "--env", "GlimpseDigits-v0", "--out", str(out))
    assert "No image was played to its end." in capsys.readouterr().out
    (game,) = json.loads(out.read_text())["games"]
    assert game["rounds"] == []
    assert game["score"]["all"]["person_log_loss"] is None
    assert not (tmp_path / "runs").exists()


def test_seeds_choose_images_that_the_player_has_not_played(screen: None, tmp_path: Path) -> None:
    chosen = []
    for player, seed in (("Ann", "1"), ("Bob", "1"), ("Ann", "1"), ("Ann", "2")):
        pygame.display.init()
        for place in CLICKS.values():
            click(place)
        press(pygame.K_ESCAPE)
        out = tmp_path / "scores.json"
        call("play", "--env", "GlimpseDigits-v0", "--seed", seed, "--player", player, "--out", str(out))
        chosen.append(json.loads(out.read_text())["games"][0]["rounds"][0]["index"])
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) == 3


def test_the_window_shows_the_board_at_its_size(screen: None) -> None:
    from agents.play.board import Board
    from agents.play.window import Session
    from tests.agents.play.test_game import noise_game

    session = Session(pygame, noise_game())
    surface = pygame.display.set_mode((900, 500), pygame.RESIZABLE)
    assert session.handle(pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=(200, 200), button=1))
    session.show()
    on_screen = pygame.surfarray.array3d(surface).transpose(1, 0, 2)
    assert (on_screen == Board(900, 500).draw(session.game, (200, 200))).all()
    assert session.handle(pygame.event.Event(pygame.WINDOWLEAVE))
    assert session.pointer is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--episodes", "0"], "--episodes 0 must lie in 1.."),
        (["--episodes", "999999"], "--episodes 999999 must lie in 1.."),
        (["--out", "scores.txt"], "must end in .json"),
        (["--player", " "], "the player's name '' must have 1 to 40"),
        (["--keep", "games.json"], "--keep games.json must end in .npz"),
        (["--seed", "-1"], "--seed -1 must be at least 0"),
        (["--env", "Nothing-v0"], "--env Nothing-v0 must be one of"),
    ],
)
def test_mistakes_are_named(screen: None, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        call("play", *["--env", "GlimpseDigits-v0"] * ("--env" not in words), *words)


def test_a_missing_pygame_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(SystemExit, match=r"DependencyNotInstalled: .* pip install pygame"):
        call("play", "--env", "GlimpseDigits-v0")


def test_a_missing_screen_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    with pytest.raises(SystemExit, match=r"nonsense not available.*where there is a screen"):
        call("play", "--env", "GlimpseDigits-v0")
