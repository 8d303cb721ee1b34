"""The stages of a training run in which the agent learns: cloning, the critic's warm-up and fine-tuning.

Every stage leaves what it made on disk, so that a run that was stopped resumes where it stood and ends as if it had not
been stopped: what is random in a stage, and in each chunk of fine-tuning, depends on the seed and the chunk's number.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Image, Logger, configure
from tqdm.auto import tqdm

from agents.algorithms.demonstrations import DemonstrationLossCallback, demonstration_rewards, warm_up_critic
from agents.cloning import DemonstrationLoss, agreement, clone
from agents.cloning_data import CloningData
from agents.evaluation.evaluate import TITLES, Evaluation, choose_images, evaluate
from agents.evaluation.recordings import Recording, episode_frames, record
from agents.experiments.run_folder import CurvePoint, State, algorithm_identity
from agents.experiments.run_inputs import RunInputs
from agents.presets import Args
from agents.registry import steps_between_updates
from agents.saving import restore_agent, save_agent
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError
from glimpse_env.files import digest, write_json
from glimpse_env.threads import at_most_threads

logger = logging.getLogger(__name__)

STEPPING = "fine-tuning: environment steps"
"""Name of the part of fine-tuning's wall time that the environments take."""
HELD_OUT = 0.1
"""Share of the demonstrated images on which it is measured how well the others were learnt."""
PRETRAINING_STEPS_PER_PASS = 15
"""Gradient steps of Q-learning that stand for a pass of cloning."""
TRAINING = ("cloning", "critic warm-up", "fine-tuning")
"""The stages in which the agent learns."""
FILES_ONLY = ("stdout", "log", "json", "csv")
"""Formats of SB3's logger that take no pictures and tables."""


