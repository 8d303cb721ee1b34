"""Search for hyperparameters on validation images, the same with demonstrations and without."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.experiments.grid import Cell, GridRunner
from agents.experiments.run_folder import CurvePoint, refuse_other_args, steps_done
from agents.experiments.train import Experiment
from agents.presets import Args
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest, read_json, write_json

logger = logging.getLogger(__name__)

Start = Literal["scratch", "demonstrations"]
STARTS: tuple[Start, ...] = ("scratch", "demonstrations")
SCORED_POINTS = 3
"""Number of last points of the learning curve whose mean success is a trial's score: one alone is noisy."""


@dataclass(frozen=True)
class Trial(Cell):
    """One run with hyperparameters of its own."""

    args: Args

    @property
    def name(self) -> str:
        return f"trial-{digest(json.loads(self.args.hyperparameters))}"


class TrialRunner(GridRunner[Trial]):
    """Runs trials of a search; a result holds the trial's ``score``."""

    grid: tuple[Trial, ...]
    unit = "step"
    fresh_process = False

    @property
    def device(self) -> str:
        return self.grid[0].args.device

    def cells(self) -> list[Trial]:
        return list(self.grid)

    def folder(self, cell: Trial) -> Path:
        return self.out / cell.name

    def budget(self, cell: Trial) -> int:
        return cell.args.timesteps or 0

    def done(self, cell: Trial) -> int:
        return steps_done(self.folder(cell))

    def claim(self, cell: Trial) -> None:
        refuse_other_args(cell.args)

    def make(self, cell: Trial) -> dict[str, Any]:
        experiment = Experiment.opened(cell.args)
        experiment.train()
        return {"score": score_of(experiment.state.curve)}


def score_of(curve: Sequence[CurvePoint]) -> float:
    """Returns the mean success over the last :data:`SCORED_POINTS` points of a learning curve."""
    return float(np.mean([point.score for point in curve[-SCORED_POINTS:]]))


def suggest(trial: Any, algo: str) -> dict[str, Any]:
    """Draws hyperparameters with optuna's ``trial``, from a space that does not depend on how a run starts.

    Raises:
        ConfigurationError: if there is no space for ``algo``.
    """
    if algo not in ("ppo", "a2c", "reinforce"):
        raise ConfigurationError(f"algo={algo!r} has no search space; tune ppo, a2c or reinforce.")
    drawn: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 3e-2, log=True),
    }
    if algo != "reinforce":
        drawn["gae_lambda"] = trial.suggest_categorical("gae_lambda", [0.9, 0.95, 1.0])
    if algo == "ppo":
        drawn["rollout"] = trial.suggest_categorical("rollout", [1920, 3840, 7680])
        drawn["n_epochs"] = trial.suggest_categorical("n_epochs", [4, 8])
    else:
        drawn["rollout"] = trial.suggest_categorical("rollout", [640, 1280, 2560])
    return drawn


def search(
    algo: str,
    start: Start,
    base: Args,
    out: Path,
    *,
    trials: int,
    workers: int = 1,
    ray: str | None = None,
) -> dict[str, Any]:
    """Searches, or resumes the search that ``out`` holds.

    Args:
        algo, start: what is tuned.
        base: settings of every trial.
        out: folder of its journal and runs.
        trials: number of trials.
        workers: trials side by side, each a process here or a task on the cluster.
        ray: address of a Ray cluster whose nodes share the folder, or "local".

    Returns:
        ``best``, its ``score``, and all ``trials`` with their scores, best first.

    Raises:
        ConfigurationError: if there is no search space for ``algo``, or trials were begun with other settings.
    """
    import optuna  # an optional package
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{algo}-{start}"
    folder = out / name
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(out / "journal.log"))),
        direction="maximize",
        load_if_exists=True,
    )
    for interrupted in study.get_trials(states=[TrialState.RUNNING]):
        study.enqueue_trial(interrupted.params)
        study.tell(interrupted.number, state=TrialState.FAIL)
    while (done := len(study.get_trials(states=(TrialState.COMPLETE,)))) < trials:
        asked = {}
        for _ in range(min(workers, trials - done)):
            live = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
            study.sampler = optuna.samplers.TPESampler(  # another draw each time, whether the search was stopped or not
                seed=len(live), n_startup_trials=max(4, trials // 2), constant_liar=True
            )
            one = study.ask()
            asked[_trial(suggest(one, algo), algo, start, base, folder)] = one
        runner = TrialRunner(tuple(asked), folder)
        runner.run(workers=1 if ray is not None else workers, ray=ray)
        for trial, result in runner.finished_results().items():
            study.tell(asked[trial], result["score"])
            logger.info("%s %s: %.3f", name, trial.args.hyperparameters, result["score"])
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    finished.sort(key=lambda one: (-(one.value or 0.0), one.number))
    return {
        "best": finished[0].params,
        "score": finished[0].value,
        "trials": [{"score": one.value, **one.params} for one in finished],
    }


def _trial(hyperparameters: dict[str, Any], algo: str, start: Start, base: Args, folder: Path) -> Trial:
    """Returns the trial of some hyperparameters; where it was interrupted, it has the same folder again."""
    args = replace(
        base,
        algo=algo,
        demos=base.demos if start == "demonstrations" else "none",
        num_demos=base.num_demos if start == "demonstrations" else None,
        hyperparameters=json.dumps(hyperparameters),
    )
    return Trial(replace(args, out=folder / Trial(args).name))


def write_tuned(path: Path, algo: str, start: Start, best: dict[str, Any]) -> None:
    """Puts the outcome of a search into the file of defaults at ``path``, ``agents/tuned.json``."""
    content = read_json(path) if path.is_file() else {}
    content.setdefault(algo, {})[start] = {
        key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in best.items()
    }
    write_json(path, content)
