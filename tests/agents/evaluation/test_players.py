"""Rows of people: their games evaluated as policies are."""

from pathlib import Path

import numpy as np
import pytest

from agents.evaluation.players import evaluate_players
from agents.play.game import Game
from agents.play.keeping import KeptGames
from glimpse_env.errors import ArtifactError
from oracles.baselines import FixedPolicy
from oracles.demonstrations import Demonstrations
from tests.agents.play.test_game import look
from tests.support.toy_problem import LABELS, ToyJudge, ToySource


def play(path: Path, player: str, images: list[int], sequence: tuple[int, int], assisted: tuple[int, ...] = ()) -> Game:
    """Plays images of the finite world's test split and keeps them."""
    judge, source = ToyJudge(), ToySource()
    policy = FixedPolicy(judge.grid, np.array([0, 1]))
    game = Game(source.load("test"), judge, policy, np.array(images))
    for image in images:
        look(game, sequence[0])
        game.assisted = image in assisted
        look(game, sequence[1])
        game.next()
    KeptGames(path, source, judge, "test").keep(game, player)
    return game


def test_players_are_evaluated_on_their_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "games.npz"
    ann = play(path, "Ann", [0, 3, 5, 10], (0, 5), assisted=(10,))
    bob = play(path, "Bob", [5, 4], (7, 8))
    play(path, "Bob", [5], (0, 5))  # again: the first time counts
    games = Demonstrations.load(path)
    results = evaluate_players(games, ToySource(), ToyJudge(), ("centre",))
    assert list(results) == ["Ann", "Bob"]
    expected = [played.person.success for played in ann.rounds[:3]]
    assert results["Ann"].person.outcomes.tolist() == expected
    assert results["Ann"].person.log_loss[-1] == pytest.approx(ann.score(assisted=False).person_log_loss, abs=1e-5)
    assert results["Bob"].person.log_loss[-1] == pytest.approx(bob.score().person_log_loss, abs=1e-5)
    assert results["Bob"].person.log_loss[-1] == pytest.approx(np.log(len(set(LABELS))), abs=1e-5)
    less = results["Ann"].less["centre"].success.value
    assert less == pytest.approx(np.mean(expected) - results["Ann"].policies["centre"].success_rate)
    with_map = evaluate_players(games, ToySource(), ToyJudge(), (), assisted=True)
    assert len(with_map["Ann"].person.outcomes) == 4


def test_what_are_no_games_is_named(tmp_path: Path) -> None:
    path = tmp_path / "games.npz"
    play(path, "Ann", [2], (0, 5), assisted=(2,))
    games = Demonstrations.load(path)
    with pytest.raises(ArtifactError, match=r"without the oracle's map.*--assisted"):
        evaluate_players(games, ToySource(), ToyJudge(), ())
    with pytest.raises(ArtifactError, match="the games' judge is"):
        evaluate_players(games, ToySource(), ToyJudge(labels=1 - LABELS % 2), ())
    games.manifest["policy"] = "oracle"
    with pytest.raises(ArtifactError, match="are no games"):
        evaluate_players(games, ToySource(), ToyJudge(), ())
