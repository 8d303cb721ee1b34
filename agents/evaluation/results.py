"""The results of a benchmark as a table: its columns, its checks, and the methods that it compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glimpse_env.console.names import command
from glimpse_env.errors import ConfigurationError

if TYPE_CHECKING:
    from pandas import DataFrame

METHOD_COLUMNS = ("algo", "architecture", "demos", "num_demos", "variant")
COLUMNS = (
    "env",
    *METHOD_COLUMNS,
    "seed",
    "split",
    "env_steps",
    "demo_steps",
    "total_steps",
    "wall_s",
    "making_s",
    "success",
    "random",
    "oracle",
    "normalised",
)
"""Columns of ``results`` that are read, one row an evaluation; others may be there. Where glimpses have a price
``success``, ``random`` and ``oracle`` hold returns: success less what the glimpses cost."""
ACRONYMS = ("ppo", "a2c", "dqn", "qrdqn", "trpo", "gru", "lstm", "mlp", "cnn", "reinforce")
SOURCES: dict[str, str] = {"hgs": "hand-crafted", "human": "human-gaze", "fixed": "fixed-sequence", "ps-ram": "PS-RAM"}
"""Names of demonstrations where they differ from the demonstrator's."""


@dataclass(frozen=True)
class Method:
    """An algorithm with its architecture, demonstrations and variant: the unit of comparison."""

    algo: str
    architecture: str
    demos: str
    num_demos: int
    variant: str = "default"

    @property
    def has_demos(self) -> bool:
        """Whether it learns from demonstrations."""
        return self.demos != "none"

    @property
    def family(self) -> tuple[str, str]:
        """(algo, architecture)."""
        return self.algo, self.architecture

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sort key: families together, without demonstrations first, default variants and the oracle's early."""
        variant, demos = (self.variant != "default", self.variant), (self.demos != "oracle", self.demos)
        return *self.family, self.has_demos, *variant, *demos, self.num_demos

    @property
    def recipe(self) -> str:
        """All but the architecture, like ``PPO · 200 oracle demos · no warm up``."""
        source = SOURCES.get(self.demos, self.demos)
        demos = f"{self.num_demos:,} {source} demos" if self.has_demos else "no demos"
        return f"{display_name(self.algo)} · {demos}" + (
            "" if self.variant == "default" else f" · {display_name(self.variant)}"
        )

    @property
    def label(self) -> str:
        """Name in tables, like ``PPO · GRU · 200 oracle demos``."""
        algo, dot, rest = self.recipe.partition(" · ")
        return f"{algo} · {display_name(self.architecture)}{dot}{rest}"


def display_name(name: str) -> str:
    """Returns the name of an algorithm, architecture or variant as tables show it."""
    return name.upper() if name in ACRONYMS else name.replace("_", " ")


def checked(results: DataFrame) -> DataFrame:
    """Checks results and returns them sorted by cell, split and steps.

    Raises:
        ConfigurationError: if they are empty, lack a column, have a value that is not a finite number, an oracle that
            is not above random, a normalised score that disagrees with its parts, a cell with two test rows, or two
            validation rows of one cell after the same number of steps.
    """
    import pandas  # of the extra "benchmark"

    missing = [name for name in COLUMNS if name not in results.columns]
    if missing:
        raise ConfigurationError(
            f"the results lack the columns {missing}; collect them with `{command('benchmark')}` of this version."
        )
    if len(results) == 0:
        raise ConfigurationError("the results hold no evaluation; run at least one cell of the benchmark first.")
    numbers = list(COLUMNS[COLUMNS.index("env_steps") :])
    for name in ("num_demos", "seed", *numbers):
        if name == "normalised":
            continue  # it is compared with what it is made from below
        if not np.isfinite(pandas.to_numeric(results[name], errors="coerce")).all():
            raise ConfigurationError(f"the results' column {name!r} holds a value that is no finite number; drop it.")
    words = ("env", "algo", "architecture", "demos", "variant", "split")
    results = results.astype({**dict.fromkeys(words, str), **dict.fromkeys(numbers, np.float64)})
    flat = results[results["oracle"] <= results["random"]]
    if len(flat):
        raise ConfigurationError(
            f"the oracle is not above random on {flat['env'].iloc[0]}; leave this environment out, "
            "as scores between the two are not defined."
        )
    parts = (results["success"] - results["random"]) / (results["oracle"] - results["random"])
    if not np.allclose(parts, results["normalised"], atol=1e-6):
        raise ConfigurationError(
            "the results' column 'normalised' is not (success - random) / (oracle - random); compute it anew."
        )
    splits = set(results["split"]) - {"val", "test"}
    if splits:
        raise ConfigurationError(f"the results have the splits {sorted(map(str, splits))}; need 'val' or 'test'.")
    cell = ["env", *METHOD_COLUMNS, "seed"]
    test, val = results[results["split"] == "test"], results[results["split"] == "val"]
    for rows, columns, what in (
        (test, cell, "two evaluations on test images"),
        (val, [*cell, "env_steps"], "two evaluations on validation images after the same steps"),
    ):
        twice = rows[rows.duplicated(subset=columns)]
        if len(twice):
            cell_values = {name: twice[name].iloc[0] for name in columns}
            raise ConfigurationError(f"the results have {what} of the cell {cell_values}; keep one of them.")
    return results.sort_values([*cell, "split", "env_steps"], kind="stable", ignore_index=True)


def by_env_and_method(rows: DataFrame) -> dict[tuple[str, Method], DataFrame]:
    """Returns the rows of each method on each environment, sorted by environment and rank of the method."""
    groups = {
        (str(env), Method(str(algo), str(architecture), str(demos), int(num_demos), str(variant))): group
        for (env, algo, architecture, demos, num_demos, variant), group in rows.groupby(["env", *METHOD_COLUMNS])
    }
    return dict(sorted(groups.items(), key=lambda entry: (entry[0][0], entry[0][1].rank)))


def methods_of(results: DataFrame) -> list[Method]:
    """Returns the methods among ``results``, sorted by rank."""
    return sorted({method for _, method in by_env_and_method(results)}, key=lambda method: method.rank)


def frame(rows: Sequence[Any], *columns: str) -> DataFrame:
    """Returns a frame of rows, each a tuple or a mapping, with the given columns."""
    import pandas  # of the extra "benchmark"

    return pandas.DataFrame(rows, columns=list(columns) or None)


def envs_of(results: DataFrame) -> list[str]:
    """Returns the environments among ``results``, sorted."""
    return sorted(results["env"].unique())


def baseline_of(method: Method, methods: Sequence[Method]) -> Method | None:
    """Returns the same algorithm and architecture without demonstrations, of the same variant or else the default."""
    for variant in (method.variant, "default"):
        for other in methods:
            if other.family == method.family and not other.has_demos and other.variant == variant:
                return other
    return None


def with_baselines(methods: Sequence[Method]) -> list[tuple[Method, Method]]:
    """Returns each method with demonstrations beside its baseline, of those that have one."""
    pairs = [(method, baseline_of(method, methods)) for method in methods if method.has_demos]
    return [(method, baseline) for method, baseline in pairs if baseline is not None]
