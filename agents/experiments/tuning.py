"""Hyperparameters chosen on validation images, by the same search with demonstrations and without."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.experiments.train import Experiment, State
from agents.presets import Args
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest, write_json
from oracles.parallel import make_shards

logger = logging.getLogger(__name__)

Start = Literal["scratch", "demonstrations"]
STARTS: tuple[Start, ...] = ("scratch", "demonstrations")
LAST = 3
"""Points of the learning curve, the last ones, whose mean success is a trial's score: one alone is noisy."""


@dataclass(frozen=True)
class Trial:
    """One run with hyperparameters of its own."""

    args: Args

    @property
    def size(self) -> str:
        """See :class:`oracles.parallel.Piece`."""
        return f"{self.args.timesteps} environment steps"


def run_trial(trial: Trial) -> dict[str, float]:
    """Trains, or goes on, and gives the trial's ``score``."""
    out = trial.args.out
    assert out is not None
    if (out / "config.json").is_file():
        experiment = Experiment.resumed(Args(resume=out))
    else:
        experiment = Experiment.started(trial.args)
    experiment.progress = experiment.examples = False
    experiment.train()
    return {"score": score_of(experiment.state)}


def score_of(state: State) -> float:
    """Mean success over the last :data:`LAST` points of the learning curve."""
    return float(np.mean([point.success for point in state.curve[-LAST:]]))


def suggest(trial: Any, algo: str) -> dict[str, Any]:
    """A trial's hyperparameters, from optuna's ``trial``; the space does not depend on how a run starts.

    Raises:
        ConfigurationError: if there is no space for ``algo``.
    """
    if algo not in ("ppo", "a2c", "reinforce"):
        raise ConfigurationError(f"algo={algo!r} has no search space; tune ppo, a2c or reinforce.")
    chosen: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 3e-2, log=True),
    }
    if algo != "reinforce":
        chosen["gae_lambda"] = trial.suggest_categorical("gae_lambda", [0.9, 0.95, 1.0])
    if algo == "ppo":
        chosen["rollout"] = trial.suggest_categorical("rollout", [1920, 3840, 7680])
        chosen["n_epochs"] = trial.suggest_categorical("n_epochs", [4, 8])
    else:
        chosen["rollout"] = trial.suggest_categorical("rollout", [640, 1280, 2560])
    return chosen


def search(
    algo: str, start: Start, base: Args, out: Path, *, trials: int, workers: int, given: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A search that is gone on with where it was stopped.

    Args:
        algo, start: what is tuned.
        base: settings of every trial.
        out: folder of its journal and runs.
        trials: how many.
        workers: trials side by side.
        given: hyperparameters that are tried first.

    Returns:
        ``best``, its ``score``, and all ``trials`` with their scores, best first.
    """
    import optuna  # an optional package
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(out / "journal.log")))
    name = f"{algo}-{start}"
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        load_if_exists=True,
    )
    if not study.trials:
        for chosen in given:
            study.enqueue_trial(chosen)
    for old in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # cut off
        study.enqueue_trial(old.params)
        study.tell(old.number, state=optuna.trial.TrialState.FAIL)
    complete = (optuna.trial.TrialState.COMPLETE,)
    begun = (*complete, optuna.trial.TrialState.RUNNING)
    while (done := len(study.get_trials(states=complete))) < trials:
        asked = {}
        for _ in range(min(workers, trials - done)):
            live = [old for old in study.get_trials(deepcopy=False) if old.state in begun]
            study.sampler = optuna.samplers.TPESampler(  # another draw each time, whether the search was stopped or not
                seed=len(live), n_startup_trials=max(4, trials // 2), constant_liar=True
            )
            one = study.ask()
            chosen = suggest(one, algo)
            args = Args(
                **{
                    **{field: getattr(base, field) for field in base.__dataclass_fields__},
                    "algo": algo,
                    "demos": base.demos if start == "demonstrations" else "none",
                    "num_demos": base.num_demos if start == "demonstrations" else None,
                    "hyperparameters": json.dumps(chosen),
                    "out": out / name / f"trial-{digest(chosen)}",  # that of the same trial, where it was cut off
                }
            )
            asked[Trial(args)] = one
        for trial, result in make_shards(run_trial, list(asked), workers=workers):
            study.tell(asked[trial], result["score"])
            logger.info("%s %s: %.3f", name, trial.args.hyperparameters, result["score"])
    finished = sorted(study.get_trials(states=complete), key=lambda one: (-(one.value or 0.0), one.number))
    return {
        "best": finished[0].params,
        "score": finished[0].value,
        "trials": [{"score": one.value, **one.params} for one in finished],
    }


def keep_tuned(path: Path, algo: str, start: Start, best: dict[str, Any]) -> None:
    """Puts the outcome of a search into ``agents/tuned.json``."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content.setdefault(algo, {})[start] = {
        key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in best.items()
    }
    write_json(path, content)