class RunTraining(RunInputs):
    """A run as far as the agent learns; :class:`agents.experiments.train.Experiment` is all of it."""

    def __init__(self, args: Args, out: Path, source: DataSource, command: str):
        super().__init__(args, out, source, command)
        self.model_path, self.checkpoints = out / "model.zip", out / "checkpoint"
        self._cloned_path = self.checkpoints / "cloned.json"
        self.state = State.load(self.checkpoints / "state.json")
        self.model: Any | None = None
        """The agent in training, once it is made or loaded."""
        self._learning = False
        """Whether ``model`` has begun to learn what no checkpoint holds yet."""
        self._demo_callback: DemonstrationLossCallback | None = None
        self.progress = True
        """Whether to show bars."""
        self.examples = True
        """Whether TensorBoard gets episodes with each validation."""

    def prepare(self) -> None:
        """Finds or trains the judge, and finds, reads or makes the demonstrations.

        Raises:
            ArtifactError: if they, or the algorithm, are others than those that the run began with.
        """
        with self._stage("judge"):
            self.judge  # noqa: B018
        with self._stage("demonstrations"):
            self.cloning_data  # noqa: B018
        manifest = self.demonstrations.manifest if self.demonstrations is not None else {}
        now = {
            "judge": self.judge.identity,
            "demonstrations": digest(manifest),
            "algorithm": algorithm_identity(self.args.algo),
        }
        for what, identity in self.state.identity.items():
            if identity != now[what]:
                raise ArtifactError(
                    f"{self.out} was begun with other {what} ({identity}, now {now[what]}); start a run of its own."
                )
        self.state.identity = now

    def clone(self) -> None:
        """Makes the agent, teaches it the demonstrations if there are any, and validates it."""
        if self.state.chunk is not None:
            return
        model, data = self._agent(), self.cloning_data
        self._learning = True
        if data is not None and self.algorithm.off_policy:
            self._pretrain(model, data)
        elif data is not None:
            self._clone(model, data)
        self._checkpoint(model, 0)

    def fine_tune(self, chunks: int | None = None) -> None:
        """Trains with reward, the critic's warm-up first.

        Args:
            chunks: how many of :attr:`chunk_ends`; default all that are left.
        """
        self.clone()
        model = self._agent()
        first = (self.state.chunk or 0) + 1
        for chunk in range(first, len(self.chunk_ends) + 1)[:chunks]:
            self._learning = True
            if chunk == 1 and self.warm_up_steps:
                self._warm_up(model)
            self._fine_tune(model, chunk)
            self._checkpoint(model, chunk)
        self._remove_other_checkpoints()

    def save_model(self) -> None:
        """Saves the agent as it is, where no better one has been saved yet."""
        if self.model is not None and not self.model_path.is_file():
            self._save(self.model, self.model_path)

    # -- training ------------------------------------------------------------------------------------------------------

    @property
    def warm_up_steps(self) -> int:
        """Environment steps that the critic's warm-up takes: whole rollouts, and no more than half of all steps."""
        if self.args.demos == "none" or not self.args.timesteps or self.algorithm.off_policy:
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

    def _agent(self) -> Any:
        """The agent as the last finished stage left it: the one in memory, of the checkpoint, or a new one."""
        if self.model is None or self._learning:
            self.prepare()
            self.model = self.make_model() if self.state.chunk is None else self._load()
            self.model.set_logger(self.tensorboard)
            self._learning = False
        return self.model

    def _clone(self, model: Any, data: CloningData) -> None:
        """Teaches the demonstrations alone, and saves that agent for the table."""

        def log(number: int, train_loss: float, held_out_loss: float) -> None:
            self.tensorboard.record("cloning/train_loss", train_loss)
            self.tensorboard.record("cloning/held_out_loss", held_out_loss)
            self.tensorboard.dump(number)

        with self._stage("cloning"):
            model.set_random_seed(self._seed_of("cloning"))
            result = clone(
                model, data, passes=self.args.clone_passes, seed=self.args.seed, progress=self.progress, on_pass=log
            )
            self._save(model, self._cloned_path)
        self.state.cloning = {
            "passes": len(result.train_loss),
            "held_out_loss": result.held_out_loss[-1],
            "top_1": result.top_1,
            "top_5": result.top_5,
        }

    def _pretrain(self, model: Any, data: CloningData) -> None:
        """Puts the demonstrations into replay and learns from them before the first step in the environment."""
        plain = self.plain_cloning_data()
        assert plain is not None
        with self._stage("cloning"):
            model.set_random_seed(self._seed_of("cloning"))
            train_images = self.source.load("train")
            rewards = demonstration_rewards(
                plain,
                train_images,
                self.judge,
                self.args.reward or "information",
                glimpse_cost=self.args.glimpse_cost or 0.0,
                tabulated=self.tabulated,
            )
            rewards = np.tile(rewards, (len(data) // len(plain), 1))  # mirror images pay the same
            train, held = data.split(HELD_OUT, self.args.seed)
            model.load_demonstrations(train, rewards[~np.isin(data.indices, held.indices)])
            steps = self.args.clone_passes * PRETRAINING_STEPS_PER_PASS
            losses = model.pretrain(steps, seed=self.args.seed, progress=self.progress)
            self._save(model, self._cloned_path)
        top_1, top_5 = agreement(DemonstrationLoss(model.policy, held))
        self.state.cloning = {"steps": steps, "loss": losses[-1][0], "top_1": top_1, "top_5": top_5}

    def _warm_up(self, model: Any) -> None:
        """Fits the critic to the cloned policy."""
        logger.info("Fitting the critic to the cloned policy on %d environment steps.", self.warm_up_steps)
        with self._stage("critic warm-up"):
            model.set_random_seed(self._seed_of("critic"))
            losses = warm_up_critic(model, timesteps=self.warm_up_steps)
            model.num_timesteps += self.warm_up_steps
        assert self.state.cloning is not None
        self.state.cloning["critic_loss"] = losses[-1]

    def _fine_tune(self, model: Any, chunk: int) -> None:
        """Trains chunk ``chunk``, from 1; with demonstrations their loss is added."""
        seed, target = self._seed_of("fine-tuning", chunk), self.chunk_ends[chunk - 1]
        env, data = model.get_env(), self.cloning_data
        assert env is not None
        model.set_random_seed(seed)
        model.set_env(env, force_reset=True)
        title = f"fine-tuning {chunk}/{len(self.chunk_ends)}"
        callbacks: list[BaseCallback] = [ProgressCallback(title, target, visible=self.progress)]
        if data is not None and self.args.demo_coefficient > 0 and not self.algorithm.off_policy:
            if self._demo_callback is None:
                self._demo_callback = DemonstrationLossCallback(
                    data, coefficient=self.args.demo_coefficient, fade_timesteps=self.args.demo_fade
                )
            self._demo_callback.set_seed(seed)
            callbacks.append(self._demo_callback)
        assert isinstance(env, GlimpseVecEnv)
        before = env.seconds
        with self._stage("fine-tuning"):
            model.learn(target - model.num_timesteps, CallbackList(callbacks), reset_num_timesteps=False)
        self.state.wall_time[STEPPING] = self.state.wall_time.get(STEPPING, 0.0) + env.seconds - before

    def _validate(self, model: Any) -> Evaluation:
        """Evaluates the agent on validation images, and logs that with example episodes to TensorBoard."""
        val = self.source.load("val")
        indices = choose_images(val, self.args.val_images)
        with self._stage("validation"):
            evaluation = self._evaluate("agent", model, val, indices, progress=False)
            step = model.num_timesteps
            self.tensorboard.record("validation/success_rate", evaluation.success_rate)
            if self.args.glimpse_cost is not None:
                self.tensorboard.record("validation/glimpses", evaluation.mean_glimpses)
                self.tensorboard.record("validation/return", float(evaluation.returns(self.args.glimpse_cost).mean()))
            self.tensorboard.record("validation/log_loss", float(evaluation.log_loss[-1]))
            self.tensorboard.record("validation/entropy", float(evaluation.entropy[-1]))
            names = ("agent",) if step > 0 else ("agent", "oracle")
            for name in names if self.examples else ():
                policy = self.oracle if name == "oracle" else model
                recording = self._record(name, policy, val, indices[:2])
                for row in range(len(recording.indices)):
                    picture = Image(episode_frames(recording, row, val, name=name)[-1], "HWC")
                    self.tensorboard.record(f"episodes/{name}-{row}", picture, exclude=FILES_ONLY)
            self.tensorboard.dump(step)
        return evaluation

    def _load(self) -> Any:
        path = self._checkpoint_path(self.state.chunk)
        try:
            if not path.is_file() and self.args.trust:  # as earlier versions wrote it
                zipped = path.with_suffix(".zip")
                model: Any = self.algorithm.model.load(zipped, env=self.vec_env(), device=self.device)
            else:
                model = self.make_model()
                restore_agent(model, path)
            if self.algorithm.off_policy:
                model.load_replay_buffer(path.with_suffix(".npz"))
            return model
        except (OSError, ValueError) as error:
            raise ArtifactError(f"the checkpoint {path} cannot be read ({error}); start the run again.") from error

    def _save(self, model: Any, path: Path) -> None:
        save_agent(model, path, algo=self.args.algo, architecture=self.args.architecture)

    def _checkpoint_path(self, chunk: int | None) -> Path:
        return self.checkpoints / f"chunk-{chunk}.json"

    def _checkpoint(self, model: Any, chunk: int) -> None:
        """Validates after ``chunk``, saves all that resuming there needs, and the model if it is the best so far."""
        evaluation = self._validate(model)
        best, cost = max((point.score for point in self.state.curve), default=-np.inf), self.args.glimpse_cost
        point = CurvePoint(
            model.num_timesteps,
            evaluation.success_rate,
            float(evaluation.log_loss[-1]),
            sum(self.state.wall_time.get(stage, 0.0) for stage in TRAINING),
            None if cost is None else evaluation.mean_glimpses,
            None if cost is None else float(evaluation.returns(cost).mean()),
        )
        self.state.curve.append(point)
        if point.score >= best:
            self.state.selected = model.num_timesteps
            self._save(model, self.model_path)
        self._save(model, self._checkpoint_path(chunk))
        if self.algorithm.off_policy:
            model.save_replay_buffer(self._checkpoint_path(chunk).with_suffix(".npz"))
        self.state.chunk = chunk
        write_json(self.checkpoints / "state.json", asdict(self.state))
        self._learning = False
        self._remove_other_checkpoints()
        logger.info("%8d steps: %.1f %% on validation images", model.num_timesteps, 100 * evaluation.success_rate)

    def _remove_other_checkpoints(self) -> None:
        """Removes the checkpoints of other chunks than the last one, those of processes that died included."""
        for path in self.checkpoints.glob("chunk-*"):
            if path.stem != self._checkpoint_path(self.state.chunk).stem:
                path.unlink()

    # -- helpers -------------------------------------------------------------------------------------------------------

    @cached_property
    def tensorboard(self) -> Logger:
        """SB3's logger, for the whole run one."""
        return configure(str(self.out / "tensorboard"), ["tensorboard"])

    @property
    def _rollout_steps(self) -> int:
        """Environment steps of one rollout."""
        return steps_between_updates(self.model if self.model is not None else self._agent())

    def _seed_of(self, *what: str | int) -> int:
        """The seed of a stage or a chunk."""
        return int(digest(self.args.seed, *what), 16) % 2**31

    def _evaluate(
        self, name: str, agent: Any, dataset: GlimpseDataset, indices: np.ndarray, progress: bool = True
    ) -> Evaluation:
        if progress:
            logger.info("%s: %d %s images", TITLES[name], len(indices), dataset.split)
        observation = self.observation
        return evaluate(agent, dataset, self.judge, indices, name=name, observation=observation, progress=progress)

    def _record(self, name: str, policy: Any, dataset: GlimpseDataset, indices: np.ndarray) -> Recording:
        observation = self.observation if name == "agent" else "history"
        return record(policy, dataset, self.judge, indices, observation=observation)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to the wall time of a stage. PyTorch has one thread in it: two runs beside
        each other, each with two threads on two cores, take several times as long as one alone."""
        began = time.perf_counter()
        with at_most_threads(1):
            yield
        self.state.wall_time[name] = self.state.wall_time.get(name, 0.0) + time.perf_counter() - began


class ProgressCallback(BaseCallback):
    """Shows a bar over the environment steps of one chunk, with the recent success rate of training episodes."""

    def __init__(self, title: str, target: int, visible: bool = True):
        super().__init__()
        self.title, self.target, self.visible = title, target, visible

    def _on_training_start(self) -> None:
        begun, hidden = self.model.num_timesteps, not self.visible
        self.bar = tqdm(total=self.target, initial=begun, desc=self.title, unit="step", disable=hidden)

    def _on_step(self) -> bool:
        if self.visible:
            self.bar.update(self.model.num_timesteps - self.bar.n)
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ep_success_buffer:
            self.bar.set_postfix(success=f"{np.mean(self.model.ep_success_buffer):.2f}")

    def _on_training_end(self) -> None:
        self.bar.close()
