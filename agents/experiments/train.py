"""The main job in stages: judge, demonstrations, cloning, critic warm-up, fine-tuning, evaluation, report.

Every stage leaves what it made on disk, so a run that was stopped goes on where it stood and ends as if it had not been
stopped: what is random in a stage, and in each chunk of fine-tuning, depends on the seed and the chunk's number only.
"""

import json
import logging
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import HParam, Image, Logger, configure
from tqdm.auto import tqdm

from agents.algorithms.demonstrations import DemonstrationLossCallback, demonstration_rewards, warm_up_critic
from agents.cloning import CloningData, DemonstrationLoss, agreement, clone
from agents.evaluation.evaluate import (
    TITLES,
    Evaluation,
    Recording,
    cached,
    choose_images,
    evaluate,
    format_table,
    record,
)
from agents.evaluation.statistics import gap_closed
from agents.experiments.grid import refuse_other_settings
from agents.presets import DEMONSTRATORS, Args, budget_of, json_object, tuned
from agents.recording import is_agent, record_agent
from agents.registry import (
    Algorithm,
    algorithm_of,
    architecture_of,
    make_model,
    short_name,
    steps_between_updates,
)
from agents.reports import episodes as figures
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource, GlimpseDataset, Split
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import cache_folder, digest, whole_file, write_json
from glimpse_env.judge.judge import Judge, judge_command
from glimpse_env.registration import source_of
from glimpse_env.vector_env import GlimpseVectorEnv
from glimpse_env.versions import versions
from oracles.base import GlimpsePolicy
from oracles.demonstrations import Demonstrations, demonstrate, manifest_of
from oracles.exchange.published import cropped_cub, is_published, read_published
from oracles.registry import REFERENCES, ensure_policy, make_policy
from oracles.training.judge import ensure_judge

logger = logging.getLogger(__name__)

FORMAT = 1
NUM_ENVS = 128
TABULATED_IMAGES = 20_000
"""Training images at most for which the judge answers from a table: larger ones would take gigabytes of the cache."""
STEPPING = "fine-tuning: environment steps"
"""The part of fine-tuning's wall time that the environments take."""
HELD_OUT = 0.1
"""Share of the demonstrated images that tell how well the others were learnt."""
PRETRAINING = 15
"""Gradient steps of Q-learning that stand for a pass of cloning."""
PATHS = frozenset({"algo", "demos", "root", "out", "resume"})
"""Settings that are or may be paths, which can be written in many ways."""
TRAINING = ("cloning", "critic warm-up", "fine-tuning")
"""The stages in which the agent learns."""


@dataclass(frozen=True)
class CurvePoint:
    """The agent on validation images, at some point of its training."""

    env_steps: int
    """Environment steps so far."""
    success: float
    log_loss: float
    """Of the label after the last glimpse, a mean over images, nats."""
    seconds: float
    """Wall time of training so far: cloning, the critic's warm-up and fine-tuning, without validations."""


@dataclass
class State:
    """How far a run has come; written after every step that is kept."""

    chunk: int | None = None
    """Chunks of fine-tuning done; None until cloning and the critic's warm-up are."""
    selected: int = 0
    """The environment steps after which validation success was highest, the latest of equals."""
    curve: list[CurvePoint] = field(default_factory=list)
    """After each chunk, the first one before any."""
    identity: dict[str, str] = field(default_factory=dict)
    """Of the data, the judge and the demonstrations that the run began with."""
    cloning: dict[str, Any] | None = None
    """How cloning went."""
    wall_time: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "State":
        """The state at ``path``; a fresh one where there is no file.

        Raises:
            ArtifactError: if the file cannot be read.
        """
        if not path.is_file():
            return cls()
        try:
            state = cls(**json.loads(path.read_text(encoding="utf-8")))
            state.curve = [CurvePoint(**point) for point in state.curve]  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); start the run again in another folder.") from error
        return state


