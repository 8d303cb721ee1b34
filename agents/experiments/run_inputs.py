"""What a training run works with: judge, demonstrations, environments and a new model, each made when first used."""

from functools import cached_property
from pathlib import Path
from typing import Any

from agents.cloning import clone
from agents.cloning_data import CloningData
from agents.dagger import dagger
from agents.presets import DAGGER, DEMONSTRATORS, Args, budget_of, json_object, tuned
from agents.recording import is_agent, record_agent
from agents.registry import Algorithm, algorithm_of, make_model
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.copies import copies_of
from glimpse_env.devices import find_device
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import digest
from glimpse_env.judge.judge import Judge, judge_command
from glimpse_env.vector_env import GlimpseVectorEnv
from oracles.base import GlimpsePolicy
from oracles.demonstrations import Demonstrations, demonstrate
from oracles.exchange.published import is_published, read_published
from oracles.registry import make_policy, priced
from oracles.training.judge import ensure_judge

NUM_ENVS = 128
"""Training environments side by side."""
TABULATED_IMAGES = 20_000
"""Most training images for which the judge answers from a table: more would take gigabytes of the cache."""


class RunInputs:
    """What a training run works with.

    Args:
        args: settings; defaults by data set resolved.
        out: folder of the results, with ``config.json`` in it.
        source: the data set.
        command: the command that began the run.
    """

    def __init__(self, args: Args, out: Path, source: DataSource, command: str):
        self.args, self.out, self.source, self.command = args, out, source, command
        self.device = find_device(args.device)

    @cached_property
    def judge(self) -> Judge:
        """The judge of the data set, trained first where there is none."""
        return ensure_judge(self.source, command=judge_command(self.source), device=self.device)

    @cached_property
    def demonstrations(self) -> Demonstrations | None:
        """The demonstrations, made first where the cache has none; None without cloning.

        Raises:
            ArtifactError: if a file was given that belongs to other data or another judge, or holds too few.
        """
        kind, num = self.args.demos, self.args.num_demos
        if kind == "none":
            return None
        if kind == DAGGER:
            return self._dagger()
        if kind in DEMONSTRATORS or is_agent(kind):
            assert num is not None
            if kind in DEMONSTRATORS:
                price = self.args.glimpse_cost
                return demonstrate(kind, self.source, self.judge, num, seed=self.args.seed, glimpse_cost=price)
            return record_agent(Path(kind), self.source, self.judge, num, seed=self.args.seed, trust=self.args.trust)
        if is_published(kind):
            demonstrations = read_published(kind, self.source, self.judge)
        else:
            demonstrations = Demonstrations.load(kind)
            demonstrations.check_fits(self.source, self.judge)
        if num is not None and num > len(demonstrations):
            raise ArtifactError(f"{kind} holds {len(demonstrations)} demonstrations, fewer than --num-demos {num}.")
        return demonstrations

    @cached_property
    def cloning_data(self) -> CloningData | None:
        """The demonstrations as states and targets, mirror images among them where they fit; None without cloning."""
        return None if self.demonstrations is None else self._as_cloning_data(self.demonstrations)

    def plain_cloning_data(self) -> CloningData | None:
        """Returns the demonstrations as states and targets, without mirror images, in pixels."""
        return None if self.demonstrations is None else self._plain(self.demonstrations)

    def _as_cloning_data(self, demonstrations: Demonstrations) -> CloningData:
        symmetric, data = self.source.mirror_symmetric, self._plain(demonstrations)
        data = data.with_mirror_images() if symmetric else data
        if self.observation == "features":
            assert self.judge.frozen is not None  # the environment refuses judges without
            return data.featured(FeatureTable(self.source.load("train"), self.judge.frozen, copies_of(symmetric, 0)))
        return data.embedded(self.judge) if self.observation == "embedding" else data

    def _plain(self, demonstrations: Demonstrations) -> CloningData:
        temperature = self.args.target_temperature or 0.0
        soft = demonstrations.epe is not None and temperature > 0
        data = CloningData.from_demonstrations(
            demonstrations,
            self.source.load("train"),
            targets="soft" if soft else "argmax",
            temperature=temperature if soft else 1.0,
            stop=self.args.glimpse_cost is not None,
        )
        return data[: self.args.num_demos]

    def _dagger(self) -> Demonstrations:
        """Returns the demonstrations of DAgger, made first where the run's folder has none."""
        path, args = self.out / "dagger.npz", self.args
        if path.is_file():
            found = Demonstrations.load(path)
            found.check_fits(self.source, self.judge)
            return found
        assert args.num_demos is not None

        def teach(demonstrations: Demonstrations) -> Any:
            model = self.make_model()
            model.set_random_seed(int(digest(args.seed, DAGGER, len(demonstrations)), 16) % 2**31)
            data = self._as_cloning_data(demonstrations)
            clone(model, data, passes=args.clone_passes, seed=args.seed, progress=False)
            return model

        made = dagger(
            self.source,
            self.judge,
            args.num_demos,
            teach,
            observation=self.observation,
            rounds=args.dagger_rounds,
            schedule=args.dagger_schedule,
            seed=args.seed,
        )
        made.save(path)
        return made

    @cached_property
    def oracle(self) -> GlimpsePolicy:
        """The oracle for validation and test images."""
        name, config = priced("oracle", self.source, self.args.glimpse_cost)
        return make_policy(name, self.source, self.judge, config=config)

    def vec_env(self) -> GlimpseVecEnv:
        """Makes training environments; the judge is asked only where the reward needs it."""
        env = GlimpseVectorEnv(
            self.source.load("train"),
            self.judge,
            num_envs=NUM_ENVS,
            observation=self.observation,
            reward=self.args.reward or "information",
            stop=self.args.glimpse_cost is not None,
            glimpse_cost=self.args.glimpse_cost or 0.0,
            posterior_info=False,
            tabulated=self.tabulated,
        )
        return GlimpseVecEnv(env, group=self.args.group)

    @property
    def tabulated(self) -> bool:
        """Whether the judge answers from a table."""
        encodes = self.observation == "embedding" or self.judge.frozen is not None
        return encodes or self.source.size("train") <= TABULATED_IMAGES

    @property
    def observation(self) -> str:
        """Observation of the environments."""
        return self.args.observation or "history"

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm that the settings name."""
        return algorithm_of(self.args.algo)

    def make_model(self) -> Any:
        """Makes a new model of the algorithm, its hyperparameters the tuned ones where none are given.

        Raises:
            ConfigurationError: if the steps between two updates are given twice, or the algorithm takes none.
        """
        steps = self.source.geometry.num_glimpses
        with_demos = self.args.demos != "none"
        settings = tuned(self.args.algo, with_demos)
        if with_demos:
            settings = {**self.algorithm.after_demonstrations, **settings}
            rate = budget_of(self.source.name).learning_rate
            if rate is not None and not self.algorithm.off_policy:
                settings["learning_rate"] = rate
        given = json_object("--hyperparameters", self.args.hyperparameters)
        if "n_steps" in given and not self.algorithm.off_policy:
            if "rollout" in given or self.args.rollout is not None:
                raise ConfigurationError(
                    f"n_steps={given['n_steps']} of --hyperparameters and a rollout both say how many steps there are "
                    "between two updates; leave one out."
                )
            settings.pop("rollout", None)
        settings |= given
        tuned_rollout = settings.pop("rollout", None)
        if tuned_rollout is not None and self.algorithm.off_policy:
            raise ConfigurationError(f"rollout={tuned_rollout} does nothing with {self.args.algo}; leave it out.")
        rollout = self.args.rollout or tuned_rollout
        if rollout is not None:
            settings["n_steps"] = steps * max(1, round(rollout / (NUM_ENVS * steps)))
        return make_model(
            self.args.algo,
            self.vec_env(),
            seed=self.args.seed,
            architecture=self.args.architecture,
            judge=self.judge,
            device=self.device,
            **settings,
        )
