"""The main job, a training run in stages: judge, demonstrations, cloning, critic warm-up, fine-tuning, report."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import HParam

from agents.evaluation.comparison import kept_evaluation
from agents.evaluation.evaluate import TITLES, Evaluation, choose_images, format_table
from agents.evaluation.recordings import save_recordings
from agents.evaluation.statistics import gap_closed, mean_of
from agents.experiments.run_folder import FORMAT, begin_run, resume_run, resuming, title_of
from agents.experiments.run_training import FILES_ONLY, RunTraining
from agents.presets import Args
from agents.saving import load_agent
from glimpse_env.cli import command_line, is_interrupt
from glimpse_env.datasets.base import PUBLIC_SPLITS, GlimpseDataset
from glimpse_env.errors import ArtifactError
from glimpse_env.files import digest, write_json
from glimpse_env.versions import versions
from oracles.registry import ANYTIME_REFERENCES, REFERENCES, make_policy, priced, unavailable_reason

logger = logging.getLogger(__name__)


def run(args: Args) -> Path:
    """Does the whole job, or the rest of it, and returns the folder with the results.

    Raises:
        ConfigurationError: if the folder already holds a run, or settings are given together with ``resume``.
        KeyboardInterrupt: after Ctrl-C, once ``model.zip`` is saved.
    """
    experiment = Experiment.resumed(args) if args.resume is not None else Experiment.started(args)
    try:
        experiment.run()
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        experiment.save_model()
        if experiment.model_path.is_file():
            logger.info("\nThe agent so far is %s.", experiment.model_path)
        raise
    return experiment.out


def goes_on(args: Args) -> str:
    """Returns the command that goes on with a run that was stopped, or begins it where it had not begun."""
    folder = args.folder if args.resume is None else args.resume
    begun = (folder / "config.json").is_file()
    return command_line("train_agent", resuming(args, folder) if begun else args)


class Experiment(RunTraining):
    """One run. Its stages are :meth:`prepare`, :meth:`clone`, :meth:`fine_tune` and :meth:`report`.

    They can be called one by one, by one process or several: each first does what is missing of the stages before it,
    takes up what they have left on disk, and does nothing where it is done already.
    """

    @classmethod
    def started(cls, args: Args) -> "Experiment":
        """Begins a run in a folder that holds none yet; see :func:`begin_run`."""
        resolved, source = begin_run(args)
        return cls(resolved, args.folder, source, args.command)

    @classmethod
    def resumed(cls, args: Args) -> "Experiment":
        """Takes up the run in ``args.resume``, with its own settings; see :func:`resume_run`."""
        own, source, command = resume_run(args)
        assert args.resume is not None
        return cls(own, args.resume, source, command)

    @classmethod
    def opened(cls, args: Args) -> "Experiment":
        """Takes up the run in ``args.out``, or begins it; without bars and example episodes."""
        assert args.out is not None
        begun = (args.out / "config.json").is_file()
        experiment = cls.resumed(replace(resuming(args, args.out), root=args.root)) if begun else cls.started(args)
        experiment.progress = experiment.examples = False
        return experiment

    def run(self) -> None:
        """Does all stages."""
        self.train()
        self.report()

    def train(self) -> None:
        """Does all stages but the evaluation on test images."""
        dataset = f"{self.source.name} ({self.source.fingerprint})"
        logger.info("%s on data set %s; results go to %s", self.args.env, dataset, self.out)
        self.fine_tune()

    def report(self) -> None:
        """Evaluates on test images, and writes ``metrics.json`` and the example episodes in ``recordings.npz``.

        Their pictures are drawn by :func:`agents.reports.episodes.draw_run`.
        """
        self.fine_tune()
        test, indices = self._test_images()
        with self._stage("reference policies"):
            evaluations = self.references()
        with self._stage("agent on test images"):
            if self._cloned_path.is_file():
                cloned = load_agent(self._cloned_path, device=self.device)
                evaluations["agent_cloned"] = self._evaluate("agent_cloned", cloned, test, indices)
            agent = self._selected_agent()
            evaluations["agent"] = self._evaluate("agent", agent, test, indices)
        with self._stage("recordings"):
            examples = indices[:: max(1, len(indices) // 4)][:4]
            policies = {"agent": agent, "oracle": self.oracle}
            policies["random"] = make_policy("random", self.source, self.judge)
            recordings = {name: self._record(name, policy, test, examples) for name, policy in policies.items()}
            save_recordings(self.out / "recordings.npz", recordings)
        self.log_hparams(evaluations["agent"].success_rate)
        write_json(self.out / "metrics.json", self._metrics(evaluations))
        title = title_of(self.args, self.source)
        logger.info("\n%s · fingerprint %s · %d test images", title, self.source.fingerprint, len(indices))
        kept = {"agent": "agent, kept as cloned"} if self.state.kept_as_cloned else {}
        logger.info("%s", format_table(evaluations, self.args.glimpse_cost, {**TITLES, **kept}))
        logger.info("\nWhere the time went\n%s", format_times(self.state.wall_time))
        logger.info("\nResults: %s (metrics.json, model.zip)", self.out)
        logger.info("Curves and episodes: tensorboard --logdir %s", shlex.quote(str(self.out / "tensorboard")))

    def references(self) -> dict[str, Evaluation]:
        """Evaluates the reference policies on test images, or finds that in the cache, where other runs share it."""
        test, indices = self._test_images()
        evaluations = {}
        cost = self.args.glimpse_cost
        for name in REFERENCES if cost is None else ANYTIME_REFERENCES:
            if unavailable_reason(name, self.source) is None:
                logger.info("%s: %d test images", TITLES[name], len(indices))
                own, config = priced(name, self.source, cost)
                evaluations[name] = kept_evaluation(own, self.source, self.judge, test, indices, config=config)
        return evaluations

    def test(self) -> Evaluation:
        """Evaluates the agent on test images, with the weights that did best on validation images.

        Raises:
            ArtifactError: if there is no agent yet.
        """
        test, indices = self._test_images()
        agent = self._selected_agent()
        with self._stage("agent on test images"):
            return self._evaluate("agent", agent, test, indices, progress=self.progress)

    def log_hparams(self, test_success: float) -> None:
        """Logs a row of TensorBoard's table of hyperparameters, with the run's success."""
        args = self.args
        settings: dict[str, bool | str | float | None] = {
            "env": args.env,
            "algo": args.algo,
            "architecture": args.architecture or "",
            "demos": Path(args.demos).stem,
            "num_demos": args.num_demos or 0,
            "timesteps": args.timesteps or 0,
            "seed": args.seed,
            "warm_up": args.warm_up,
            "demo_coefficient": args.demo_coefficient,
            "hyperparameters": args.hyperparameters,
        }
        self.tensorboard.record("test/success_rate", test_success)
        scores = {"test/success_rate": test_success, "validation/success_rate": 0.0}  # the curve's last value is shown
        self.tensorboard.record("hparams", HParam(settings, scores), exclude=FILES_ONLY)
        self.tensorboard.dump(self.state.curve[-1].env_steps)

    def _test_images(self) -> tuple[GlimpseDataset, np.ndarray]:
        """Returns the test split and which of its images are played."""
        test = self.source.load("test")
        return test, choose_images(test, self.args.eval_images)

    def _selected_agent(self) -> Any:
        if not self.model_path.is_file():
            raise ArtifactError(f"{self.out} holds no agent yet; train it first.")
        return load_agent(self.model_path, trust=self.args.trust, device=self.device)

    def _price(self, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
        """Returns the price of a glimpse with the policies' glimpses and returns; nothing where there is none."""
        cost = self.args.glimpse_cost
        if cost is None:
            return {}
        rows = {
            name: {"glimpses": one.mean_glimpses, "return": mean_of(one.returns(cost)).to_json()}
            for name, one in evaluations.items()
        }
        return {"glimpse_cost": cost, "anytime": rows}

    def _metrics(self, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
        card, demonstrations, source = self.judge.card, self.demonstrations, self.source
        measure = "success" if self.args.glimpse_cost is None else "return"

        def closed(name: str) -> dict[str, Any]:
            cost = self.args.glimpse_cost or 0.0
            return gap_closed(*(evaluations[key].returns(cost) for key in (name, "random", "oracle"))).to_json()

        taught = demonstrations and {
            "policy": demonstrations.manifest["policy"],
            "num": self.args.num_demos or len(demonstrations),
            "manifest_digest": digest(demonstrations.manifest),
        }
        return {
            "format": FORMAT,
            "env": self.args.env,
            "dataset": {
                "name": source.name,
                "fingerprint": source.fingerprint,
                "classes": len(source.class_names),
                "splits": {split: source.size(split) for split in PUBLIC_SPLITS},
            },
            "judge": {
                "identity": self.judge.identity,
                "scores": card.scores,
                "seed": card.seed,
                "command": card.command,
            },
            "demonstrations": taught,
            "algorithm": self.args.algo,
            "architecture": self.args.architecture,
            "observation": self.observation,
            "seed": self.args.seed,
            "command": self.command,
            **self._price(evaluations),
            "policies": {name: evaluation.to_json() for name, evaluation in evaluations.items()},
            "gap_closed": closed("agent"),
            "gap_closed_cloned": closed("agent_cloned") if "agent_cloned" in evaluations else None,
            "curve": [point.to_json() for point in self.state.curve],
            "selection": {
                "rule": f"the point of the curve with the highest validation {measure}, the latest of equals",
                "env_steps": self.state.selected,
                "validation_images": min(self.args.val_images, self.source.size("val")),
            },
            "cloning": self.state.cloning,
            "wall_time_s": self.state.wall_time,
            "versions": versions(),
        }


def format_times(wall_time: Mapping[str, float]) -> str:
    """Returns seconds by stage as lines of text; a stage with a colon in its name is part of the one before it."""
    total = sum(seconds for stage, seconds in wall_time.items() if ":" not in stage)
    lines = []
    for stage, seconds in wall_time.items():
        whole, _, part = stage.partition(": ")
        name, of = (f"  of which {part}", wall_time[whole]) if part else (stage, total)
        lines.append(f"  {name:<30} {seconds:8.1f} s {100 * seconds / max(of, 1e-9):6.1f} %")
    return "\n".join([*lines, f"  {'total':<30} {total:8.1f} s"])