def run(args: Args) -> Path:
    """Does the whole job, or the rest of it, and returns the folder with the results.

    Raises:
        ConfigurationError: if the folder already holds a run, or settings are given together with ``resume``.
        KeyboardInterrupt: after Ctrl-C, once ``model.zip`` is safe and the command to go on has been shown.
    """
    experiment = Experiment.resumed(args) if args.resume is not None else Experiment.started(args)
    try:
        experiment.run()
    except KeyboardInterrupt:
        experiment.keep_model()
        logger.info(
            "\nStopped. %s\nGo on with\n  python scripts/train_agent.py --resume %s",
            f"The agent so far is {experiment.model_path}." if experiment.model_path.is_file() else "No agent yet.",
            shlex.quote(str(experiment.out)),
        )
        raise
    return experiment.out


class Experiment:
    """One run. Its stages can be called one by one; each goes on from what is on disk."""

    def __init__(self, args: Args, out: Path, source: DataSource, command: str):
        """
        Args:
            args: settings; ``num_demos`` and ``timesteps`` resolved.
            out: folder of the results, with ``config.json`` in it.
            source: the data set.
            command: that the run was started with.
        """
        self.args, self.out, self.source, self.command = args, out, source, command
        self.geometry = source.geometry
        self.model_path = out / "model.zip"
        self.checkpoints = out / "checkpoint"
        self.state = State.load(self.checkpoints / "state.json")
        self.model: Any | None = None
        self._kept: DemonstrationLossCallback | None = None
        self.progress = True
        """Whether to show bars."""
        self.examples = True
        """Whether TensorBoard gets episodes with each validation."""

    @classmethod
    def started(cls, args: Args) -> "Experiment":
        """A new run in a folder that holds none yet."""
        out = args.folder
        resume = f"python scripts/train_agent.py --resume {shlex.quote(str(out))}"
        if (out / "metrics.json").exists():
            raise ConfigurationError(f"{out} holds a finished run; choose another --out or --seed, or move it away.")
        if (out / "config.json").exists():
            raise ConfigurationError(f"{out} holds an unfinished run; go on with `{resume}` or choose another --out.")
        source = source_of(args.env, args.root, args.dataset_options, args.scales)
        if args.demos == "hgs" and not source.part_names:
            raise ConfigurationError(f"--demos hgs needs parts, which data set {source.name} has not; use oracle.")
        if args.demos not in (*DEMONSTRATORS, "none") and not is_agent(args.demos) and is_published(args.demos):
            cropped_cub(source)  # said now, not once a judge has been trained
        budget = budget_of(source.name)
        resolved = {item.name: getattr(args, item.name) for item in fields(args)}
        if args.num_demos is None and (args.demos in DEMONSTRATORS or is_agent(args.demos)):
            resolved["num_demos"] = min(budget.num_demos, source.size("train"))
        if args.timesteps is None:
            resolved["timesteps"] = budget.timesteps
        free = args.architecture is None and algorithm_of(args.algo).core is None
        resolved["architecture"] = architecture_of(args.algo, budget.architecture if free else args.architecture)
        if args.target_temperature is None:
            resolved["target_temperature"] = budget.temperature
        # to be found from wherever the run is gone on with
        if args.root is not None:
            resolved["root"] = os.path.abspath(args.root)
        if args.demos not in (*DEMONSTRATORS, "none"):
            resolved["demos"] = os.path.abspath(args.demos)
        if Path(args.algo).suffix == ".py":
            resolved["algo"] = os.path.abspath(args.algo)
        resolved["out"] = out
        config = {
            "format": FORMAT,
            "args": {name: str(value) if isinstance(value, Path) else value for name, value in resolved.items()},
            "command": args.command,
            "dataset": source.name,
            "fingerprint": source.fingerprint,
            "versions": versions(),
        }
        write_json(out / "config.json", config)
        return cls(Args(**resolved), out, source, args.command)

    @classmethod
    def resumed(cls, args: Args) -> "Experiment":
        """The run in ``args.resume``, with its own settings."""
        assert args.resume is not None
        given = [
            item.name
            for item in fields(args)
            if item.name != "resume" and item.default is not MISSING and getattr(args, item.name) != item.default
        ]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigurationError(f"--resume takes its settings from {args.resume}/config.json; leave out {flags}.")
        path = args.resume / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            settings = {**config["args"], "out": args.resume, "resume": None}
            own = Args(**settings)
            name, fingerprint, command = config["dataset"], config["fingerprint"], config["command"]
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{args.resume} holds no run (no config.json); start one without --resume."
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path} cannot be read ({error!r}); start the run again in another folder.") from error
        if (args.resume / "metrics.json").exists():
            raise ConfigurationError(f"{args.resume} holds a finished run; there is nothing to go on with.")
        source = source_of(own.env, own.root, own.dataset_options, own.scales)
        if (source.name, source.fingerprint) != (name, fingerprint):
            raise ArtifactError(
                f"{args.resume} was begun on data set {name} {fingerprint}; {own.env} now finds {source.name} "
                f"{source.fingerprint}. Bring the data back or start a run of its own."
            )
        return cls(own, args.resume, source, command)

    @classmethod
    def opened(cls, args: Args) -> "Experiment":
        """The run in ``args.out``, begun if there is none yet; without bars and example episodes."""
        assert args.out is not None
        begun = (args.out / "config.json").is_file()
        experiment = cls.resumed(Args(resume=args.out)) if begun else cls.started(args)
        experiment.progress = experiment.examples = False
        return experiment

    def run(self) -> None:
        """All stages."""
        self.train()
        self.report()

    def train(self) -> None:
        """All stages but the evaluation on test images."""
        logger.info(
            "%s on data set %s (%s); results go to %s",
            self.args.env,
            self.source.name,
            self.source.fingerprint,
            self.out,
        )
        with self._stage("judge"):
            self.judge  # noqa: B018
        with self._stage("demonstrations"):
            data = self.cloning_data()
        self._check_identity()
        model = self.model = self._load() if self.state.chunk is not None else self._make()
        model.set_logger(self.tensorboard)
        if self.state.chunk is None:
            if data is not None and self._algorithm.off_policy:
                self.pretrain(model, data)
            elif data is not None:
                self.clone(model, data)
            self._keep(model, 0)
        for chunk in range((self.state.chunk or 0) + 1, len(self.chunk_ends) + 1):
            self.fine_tune(model, data, chunk)
            self._keep(model, chunk)

    # -- what the stages work with ------------------------------------------------------------------------------------

    @cached_property
    def judge(self) -> Judge:
        """The judge of the data set, trained first where there is none."""
        return ensure_judge(self.source, command=judge_command(self.source))

    @cached_property
    def demonstrations(self) -> Demonstrations | None:
        """What is cloned, made first where the cache has none; None without cloning.

        Raises:
            ArtifactError: if a file was given that belongs to other data or another judge, or holds too few.
        """
        kind, num = self.args.demos, self.args.num_demos
        if kind == "none":
            return None
        if kind in DEMONSTRATORS:
            assert num is not None
            return demonstrate(kind, self.source, self.judge, num, seed=self.args.seed)
        if is_agent(kind):
            assert num is not None
            return record_agent(Path(kind), self.source, self.judge, num, seed=self.args.seed)
        if is_published(kind):
            demonstrations = read_published(kind, self.source, self.judge)
        else:
            demonstrations = Demonstrations.load(kind)
            demonstrations.check_fits(self.source, self.judge)
        if num is not None and num > len(demonstrations):
            raise ArtifactError(f"{kind} holds {len(demonstrations)} demonstrations, fewer than --num-demos {num}.")
        return demonstrations

    def cloning_data(self) -> CloningData | None:
        """The demonstrations as states and targets, mirror images among them where they fit; None without cloning."""
        data = self._as_shown()
        if data is None:
            return None
        data = data.with_mirror_images() if self.source.mirror_symmetric else data
        return data.embedded(self.judge) if self.args.observation == "embedding" else data

    def _as_shown(self) -> CloningData | None:
        """The demonstrations themselves."""
        demonstrations = self.demonstrations
        if demonstrations is None:
            return None
        temperature = self.args.target_temperature or 0.0
        soft = demonstrations.epe is not None and temperature > 0
        data = CloningData.from_demonstrations(
            demonstrations,
            self.dataset("train"),
            targets="soft" if soft else "argmax",
            temperature=temperature if soft else 1.0,
        )
        return data[: self.args.num_demos]

    def dataset(self, split: Split) -> GlimpseDataset:
        """A split of the data set, memory-mapped."""
        return self.source.load(split)

    @cached_property
    def oracle(self) -> GlimpsePolicy:
        """The oracle for validation and test images."""
        return make_policy("oracle", self.source, self.judge)

    def reference(self, name: str) -> GlimpsePolicy:
        """The reference policy called ``name``, what is random in it at its start; the oracle is made only once."""
        return self.oracle if name == "oracle" else make_policy(name, self.source, self.judge)

    @cached_property
    def tensorboard(self) -> Logger:
        """SB3's logger, for the whole run one."""
        return configure(str(self.out / "tensorboard"), ["tensorboard"])

    def vec_env(self) -> GlimpseVecEnv:
        """Fresh training environments; the judge is asked where the reward needs it only."""
        train = self.dataset("train")
        return GlimpseVecEnv(
            GlimpseVectorEnv(
                train,
                self.judge,
                num_envs=NUM_ENVS,
                observation=self.args.observation,
                reward=self.args.reward,
                posterior_info=False,
                tabulated=self._tabulated,
            ),
            group=self.args.group,
        )

    @property
    def _tabulated(self) -> bool:
        """Whether the judge answers from a table."""
        return self.args.observation == "embedding" or self.source.size("train") <= TABULATED_IMAGES

    @property
    def _algorithm(self) -> Algorithm:
        return algorithm_of(self.args.algo)

    @property
    def warm_up_steps(self) -> int:
        """Environment steps that the critic's warm-up takes: whole rollouts, and no more than half of all steps."""
        if self.args.demos == "none" or not self.args.timesteps or self._algorithm.off_policy:
            return 0
        rollouts = min(-(-self.args.warm_up // self._rollout_steps), self.args.timesteps // (2 * self._rollout_steps))
        return rollouts * self._rollout_steps

    @property
    def chunk_ends(self) -> list[int]:
        """Environment steps at which chunks of fine-tuning end, each of whole rollouts and followed by a validation.

        They grow longer: early on more happens in fewer steps.
        """
        assert self.args.timesteps is not None
        rollouts = -(-max(0, self.args.timesteps - self.warm_up_steps) // self._rollout_steps)
        points = self.args.validations
        ends = sorted({-(-rollouts * k * k // points**2) for k in range(1, points + 1)} - {0})
        return [self.warm_up_steps + end * self._rollout_steps for end in ends]

    # -- the stages ---------------------------------------------------------------------------------------------------

    def clone(self, model: Any, data: CloningData) -> None:
        """Learns from the demonstrations alone, and keeps that agent for the table."""

        def log(number: int, train_loss: float, held_out_loss: float) -> None:
            self.tensorboard.record("cloning/train_loss", train_loss)
            self.tensorboard.record("cloning/held_out_loss", held_out_loss)
            self.tensorboard.dump(number)

        with self._stage("cloning"):
            model.set_random_seed(self._seed_of("cloning"))
            result = clone(
                model, data, passes=self.args.clone_passes, seed=self.args.seed, progress=self.progress, on_pass=log
            )
            _save(model, self._cloned_path)
        self.state.cloning = {
            "passes": len(result.train_loss),
            "held_out_loss": result.held_out_loss[-1],
            "top_1": result.top_1,
            "top_5": result.top_5,
        }

    def pretrain(self, model: Any, data: CloningData) -> None:
        """Puts the demonstrations into replay and learns from them before the first step in the environment."""
        shown = self._as_shown()
        assert shown is not None
        with self._stage("cloning"):
            model.set_random_seed(self._seed_of("cloning"))
            rewards = demonstration_rewards(
                shown,
                self.dataset("train"),
                self.judge,
                self.args.reward,
                tabulated=self._tabulated,
            )
            rewards = np.tile(rewards, (len(data) // len(shown), 1))  # mirror images pay the same
            train, held = data.split(HELD_OUT, self.args.seed)
            model.load_demonstrations(train, rewards[~np.isin(data.indices, held.indices)])
            steps = self.args.clone_passes * PRETRAINING
            result = model.pretrain(steps, seed=self.args.seed, progress=self.progress)
            _save(model, self._cloned_path)
        top_1, top_5 = agreement(DemonstrationLoss(model.policy, held))
        self.state.cloning = {"steps": steps, "loss": result.loss[-1], "top_1": top_1, "top_5": top_5}

    def warm_up(self, model: Any) -> None:
        """Fits the critic to the cloned policy."""
        logger.info("Fitting the critic to the cloned policy on %d environment steps.", self.warm_up_steps)
        with self._stage("critic warm-up"):
            model.set_random_seed(self._seed_of("critic"))
            losses = warm_up_critic(model, timesteps=self.warm_up_steps)
            model.num_timesteps += self.warm_up_steps
        assert self.state.cloning is not None
        self.state.cloning["critic_loss"] = losses[-1]

    def fine_tune(self, model: Any, data: CloningData | None, chunk: int) -> None:
        """Chunk ``chunk`` of policy-gradient training, from 1; with demonstrations their loss is kept."""
        if chunk == 1 and self.warm_up_steps:
            self.warm_up(model)
        seed, target = self._seed_of("fine-tuning", chunk), self.chunk_ends[chunk - 1]
        env = model.get_env()
        assert env is not None
        model.set_random_seed(seed)
        model.set_env(env, force_reset=True)
        title = f"fine-tuning {chunk}/{len(self.chunk_ends)}"
        callbacks: list[BaseCallback] = [_Progress(title, target, shown=self.progress)]
        if data is not None and self.args.demo_coefficient > 0 and not self._algorithm.off_policy:
            if self._kept is None:
                self._kept = DemonstrationLossCallback(
                    data, coefficient=self.args.demo_coefficient, fade_timesteps=self.args.demo_fade
                )
            self._kept.set_seed(seed)
            callbacks.append(self._kept)
        assert isinstance(env, GlimpseVecEnv)
        before = env.seconds
        with self._stage("fine-tuning"):
            model.learn(target - model.num_timesteps, CallbackList(callbacks), reset_num_timesteps=False)
        self.state.wall_time[STEPPING] = self.state.wall_time.get(STEPPING, 0.0) + env.seconds - before

    def validate(self, model: Any) -> Evaluation:
        """The agent on validation images, with examples for TensorBoard."""
        val = self.dataset("val")
        indices = choose_images(val, self.args.val_images)
        with self._stage("validation"):
            evaluation = self._evaluate("agent", model, val, indices, progress=False)
            step = model.num_timesteps
            self.tensorboard.record("validation/success_rate", evaluation.success_rate)
            self.tensorboard.record("validation/log_loss", float(evaluation.log_loss[-1]))
            self.tensorboard.record("validation/entropy", float(evaluation.entropy[-1]))
            names = ("agent",) if step > 0 else ("agent", "oracle")
            for name in names if self.examples else ():
                policy = self.oracle if name == "oracle" else model
                recording = self._record(name, policy, val, indices[:2])
                for row in range(len(recording.indices)):
                    frames = figures.episode_frames(recording, row, val, name=name)
                    self.tensorboard.record(
                        f"episodes/{name}-{row}",
                        Image(frames[-1], "HWC"),
                        exclude=("stdout", "log", "json", "csv"),
                    )
            self.tensorboard.dump(step)
        return evaluation

    def references(self) -> dict[str, Evaluation]:
        """The reference policies on test images; kept in the cache for other runs on the same data and judge."""
        test = self.dataset("test")
        indices = choose_images(test, self.args.eval_images)
        evaluations = {}
        for name in REFERENCES:
            if name == "hgs" and not self.source.part_names:
                continue
            ensure_policy(name, self.source, self.judge)
            manifest = manifest_of(name, self.source, self.judge, len(indices))
            path = cache_folder() / "evaluations" / f"{test.name}-{name}-{digest(manifest, 'test', indices)}.json"
            evaluations[name] = cached(
                path,
                lambda name=name: self._evaluate(name, self.reference(name), test, indices),  # type: ignore[misc]
            )
        return evaluations

    def test(self) -> Evaluation:
        """The agent on test images, with the weights that did best on validation images."""
        test = self.dataset("test")
        agent = self._algorithm.model.load(self.model_path, device="cpu")
        with self._stage("agent on test images"):
            return self._evaluate(
                "agent", agent, test, choose_images(test, self.args.eval_images), progress=self.progress
            )

    def report(self) -> None:
        """Evaluates on test images, and writes the table, the metrics and the pictures."""
        test = self.dataset("test")
        indices = choose_images(test, self.args.eval_images)
        with self._stage("reference policies"):
            evaluations = self.references()
        with self._stage("agent on test images"):
            algorithm = self._algorithm.model
            agent = algorithm.load(self.model_path, device="cpu")
            if self._cloned_path.is_file():
                cloned = algorithm.load(self._cloned_path, device="cpu")
                evaluations["agent_cloned"] = self._evaluate("agent_cloned", cloned, test, indices)
            evaluations["agent"] = self._evaluate("agent", agent, test, indices)
        demos = Path(self.args.demos).stem
        algo = short_name(self.args.algo).upper()
        title = f"{self.args.env} · data set {self.source.name} · {algo}, demonstrations: {demos}"
        with self._stage("pictures"):
            figures.learning_curve(
                self.out / "learning_curve.png",
                [(point.env_steps, point.success) for point in self.state.curve],
                evaluations,
                selected=self.state.selected,
                validation_images=min(self.args.val_images, len(self.dataset("val"))),
                title=title,
            )
            examples = indices[:: max(1, len(indices) // 4)][:4]
            figures.episodes(
                self.out / "episodes.png",
                {
                    name: self._record(name, policy, test, examples)
                    for name, policy in (
                        ("agent", agent),
                        ("oracle", self.oracle),
                        ("random", self.reference("random")),
                    )
                },
                test,
                title=title,
            )
        self.log_hparams(evaluations["agent"].success_rate)
        write_json(self.out / "metrics.json", self._metrics(evaluations))
        logger.info("\n%s · fingerprint %s · %d test images", title, self.source.fingerprint, len(indices))
        logger.info("%s", format_table(evaluations))
        logger.info("\nWhere the time went\n%s", format_times(self.state.wall_time))
        logger.info("\nResults: %s (metrics.json, model.zip, learning_curve.png, episodes.png)", self.out)
        logger.info("Curves and episodes: tensorboard --logdir %s", shlex.quote(str(self.out / "tensorboard")))

    def log_hparams(self, test_success: float) -> None:
        """A row of TensorBoard's table of hyperparameters, with what the run came to."""
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
        table = HParam(settings, scores)
        self.tensorboard.record("hparams", table, exclude=("stdout", "log", "json", "csv"))
        self.tensorboard.dump(self.state.curve[-1].env_steps)

    def keep_model(self) -> None:
        """Saves the agent as it is, where no better one has been saved yet."""
        if self.model is not None and not self.model_path.is_file():
            _save(self.model, self.model_path)

    # -- helpers ------------------------------------------------------------------------------------------------------

    @property
    def _cloned_path(self) -> Path:
        return self.checkpoints / "cloned.zip"

    @property
    def _rollout_steps(self) -> int:
        """Environment steps of one rollout."""
        assert self.model is not None
        return steps_between_updates(self.model)

    def _seed_of(self, *what: str | int) -> int:
        """The seed of a stage or a chunk."""
        return int(digest(self.args.seed, *what), 16) % 2**31

    def _make(self) -> Any:
        steps = self.geometry.num_glimpses
        with_demos = self.args.demos != "none"
        chosen = {**tuned(self.args.algo, with_demos), **json_object("--hyperparameters", self.args.hyperparameters)}
        if with_demos:
            chosen = {**self._algorithm.after_demonstrations, **chosen}
        found = chosen.pop("rollout", None)
        if found is not None and self._algorithm.off_policy:
            raise ConfigurationError(f"rollout={found} does nothing with {self.args.algo}; leave it out.")
        rollout = self.args.rollout or found
        if rollout is not None:
            chosen["n_steps"] = steps * max(1, round(rollout / (NUM_ENVS * steps)))
        return make_model(
            self.args.algo,
            self.vec_env(),
            seed=self.args.seed,
            architecture=self.args.architecture,
            judge=self.judge,
            **chosen,
        )

    def _load(self) -> Any:
        path = self._checkpoint_path(self.state.chunk)
        try:
            if self._algorithm.off_policy:
                model: Any = self._algorithm.model.load(path, env=self.vec_env(), device="cpu")
                model.load_replay_buffer(path.with_suffix(".npz"))
                return model
            return self._algorithm.model.load(path, env=self.vec_env(), device="cpu")
        except (OSError, ValueError) as error:
            raise ArtifactError(f"the checkpoint {path} cannot be read ({error}); start the run again.") from error

    def _checkpoint_path(self, chunk: int | None) -> Path:
        return self.checkpoints / f"chunk-{chunk}.zip"

    def _keep(self, model: Any, chunk: int) -> None:
        """Validates after ``chunk``, saves everything to go on from there, and the model if it is the best so far."""
        evaluation = self.validate(model)
        before = self.state.chunk
        best = max((point.success for point in self.state.curve), default=-1.0)
        self.state.curve.append(
            CurvePoint(
                model.num_timesteps,
                evaluation.success_rate,
                float(evaluation.log_loss[-1]),
                sum(self.state.wall_time.get(stage, 0.0) for stage in TRAINING),
            )
        )
        logger.info("%8d steps: %.1f %% on validation images", model.num_timesteps, 100 * evaluation.success_rate)
        if evaluation.success_rate >= best:
            self.state.selected = model.num_timesteps
            _save(model, self.model_path)
        _save(model, self._checkpoint_path(chunk))
        if self._algorithm.off_policy:
            model.save_replay_buffer(self._checkpoint_path(chunk).with_suffix(".npz"))
        self.state.chunk = chunk
        self.state.save(self.checkpoints / "state.json")
        if before is not None:
            for suffix in (".zip", ".npz"):
                self._checkpoint_path(before).with_suffix(suffix).unlink(missing_ok=True)

    def _evaluate(
        self, name: str, policy: Any, dataset: GlimpseDataset, indices: np.ndarray, progress: bool = True
    ) -> Evaluation:
        if progress:
            logger.info("%s: %d %s images", TITLES[name], len(indices), dataset.split)
        return evaluate(
            policy,
            dataset,
            self.judge,
            indices,
            name=name,
            observation=self._shown_to(name),
            progress=progress,
        )

    def _record(self, name: str, policy: Any, dataset: GlimpseDataset, indices: np.ndarray) -> Recording:
        return record(
            policy,
            dataset,
            self.judge,
            indices,
            observation=self._shown_to(name),
        )

    def _shown_to(self, name: str) -> Literal["history", "embedding"]:
        """The observation mode of the policy called ``name``."""
        return self.args.observation if name.startswith("agent") else "history"

    def _check_identity(self) -> None:
        """Refuses to go on with another judge or other demonstrations than the run began with."""
        manifest = self.demonstrations.manifest if self.demonstrations is not None else {}
        now = {"judge": self.judge.identity, "demonstrations": digest(manifest)}
        for what, identity in self.state.identity.items():
            if identity != now[what]:
                raise ArtifactError(
                    f"{self.out} was begun with other {what} ({identity}, now {now[what]}); start a run of its own."
                )
        self.state.identity = now

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Adds what the block takes to the wall time of a stage."""
        began = time.perf_counter()
        yield
        self.state.wall_time[name] = self.state.wall_time.get(name, 0.0) + time.perf_counter() - began

    def _metrics(self, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
        card, demonstrations = self.judge.card, self.demonstrations

        def closed(name: str) -> dict[str, Any]:
            outcomes = (evaluations[key].outcomes for key in (name, "random", "oracle"))
            return gap_closed(*outcomes).to_json()

        return {
            "format": FORMAT,
            "env": self.args.env,
            "dataset": {
                "name": self.source.name,
                "fingerprint": self.source.fingerprint,
                "classes": len(self.source.class_names),
                "splits": {split: self.source.size(split) for split in PUBLIC_SPLITS},
            },
            "judge": {
                "identity": self.judge.identity,
                "scores": card.scores,
                "seed": card.seed,
                "command": card.command,
            },
            "demonstrations": None
            if demonstrations is None
            else {
                "policy": demonstrations.manifest["policy"],
                "num": self.args.num_demos or len(demonstrations),
                "manifest_digest": digest(demonstrations.manifest),
            },
            "algorithm": self.args.algo,
            "architecture": self.args.architecture,
            "observation": self.args.observation,
            "seed": self.args.seed,
            "command": self.command,
            "policies": {name: evaluation.to_json() for name, evaluation in evaluations.items()},
            "gap_closed": closed("agent"),
            "gap_closed_cloned": closed("agent_cloned") if "agent_cloned" in evaluations else None,
            "curve": [asdict(point) for point in self.state.curve],
            "selection": {
                "rule": "the point of the curve with the highest validation success, the latest of equals",
                "env_steps": self.state.selected,
                "validation_images": min(self.args.val_images, self.source.size("val")),
            },
            "cloning": self.state.cloning,
            "wall_time_s": self.state.wall_time,
            "versions": versions(),
        }


def refuse_other_args(args: Args) -> None:
    """Raises ConfigurationError if the run in ``args.out`` was begun with other settings; paths are not compared."""
    assert args.out is not None
    path = args.out / "config.json"
    if not path.is_file():
        return
    begun = json.loads(path.read_text(encoding="utf-8"))["args"]
    wanted = {item.name: getattr(args, item.name) for item in fields(args) if item.name not in PATHS}
    if wanted["target_temperature"] is None:  # a run takes its data set's when it begins
        del wanted["target_temperature"]
    refuse_other_settings(args.out, {name: begun.get(name) for name in wanted}, wanted)


def steps_done(folder: Path) -> int:
    """Returns the environment steps that the run in ``folder`` has done; raises ArtifactError as :meth:`State.load`."""
    curve = State.load(folder / "checkpoint" / "state.json").curve
    return curve[-1].env_steps if curve else 0


class _Progress(BaseCallback):
    """A bar over the environment steps of one chunk, with the share of training episodes that succeeded lately."""

    def __init__(self, title: str, target: int, shown: bool = True):
        super().__init__()
        self.title, self.target, self.shown = title, target, shown

    def _on_training_start(self) -> None:
        self.bar = tqdm(
            total=self.target,
            initial=self.model.num_timesteps,
            desc=self.title,
            unit="step",
            disable=not self.shown,
        )

    def _on_step(self) -> bool:
        if self.shown:
            self.bar.update(self.model.num_timesteps - self.bar.n)
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ep_success_buffer:
            self.bar.set_postfix(success=f"{np.mean(self.model.ep_success_buffer):.2f}")

    def _on_training_end(self) -> None:
        self.bar.close()


def format_times(wall_time: Mapping[str, float]) -> str:
    """Seconds by stage as lines of text; a stage with a colon in its name is part of the one before the colon."""
    total = sum(seconds for stage, seconds in wall_time.items() if ":" not in stage)
    lines = []
    for stage, seconds in wall_time.items():
        whole, _, part = stage.partition(": ")
        name, of = (f"  of which {part}", wall_time[whole]) if part else (stage, total)
        lines.append(f"  {name:<30} {seconds:8.1f} s {100 * seconds / max(of, 1e-9):6.1f} %")
    return "\n".join([*lines, f"  {'total':<30} {total:8.1f} s"])


def _save(model: Any, path: Path) -> None:
    with whole_file(path) as temporary:
        model.save(temporary)
