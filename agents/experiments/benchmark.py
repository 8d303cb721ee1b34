"""The benchmark: a grid of agents on environments, with their test scores beside random and oracle policies."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from agents.evaluation.comparison import kept_evaluation
from agents.evaluation.evaluate import Evaluation, choose_images
from agents.evaluation.statistics import Estimate, mean_of
from agents.experiments.grid import Cell, GridRunner
from agents.experiments.run_folder import algorithm_identity, refuse_other_args, steps_done
from agents.experiments.run_inputs import NUM_ENVS
from agents.experiments.train import Experiment
from agents.presets import DEMONSTRATORS, Args, json_object
from agents.recording import record_agent
from agents.registry import algorithm_of
from glimpse_env import ENV_IDS
from glimpse_env.datasets.base import PUBLIC_SPLITS, DataSource
from glimpse_env.episodes import EpisodeBatch
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import write_json
from glimpse_env.judge.judge import Judge
from glimpse_env.registration import source_of
from oracles.demonstrations import Demonstrations, generate
from oracles.training.judge import ensure_judge

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger(__name__)

RECORDED = "ps-ram"
"""Name of the demonstrator that is the same agent trained without demonstrations, in a cell of its own."""
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_warm_up": {"warm_up": 0},
    "no_kept_loss": {"demo_coefficient": 0.0},
    "neither": {"warm_up": 0, "demo_coefficient": 0.0},
    "argmax": {"target_temperature": 0.0},
    "sparse_reward": {"reward": "classification"},
}
"""Ablations: settings by variant that differ from scripts/train_agent.py's defaults."""


@dataclass(frozen=True)
class AgentCell(Cell):
    """One run: an agent on an environment with a seed."""

    env: str
    """Environment id."""
    algo: str
    """Algorithm, a name or a file."""
    architecture: str
    demos: str
    """Demonstrator, or "none"."""
    num_demos: int
    """Number of demonstrations; 0 without them."""
    variant: str
    """One of :data:`VARIANTS`."""
    seed: int

    @property
    def method(self) -> tuple[Any, ...]:
        """The values of :data:`METHOD_KEYS`: all but environment and seed."""
        return self.algo, self.architecture, self.demos, self.num_demos, self.variant

    @property
    def name(self) -> str:
        demos = self.demos if self.demos == "none" else f"{self.demos}-{self.num_demos}"
        return f"{self.env}-{algorithm_identity(self.algo)}-{self.architecture}-{demos}-{self.variant}-s{self.seed}"


METHOD_KEYS = ("algo", "architecture", "demos", "num_demos", "variant")
"""Columns of results that tell methods apart."""


