"""Games kept as demonstrations: what is in the file, that nothing of it is lost, and that agents learn from it."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from agents.cloning_data import CloningData
from agents.play.game import Game
from agents.play.keeping import KeptGames, checked_player
from agents.play.match import Match
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files.whole import temporary_path
from glimpse_env.rollout import play
from oracles.baselines import FixedPolicy
from oracles.demonstrations import Demonstrations
from tests.agents.play.test_game import look
from tests.support.toy import write_toy_judge
from tests.support.toy_problem import ToyJudge, ToySource, toy_dataset


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "cache"))


def kept_at(path: Path, split: str = "train", cost: float | None = None) -> KeptGames:
    """A file of games on the finite world."""
    return KeptGames(path, ToySource(), ToyJudge(), split, cost)


def game_on(*images: int, cost: float | None = None) -> Game:
    """A game on the finite world against a fixed sequence."""
    judge = ToyJudge()
    return Game(
        toy_dataset(np.arange(24) % 8),
        judge,
        FixedPolicy(judge.grid, np.array([3, 4])),
        np.array(images),
        glimpse_cost=cost,
    )


def test_rounds_are_demonstrations(tmp_path: Path) -> None:
    kept, game = kept_at(tmp_path / "mine.npz"), game_on(2, 5)
    kept.keep(game, "Ann")
    assert not kept.path.exists(), "nothing was played yet"
    look(game, 0, 5)
    kept.keep(game, "Ann")
    kept.keep(game, "Ann")  # in vain
    game.next()
    look(game, 1)
    look(game, 7)
    kept.keep(game, "Ann")
    other = game_on(2)
    look(other, 8, 3)
    kept_at(kept.path).keep(other, "Bob")
    loaded = Demonstrations.load(kept.path)
    assert loaded.indices.tolist() == [2, 5, 2]
    assert loaded.locations.tolist() == [[0, 5], [1, 7], [8, 3]]
    assert [one["player"] for one in loaded.manifest["games"]] == ["Ann", "Ann", "Bob"]
    assert (loaded.manifest["policy"], loaded.manifest["split"], loaded.manifest["num"]) == ("player", "train", 3)
    alone = play(FixedPolicy(game.grid, np.array([0, 5])), game.dataset, game.judge, np.array([2]), progress=False)
    np.testing.assert_allclose(loaded.entropies[0], alone.entropy[0], atol=1e-6)
    loaded.check_fits(ToySource(), ToyJudge())
    CloningData.from_demonstrations(loaded, ToySource().load("train"), targets="argmax")


def test_stops_are_kept(tmp_path: Path) -> None:
    kept, game = kept_at(tmp_path / "mine.npz", cost=0.05), game_on(1, 2, 3, cost=0.05)
    assert game.stop()
    game.next()
    look(game, 4)
    assert game.stop()
    assert not game.stop()
    game.next()
    look(game, 4, 0)
    kept.keep(game, "Ann")
    loaded = Demonstrations.load(kept.path)
    assert loaded.locations.tolist() == [[-1, -1], [4, -1], [4, 0]]
    assert loaded.lengths.tolist() == [0, 1, 2]
    assert (loaded.stops, loaded.manifest["glimpse_cost"]) == (True, 0.05)
    assert loaded.entropies[0] == pytest.approx(np.log(4), abs=1e-5)
    data = CloningData.from_demonstrations(loaded, ToySource().load("train"), targets="argmax", stop=True)
    assert data.taken.tolist() == [[9, -1], [4, 9], [4, 0]]
    score = game.score()
    assert score.person_return == pytest.approx(score.person_successes / 3 - 0.05)
    assert score.oracle_return == pytest.approx(score.oracle_successes / 3 - 0.1)


def test_a_player_goes_on_with_images_not_yet_played(tmp_path: Path) -> None:
    kept = kept_at(tmp_path / "mine.npz")
    first = kept.next_images("Ann", 3, 20)
    game = game_on(*first)
    for _ in first:
        look(game, 0, 1)
        game.next()
    kept.keep(game, "Ann")
    second = kept.next_images("Ann", 3, 20)
    assert sorted([*first, *second]) == list(range(24))
    assert kept.next_images("Bob", 3, 20).tolist() == first.tolist()
    rest = game_on(*second)
    for _ in second:
        look(rest, 0, 1)
        rest.next()
    kept.keep(rest, "Ann")
    assert kept.next_images("Ann", 3, 20).tolist() == first.tolist(), "all over again"


def test_other_demonstrations_are_left_alone(tmp_path: Path) -> None:
    kept, game = kept_at(tmp_path / "mine.npz"), game_on(2)
    look(game, 0, 5)
    kept.keep(game, "Ann")
    before = kept.path.read_bytes()
    with pytest.raises(ArtifactError, match=r"holds demonstrations of other split; name another file with --keep"):
        kept_at(kept.path, "test")
    with pytest.raises(ArtifactError, match="of other stops, glimpse_cost"):
        kept_at(kept.path, cost=0.1)
    with pytest.raises(ArtifactError, match="of other judge"):
        KeptGames(kept.path, ToySource(), ToyJudge(labels=np.arange(8) % 4), "train")
    kept.path.with_suffix(".json").unlink()
    with pytest.raises(ArtifactError, match=r"holds no games .* is left as it is; name another file with --keep"):
        kept_at(kept.path)
    assert kept.path.read_bytes() == before


def test_a_process_that_is_killed_between_its_two_renames_loses_no_game(tmp_path: Path) -> None:
    kept, game = kept_at(tmp_path / "mine.npz"), game_on(2)
    look(game, 0, 5)
    kept.keep(game, "Ann")
    card, left = kept.path.with_suffix(".json"), temporary_path(tmp_path, "mine", ".json")
    manifest = card.read_text()
    card.rename(left.with_name(left.name.replace(f"-{os.getpid()}-", "-999999999-")))
    temporary_path(tmp_path, "mine", ".json").write_text(manifest.replace('"num": 1', '"num": 2'))  # of another time
    assert kept_at(kept.path).next_images("Ann", 0, 30).tolist().count(2) == 0
    assert card.read_text() == manifest


def test_nothing_learns_from_games_on_test_images(tmp_path: Path) -> None:
    kept, game = kept_at(tmp_path / "mine.npz", "test"), game_on(2)
    look(game, 0, 5)
    kept.keep(game, "Ann")
    with pytest.raises(ArtifactError, match="of images of the split 'test', which nothing may learn from"):
        Demonstrations.load(kept.path).check_fits(ToySource(), ToyJudge())


def test_ctrl_c_while_a_game_is_kept_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, game, save = kept_at(tmp_path / "mine.npz"), game_on(2), Demonstrations.save

    def interrupted(self: Demonstrations, path: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        save(self, path)

    look(game, 0, 5)
    monkeypatch.setattr(Demonstrations, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.keep(game, "Ann")
    assert kept.path.with_suffix(".json").exists(), "all of it was written"
    monkeypatch.setattr(Demonstrations, "save", save)
    kept.keep(game, "Ann")  # as at the end of the command
    assert Demonstrations.load(kept.path).locations.tolist() == [[0, 5]]


def test_names_of_players() -> None:
    assert checked_player("  Zoë 李 ") == "Zoë 李"
    for name in ("", "  ", "a\nb", "x" * 41, "\ud800"):
        with pytest.raises(ConfigurationError, match=re.escape("1 to 40 printable characters")):
            checked_player(name)


def test_an_agent_learns_from_games(tmp_path: Path) -> None:
    """On the digits, whose training images each have a judge's network, and an oracle, that never saw them."""
    from agents.experiments.train import Experiment
    from agents.presets import Args

    source = make_source("digits")
    write_toy_judge(source)
    match = Match(source, "GlimpseDigits-v0", split="train", episodes=6, seed=0, keep=tmp_path / "human-play.npz")
    game = match.new_game("Ann")
    for _ in range(6):
        look(game, 0, 40, 84, 100, 130, 168)
        game.next()
    match.kept.keep(game, "Ann")
    assert json.loads(json.dumps(match.to_json()))["games"][0]["player"] == "Ann"
    settings = {"env": "GlimpseDigits-v0", "demos": str(match.kept.path), "clone_passes": 1, "val_images": 4}
    experiment = Experiment.opened(Args(**settings, timesteps=0, out=tmp_path / "run"))
    experiment.clone()
    assert experiment.demonstrations is not None
    assert experiment.demonstrations.manifest["policy"] == "player"
    assert experiment.state.cloning["passes"] == 1
