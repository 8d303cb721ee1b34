"""The search for hyperparameters, with a known function in place of training."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="pip install -c constraints.txt -e '.[benchmark]'")

from agents import presets
from agents.experiments.run_folder import CurvePoint
from agents.experiments.tuning import STARTS, Trial, TrialRunner, score_of, search, write_tuned
from agents.presets import Args, tuned
from agents.registry import ALGORITHMS, make_model
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import write_json
from tests.support.toy import toy_judge
from tests.support.toy_agents import toy_vec_env

BASE = Args(env="GlimpseDigits-v0", demos="oracle", num_demos=20, timesteps=100)


def closeness(chosen: dict[str, Any]) -> float:
    """Score that is highest, 1, at a learning rate of 1e-3."""
    return 1 - abs(math.log10(chosen["learning_rate"]) + 3)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """All trials that were run; each scores what :func:`closeness` gives."""
    trials: list[Trial] = []

    def make(runner: TrialRunner, trial: Trial) -> dict[str, float]:
        trials.append(trial)
        return {"score": closeness(json.loads(trial.args.hyperparameters))}

    monkeypatch.setattr(TrialRunner, "make", make)
    return trials


def test_the_best_of_all_trials_is_found(tried: list[Trial], tmp_path: Path) -> None:
    found = search("ppo", "scratch", BASE, tmp_path, trials=8, workers=1)
    scores = [entry["score"] for entry in found["trials"]]
    assert len(tried) == len(scores) == 8
    assert scores == sorted(scores, reverse=True)
    assert found["score"] == scores[0] == pytest.approx(closeness(found["best"]))
    assert max(closeness(json.loads(trial.args.hyperparameters)) for trial in tried) == pytest.approx(scores[0])
    assert len({trial.args.out for trial in tried}) == 8


def test_runs_differ_in_how_they_start_only(tried: list[Trial], tmp_path: Path) -> None:
    for start in STARTS:
        search("a2c", start, BASE, tmp_path, trials=3, workers=1)
    scratch, demonstrated = tried[:3], tried[3:]
    assert {trial.args.demos for trial in scratch} == {"none"}
    assert {(trial.args.demos, trial.args.num_demos) for trial in demonstrated} == {("oracle", 20)}
    assert [trial.args.hyperparameters for trial in scratch] == [trial.args.hyperparameters for trial in demonstrated]
    assert {trial.args.timesteps for trial in tried} == {100}


def test_a_search_goes_on(tried: list[Trial], tmp_path: Path) -> None:
    whole = search("ppo", "scratch", BASE, tmp_path / "whole", trials=3, workers=1)
    del tried[:]
    search("ppo", "scratch", BASE, tmp_path / "parts", trials=1, workers=1)
    first = search("ppo", "scratch", BASE, tmp_path / "parts", trials=3, workers=1)
    assert len(tried) == 3
    again = search("ppo", "scratch", BASE, tmp_path / "parts", trials=3, workers=1)
    assert len(tried) == 3
    assert again == first == whole
    assert len({trial.args.hyperparameters for trial in tried}) == 3


def test_what_was_cut_off_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the same folder, where its run resumes, and the search ends as if it had not been cut off."""
    seen: list[Args] = []

    def cut_off(runner: TrialRunner, trial: Trial) -> dict[str, float]:
        seen.append(trial.args)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return {"score": closeness(json.loads(trial.args.hyperparameters))}

    monkeypatch.setattr(TrialRunner, "make", cut_off)
    with pytest.raises(KeyboardInterrupt):
        search("reinforce", "scratch", BASE, tmp_path, trials=3, workers=1)
    ended = search("reinforce", "scratch", BASE, tmp_path, trials=3, workers=1)
    assert len(seen) == 4
    assert seen[2] == seen[1]
    assert len({args.out for args in seen}) == 3
    assert ended == search("reinforce", "scratch", BASE, tmp_path / "whole", trials=3, workers=1)


def test_the_score_is_of_the_last_points() -> None:
    points = [CurvePoint(step, success, 0.0, 0.0) for step, success in enumerate((0.9, 0.1, 0.5, 0.6))]
    assert score_of(points) == pytest.approx(0.4)


def test_there_is_no_space_for_others(tried: list[Trial], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'dqn' has no search space"):
        search("dqn", "scratch", BASE, tmp_path, trials=1, workers=1)


def test_what_is_kept_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "TUNED", tmp_path / "tuned.json")
    assert tuned("ppo", True) == {}
    write_tuned(presets.TUNED, "ppo", "demonstrations", {"learning_rate": 0.000123456, "n_epochs": 8})
    write_tuned(presets.TUNED, "ppo", "scratch", {"rollout": 640})
    assert tuned("ppo", True) == {"learning_rate": 0.000123, "n_epochs": 8}
    assert tuned("maskable_ppo", False) == tuned("ppo", False) == {"rollout": 640}
    assert tuned("a2c", True) == {}


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("demonstrations", [False, True])
def test_what_was_found_makes_models(algo: str, demonstrations: bool) -> None:
    chosen = tuned(algo, demonstrations)
    chosen.pop("rollout", None)
    model = make_model(algo, toy_vec_env(), seed=0, judge=toy_judge(), device="cpu", **chosen)
    for name, value in chosen.items():
        assert getattr(model, name) == value


@pytest.mark.parametrize(("ray", "workers"), [(None, 2), ("local", 1)])
def test_trials_run_side_by_side_here_or_on_a_cluster(
    ray: str | None, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[tuple[int, dict[str, Any]]] = []

    def run(runner: TrialRunner, **means: Any) -> None:
        rounds.append((len(runner.cells()), means))
        for trial in runner.cells():
            write_json(runner.result_path(trial), {"score": closeness(json.loads(trial.args.hyperparameters))})

    monkeypatch.setattr(TrialRunner, "run", run)
    found = search("ppo", "scratch", BASE, tmp_path, trials=3, workers=2, ray=ray)
    assert len(found["trials"]) == 3
    assert rounds == [(count, {"workers": workers, "ray": ray}) for count in (2, 1)]


def test_trials_of_other_settings_are_refused(tmp_path: Path) -> None:
    """A search cannot mix trials of two budgets."""
    trial = Trial(replace(BASE, out=tmp_path))
    write_json(tmp_path / "config.json", {"args": {**json.loads(json.dumps(asdict(BASE))), "timesteps": 50}})
    with pytest.raises(ConfigurationError, match="was begun with timesteps=50, not 100; choose another --out"):
        TrialRunner((trial,), tmp_path).claim(trial)