@dataclass(frozen=True)
class BenchmarkGrid:
    """The axes of the grid, and the settings that all cells share.

    Raises:
        ConfigurationError: if an axis is empty or has an unknown or repeated member, or a run would refuse
            its settings.
    """

    envs: tuple[str, ...]
    algos: tuple[str, ...]
    demos: tuple[str, ...]
    architectures: tuple[str, ...]
    """Architectures of algorithms that have no core of their own."""
    seeds: int
    """Number of seeds, from 0."""
    timesteps: int
    """Environment steps of each run."""
    num_demos: tuple[int, ...] = (1000,)
    variants: tuple[str, ...] = ("default",)
    observation: Literal["history", "embedding"] = "embedding"
    validations: int = 16
    """Points of each learning curve after the first."""
    val_images: int = 2000
    """Most validation images behind each point."""
    eval_images: int = 4000
    """Most test images."""
    root: str | None = None
    """Folder of the data sets."""
    options: str = "{}"
    """Further settings of scripts/train_agent.py, the same for all cells, as JSON."""

    def __post_init__(self) -> None:
        own = {"env", "algo", "architecture", "demos", "num_demos", "seed", "out", "resume"} | vars(self).keys()
        known_settings = {item.name for item in fields(Args)} - own
        unknown_settings = [name for name in self.train_settings if name not in known_settings]
        if unknown_settings:
            raise ConfigurationError(
                f"--options {self.options} sets {', '.join(unknown_settings)}; what it can set is "
                f"{', '.join(sorted(known_settings))}."
            )
        known = {"envs": tuple(ENV_IDS), "demos": (*DEMONSTRATORS, "none", RECORDED), "variants": tuple(VARIANTS)}
        for axis in ("envs", "algos", "demos", "architectures", "num_demos", "variants"):
            members = getattr(self, axis)
            unknown = [member for member in members if axis in known and member not in known[axis]]
            if unknown or not members or len(set(members)) < len(members):
                raise ConfigurationError(
                    f"--{axis.replace('_', '-')} {' '.join(map(str, members))} must name one or more, each once"
                    f"{', of ' + ', '.join(known[axis]) if axis in known else ''}."
                )
        if self.seeds < 1:
            raise ConfigurationError(f"--seeds {self.seeds} must be at least 1.")
        for cell in self.cells():
            self.settings(cell, Path())  # what a run would refuse is refused now

    def cells(self) -> list[AgentCell]:
        """Returns all cells, seed by seed, so that methods can be compared early."""
        cells: dict[AgentCell, None] = {}
        for seed in range(self.seeds):
            for env in self.envs:
                for algo in self.algos:
                    core = algorithm_of(algo).core
                    for architecture in self.architectures if core is None else (core,):
                        own = (env, algo, architecture)
                        if "none" in self.demos or RECORDED in self.demos:
                            cells[AgentCell(*own, "none", 0, _without_demos(self.variants), seed)] = None
                        for demos in (demos for demos in self.demos if demos != "none"):
                            for num in self.num_demos:
                                for variant in self.variants:
                                    cells[AgentCell(*own, demos, num, variant, seed)] = None
        return list(cells)

    def settings(self, cell: AgentCell, out: Path) -> Args:
        """Returns the settings of a cell's run; its demonstrations are a file below ``out``."""
        given = {
            "env": cell.env,
            "root": self.root,
            "algo": cell.algo,
            "architecture": cell.architecture,
            "observation": self.observation,
            "demos": "none",
            "timesteps": self.timesteps,
            "seed": cell.seed,
            "val_images": self.val_images,
            "eval_images": self.eval_images,
            "validations": self.validations,
            "out": out / "cells" / cell.name,
        }
        args = Args(**{**given, **self.train_settings, **VARIANTS[cell.variant]})
        if cell.demos == "none":
            return args
        return replace_demos(args, self.demonstrations_path(cell, out), cell.num_demos)

    @property
    def train_settings(self) -> dict[str, Any]:
        """:attr:`options` as :class:`Args` takes them, with objects as JSON text."""
        return {
            name: json.dumps(value) if isinstance(value, dict) else value
            for name, value in json_object("--options", self.options).items()
        }

    def demonstrations_path(self, cell: AgentCell, out: Path) -> Path:
        """Returns the path of a cell's demonstrations."""
        if cell.demos == RECORDED:
            return out / "cells" / cell.name / "recorded.npz"
        return out / "demonstrations" / f"{cell.env}-{cell.demos}-{max(self.num_demos)}.npz"


def replace_demos(args: Args, path: Path, num_demos: int) -> Args:
    """Returns ``args`` with the demonstrations in the file at ``path``, which need not exist yet."""
    changed = replace(args, num_demos=num_demos)
    object.__setattr__(changed, "demos", str(path))  # frozen; and Args would look for the file
    return changed


def _without_demos(variants: Sequence[str]) -> str:
    """Returns the variant of cells without demonstrations; all variants but one concern demonstrations."""
    return "sparse_reward" if tuple(variants) == ("sparse_reward",) else "default"


@dataclass(frozen=True)
class Reference:
    """Success of the reference policies on an environment, by which scores are normalised."""

    random: dict[str, float]
    """Success of the random policy by split."""
    oracle: dict[str, float]
    """Success of the oracle by split."""
    images: dict[str, int]
    """Number of images by split."""
    num_glimpses: int
    """Glimpses an episode."""
    making_s: dict[str, float] = field(default_factory=dict)
    """Seconds to make one demonstration, by demonstrator."""


