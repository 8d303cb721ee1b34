"""The grid of the benchmark: its axes, its cells, and the settings of each cell's training run."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from agents.experiments.grid import Cell, check_axis
from agents.experiments.run_folder import algorithm_identity
from agents.presets import DEMONSTRATORS, Args, json_object
from agents.registry import algorithm_of, short_name
from glimpse_env.cli import DeviceFlags
from glimpse_env.errors import ConfigurationError
from glimpse_env.presets import ANYTIME_IDS, ENV_IDS

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
        """The values of :data:`agents.evaluation.results.METHOD_COLUMNS`: all but environment and seed."""
        return self.algo, self.architecture, self.demos, self.num_demos, self.variant

    @property
    def name(self) -> str:
        demos = self.demos if self.demos == "none" else f"{self.demos}-{self.num_demos}"
        own = (short_name(self.env), algorithm_identity(self.algo), self.architecture, demos, self.variant)
        return "-".join((*own, f"s{self.seed}"))


@dataclass(frozen=True)
class BenchmarkGrid(DeviceFlags):
    """The axes of the grid, and the settings that all cells share.

    Raises:
        ConfigurationError: if an axis is empty or has an unknown or repeated member, or a run would refuse
            its settings.
    """

    envs: tuple[str, ...] = ("GlimpseBirds-v0",)
    """Environment ids, of Anytime environments too, on which returns are compared in place of success."""
    algos: tuple[str, ...] = ("ppo", "a2c", "reinforce")
    """Algorithms of train-agent, or Python files that set ALGORITHM."""
    demos: tuple[str, ...] = ("none", "oracle")
    """Demonstrators: none, oracle, best, hgs, human, fixed, random, or ps-ram: the agent that was trained without."""
    architectures: tuple[str, ...] = ("gru",)
    """Networks that read the history: gru, attention, canvas, mlp; for algorithms that have no core of their own."""
    seeds: int = 5
    """Number of seeds, from 0."""
    timesteps: int = 500_000
    """Environment steps of each run, without those of its demonstrations."""
    num_demos: tuple[int, ...] = (1000,)
    """Numbers of demonstrations."""
    variants: tuple[str, ...] = ("default",)
    """Ablations: default, no_warm_up, no_kept_loss, neither, argmax, sparse_reward."""
    observation: Literal["history", "embedding", "features"] = "embedding"
    """Form in which agents see each glimpse: its pixels, the judge's embedding, or the frozen features it reads."""
    validations: int = 16
    """Number of points of each learning curve after the first."""
    val_images: int = 2000
    """Maximum number of validation images behind each point."""
    eval_images: int = 4000
    """Maximum number of test images."""
    root: str | None = None
    """Folder of the data sets; default GLIMPSE_DATA."""
    options: str = "{}"
    """Further settings of train-agent for all runs, as JSON, e.g. '{"clone_passes": 20, "group": 8}'."""

    def __post_init__(self) -> None:
        own = {"env", "algo", "architecture", "demos", "num_demos", "seed", "out", "resume"} | vars(self).keys()
        known_settings = {item.name for item in fields(Args)} - own
        unknown_settings = [name for name in self.train_settings if name not in known_settings]
        if unknown_settings:
            raise ConfigurationError(
                f"--options {self.options} sets {', '.join(unknown_settings)}; what it can set is "
                f"{', '.join(sorted(known_settings))}."
            )
        known = {"envs": (*ENV_IDS, *ANYTIME_IDS), "demos": (*DEMONSTRATORS, "none", RECORDED), "variants": VARIANTS}
        for axis in ("envs", "algos", "demos", "architectures", "num_demos", "variants"):
            check_axis(f"--{axis.replace('_', '-')}", getattr(self, axis), known.get(axis))
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
                            cells[AgentCell(*own, "none", 0, self.variant_without_demos, seed)] = None
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
            "device": self.device,
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
        if cell.demos != "none":
            args = replace(args, num_demos=cell.num_demos)
            # frozen, and Args would look for the file, which need not exist yet
            object.__setattr__(args, "demos", str(self.demonstrations_path(cell, out)))
        return args

    @property
    def variant_without_demos(self) -> str:
        """Variant of cells without demonstrations; all variants but one concern demonstrations."""
        return "sparse_reward" if tuple(self.variants) == ("sparse_reward",) else "default"

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