class Benchmark(GridRunner[AgentCell]):
    """Runs a grid of agents; see :class:`GridRunner`."""

    grid: BenchmarkGrid
    unit = "step"

    @cached_property
    def sources(self) -> dict[str, DataSource]:
        """Data sets by environment."""
        return {env: source_of(env, self.grid.root) for env in self.grid.envs}

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """Judges by environment; trained where there is none."""
        return {env: ensure_judge(source) for env, source in self.sources.items()}

    def prepare(self) -> dict[str, Reference]:
        """Makes what all cells of an environment share: judge, tables, demonstrations, references.

        Returns:
            References by environment, which ``references.json`` keeps.

        Raises:
            ConfigurationError: if more demonstrations are asked for than an environment has training images.
        """
        wanted = max(self.grid.num_demos) if set(self.grid.demos) != {"none"} else 0
        for env, source in self.sources.items():
            if wanted > source.size("train"):
                raise ConfigurationError(
                    f"--num-demos {wanted} is more than the {source.size('train')} training images of {env}; "
                    "ask for fewer."
                )
        path = self.out / "references.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        references = {env: Reference(**entry) for env, entry in kept.items()}
        for env, source in self.sources.items():
            judge = self.judges[env]
            known = references.get(env)
            if known is None or known.images != self._images(source):
                references[env] = self._reference(source, judge, known.making_s if known else {})
            if self.grid.observation == "embedding":
                for split in PUBLIC_SPLITS:
                    EpisodeBatch(source.load(split), judge, 1, observation="embedding")
            for demos in self.grid.demos:
                if demos not in ("none", RECORDED):
                    self._demonstrate(env, demos, references[env])
                write_json(path, {env: asdict(entry) for env, entry in references.items()})
        return references

    def cells(self) -> list[AgentCell]:
        return self.grid.cells()

    def needs(self, cell: AgentCell) -> AgentCell | None:
        if cell.demos != RECORDED:
            return None
        return replace(cell, demos="none", num_demos=0, variant=_without_demos(self.grid.variants))

    def budget(self, cell: AgentCell) -> int:
        return self.grid.timesteps

    def done(self, cell: AgentCell) -> int:
        return steps_done(self.folder(cell))

    def claim(self, cell: AgentCell) -> None:
        refuse_other_args(self.grid.settings(cell, self.out))

    def make(self, cell: AgentCell) -> dict[str, Any]:
        needed = self.needs(cell)
        if needed is not None:
            self._record(needed, self.grid.demonstrations_path(cell, self.out))
        experiment = Experiment.opened(self.grid.settings(cell, self.out))
        experiment.train()
        test = experiment.test()
        experiment.log_hparams(test.success_rate)
        return {
            "cell": asdict(cell),
            "curve": [asdict(point) for point in experiment.state.curve],
            "selected": experiment.state.selected,
            "test": test.to_json(),
            "cloning": experiment.state.cloning,
            "wall_time_s": experiment.state.wall_time,
            "num_envs": NUM_ENVS,
        }

    def results(self) -> "DataFrame":
        """Returns a row for each evaluation of a finished cell; see :data:`agents.evaluation.results.COLUMNS`."""
        import pandas  # an optional package

        references = self.prepare()
        finished = self.finished_results()
        return pandas.DataFrame(
            [row for cell, result in finished.items() for row in _rows(cell, result, references[cell.env])]
        )

    def against(self, name: str) -> dict[str, dict[str, Any]]:
        """Compares the method that is best on validation images with a policy, image by image on test images.

        Args:
            name: one of :data:`oracles.registry.POLICIES`.

        Returns:
            By environment the best method, its success averaged over seeds, and differences with their intervals.
        """
        frame, finished = self.results(), self.finished_results()
        compared = {}
        for env, source in self.sources.items():
            curves = frame[(frame.env == env) & (frame.split == "val")]
            best = curves.groupby([*METHOD_KEYS, "seed"]).success.max().groupby([*METHOD_KEYS]).mean().idxmax()
            tested = [
                Evaluation.from_json(result["test"])
                for cell, result in finished.items()
                if cell.env == env and cell.method == best
            ]
            test = source.load("test")
            indices = choose_images(test, self.grid.eval_images)
            theirs = kept_evaluation(name, source, self.judges[env], test, indices)
            if any(one.images != theirs.images or one.judge != theirs.judge for one in tested):
                raise ArtifactError(f"{name} and the agents on {env} were tested on other images; run the grid anew.")
            ours = np.mean([one.outcomes for one in tested], axis=0)
            difference: Estimate = mean_of(ours - theirs.outcomes)
            log_loss = np.mean([one.final_log_loss for one in tested], axis=0) - theirs.final_log_loss
            compared[env] = {
                "method": {**dict(zip(METHOD_KEYS, best, strict=True)), "num_demos": int(best[3])},
                "seeds": len(tested),
                "success": float(ours.mean()),
                "reference": name,
                "reference_success": theirs.success_rate,
                "difference": difference.to_json(),
                "log_loss_difference": mean_of(log_loss).to_json(),
                "images": len(indices),
            }
        return compared

    def _images(self, source: DataSource) -> dict[str, int]:
        """Returns the number of images that agents are evaluated on by split."""
        return {
            "val": min(self.grid.val_images, source.size("val")),
            "test": min(self.grid.eval_images, source.size("test")),
        }

    def _reference(self, source: DataSource, judge: Judge, making_s: dict[str, float]) -> Reference:
        success: dict[str, dict[str, float]] = {"random": {}, "oracle": {}}
        images = self._images(source)
        for split, count in images.items():
            dataset = source.load(split)  # type: ignore[arg-type]
            indices = choose_images(dataset, count)
            for name, by_split in success.items():
                by_split[split] = kept_evaluation(name, source, judge, dataset, indices).success_rate
        return Reference(success["random"], success["oracle"], images, source.geometry.num_glimpses, making_s)

    def _demonstrate(self, env: str, demos: str, reference: Reference) -> None:
        source, judge = self.sources[env], self.judges[env]
        cell = AgentCell(env, "", "", demos, 0, "default", 0)
        path = self.grid.demonstrations_path(cell, self.out)
        if path.with_suffix(".json").is_file():
            Demonstrations.load(path).check_fits(source, judge)
            return
        num = max(self.grid.num_demos)
        began = time.perf_counter()
        generate(demos, source, judge, min(num, source.size("train")), out=path)
        reference.making_s[demos] = (time.perf_counter() - began) / num

    def _record(self, teacher: AgentCell, path: Path) -> None:
        """Records the agent of a finished cell as demonstrations at ``path``, unless they are there."""
        if path.with_suffix(".json").is_file():
            return
        source = source_of(teacher.env, self.grid.root)
        judge = ensure_judge(source)
        agent = self.folder(teacher) / "model.zip"
        record_agent(agent, source, judge, max(self.grid.num_demos), seed=teacher.seed).save(path)


def _rows(cell: AgentCell, content: Mapping[str, Any], reference: Reference) -> Iterator[dict[str, Any]]:
    """Yields the evaluations of a finished cell as rows of the results."""
    demo_steps = cell.num_demos * reference.num_glimpses
    shared = asdict(cell) | {
        "cell": cell.name,
        "demo_steps": demo_steps,
        "making_s": reference.making_s.get(cell.demos, 0.0) * cell.num_demos,
    }
    selected = next(point for point in content["curve"] if point["env_steps"] == content["selected"])
    tested = {**selected, "success": content["test"]["success_rate"], "log_loss": content["test"]["log_loss"][-1]}
    for split, point in [*(("val", point) for point in content["curve"]), ("test", tested)]:
        random, oracle = reference.random[split], reference.oracle[split]
        yield {
            **shared,
            "split": split,
            "env_steps": point["env_steps"],
            "total_steps": point["env_steps"] + demo_steps,
            "wall_s": point["seconds"],
            "success": point["success"],
            "log_loss": point["log_loss"],
            "random": random,
            "oracle": oracle,
            "normalised": (point["success"] - random) / (oracle - random) if oracle != random else float("nan"),
            "images": reference.images[split],
        }
