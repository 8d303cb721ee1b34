"""Long random play with right and wrong actions, and many environments made and closed: memory and open files."""

import itertools
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from glimpse_env.datasets.registry import make_source
from glimpse_env.errors import ConfigurationError, DatasetNotFoundError, InvalidActionError, JudgeNotFoundError
from glimpse_env.judge.judge import Judge, JudgeCard, find_judge, judge_path
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.presets import CLASSIFY_IDS, ENV_IDS, PRESETS
from glimpse_env.sensing.observations import OBSERVATIONS

WRONG_SHARE = 0.1
"""Share of the actions that are wrong."""
SAMPLES = 100
"""Measurements of memory in each part, about."""
SMALL: dict[str, dict[str, Any]] = {"birds": {"num_train": 48, "num_val": 4, "num_test": 4, "num_judge": 4}}
"""Options that keep data sets small."""

Arguments = Mapping[str, Mapping[str, Any]]


def own_arguments(photos: Path) -> dict[str, dict[str, Any]]:
    """Puts untrained judges into the cache where none fits; returns keyword arguments by id, for the ids whose data are
    there."""
    arguments: dict[str, dict[str, Any]] = {}
    for env_id, dataset in ENV_IDS.items():
        given: dict[str, Any] = {"dataset_options": SMALL.get(dataset, {})}
        if dataset == "folder":
            given = {"root": str(photos), "dataset_options": {"size": 28, "glimpse_size": 12, "stride": 4}}
        try:
            options = {**given["dataset_options"], **({"root": given["root"]} if "root" in given else {})}
            source = make_source(dataset, **options).with_scales(PRESETS[dataset].scales)
        except DatasetNotFoundError:
            continue
        try:
            find_judge(source)
        except JudgeNotFoundError:
            untrained_judge(source).save(judge_path(source))
        arguments[env_id] = given
    return arguments


def untrained_judge(source: Any) -> Judge:
    """Returns a judge of a data set that knows nothing."""
    geometry = source.geometry
    config = PosteriorConfig(
        glimpse_size=geometry.glimpse_size,
        stride=geometry.stride,
        channels=source.image_shape[2] * geometry.scales,
        num_classes=len(source.class_names),
        num_parts=0,
        features=16,
        embedding=16,
        hidden=16,
    )
    networks = [GlimpsePosterior(config) for _ in range(source.num_folds)]
    temperatures = [[1.0] * (geometry.num_glimpses + 1)] * len(networks)
    further: dict[str, Any] = {"temperatures": temperatures, "splits": {}, "scores": {}, "seed": 0, "command": ""}
    return Judge(networks, JudgeCard.of(source, networks, **further))


def makers(arguments: Arguments, observations: Collection[str] = OBSERVATIONS) -> list[tuple[str, dict[str, Any]]]:
    """Returns an id and keyword arguments of ``gymnasium.make``, or of ``make_vec`` where they have ``num_envs``, for
    each mode of observation and action of each id that its environments have."""
    made = []
    for env_id, dataset in [*ENV_IDS.items(), *CLASSIFY_IDS.items()]:
        own = next((given for one, given in arguments.items() if ENV_IDS[one] == dataset), None)
        if own is None:
            continue
        for observation, action, vector in itertools.product(observations, ("discrete", "continuous"), (False, True)):
            options = {**own, "observation": observation, "action": action, "split": "test"}
            options |= {"num_envs": 3} if vector else {}
            try:
                make(env_id, options).close()
            except ConfigurationError:  # the id has no such mode
                continue
            made.append((env_id, options))
    return made


def make(env_id: str, options: Mapping[str, Any]) -> Any:
    """Makes an environment, or several."""
    return gym.make_vec(env_id, **options) if "num_envs" in options else gym.make(env_id, **options).unwrapped


def measure_steps(modes: list[tuple[str, dict[str, Any]]], seconds: float, seed: int = 0) -> dict[str, Any]:
    """Plays at random in all environments side by side for so long, with wrong actions between the right ones."""
    rng = np.random.default_rng(seed)
    envs = [make(*mode) for mode in modes]
    wrong = [wrong_actions(env.action_space) for env in envs]
    for number, env in enumerate(envs):
        env.reset(seed=seed + number)
        env.action_space.seed(seed + number)
    meter, faults, steps, refused, began = Meter(), set[str](), 0, 0, time.perf_counter()
    while (share := (time.perf_counter() - began) / seconds) < 1:
        meter.measure(steps, share)
        for (env_id, options), env, bad in zip(modes, envs, wrong, strict=True):
            if rng.random() < WRONG_SHARE:
                action = bad[int(rng.integers(len(bad)))]
                try:
                    env.step(action)
                    faults.add(f"{env_id} {options} takes {action!r}")
                except InvalidActionError:
                    refused += 1
                except Exception as error:
                    faults.add(f"{env_id} {options}: {action!r} raises {error!r}")
            *_, ended, cut, _ = env.step(env.action_space.sample())
            steps += 1
            if "num_envs" not in options and (ended or cut):
                env.reset()
    for env in envs:
        env.close()
    title = f"{steps} steps in {len(modes)} modes of {len({one for one, _ in modes})} ids, {refused} wrong actions"
    return {"title": title, "seconds": seconds, "refused": refused, **meter.figures(), "faults": sorted(faults)[:20]}


def measure_makes(modes: list[tuple[str, dict[str, Any]]], count: int, seed: int = 0) -> dict[str, Any]:
    """Makes, plays a step in and closes so many environments."""
    meter = Meter()
    for number in range(count):
        env = make(*modes[number % len(modes)])
        env.reset(seed=seed + number)
        env.step(env.action_space.sample())
        env.close()
        del env
        meter.measure(number + 1, (number + 1) / count)
    return {"title": f"{count} environments made and closed", **meter.figures(), "faults": []}


def wrong_actions(space: gym.Space[Any]) -> list[Any]:
    """Returns actions that are in no way members of an environment's action space."""
    shape = space.shape or ()
    of_kind = [np.full(shape, value, dtype=np.float64) for value in (np.nan, np.inf, -1e9, 1e9, 0.3 + 1e6)]
    return [None, "left", {}, [], -1, 10**12, 1.5, float("nan"), 1j, np.zeros((*shape, 2, 7)), object(), *of_kind]


class Meter:
    """Anonymous memory and open files of this process, over the course of some work."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, int]] = []

    def measure(self, done: int, share: float) -> None:
        """Measures, :data:`SAMPLES` times over the whole work, of which ``share`` is done."""
        if share * SAMPLES >= len(self._rows):
            self._rows.append((done, anonymous_mib(), open_files()))

    def figures(self) -> dict[str, Any]:
        """Returns memory and open files at the end, and their growth over the second half, of memory by a straight
        line."""
        rows = np.array(self._rows[len(self._rows) // 2 :], dtype=np.float64)
        done, memory, files = (rows - rows[0]).T
        slope = float(np.polyfit(done, memory, 1)[0]) if done[-1] > 0 else 0.0
        return {
            "memory_mib": float(rows[-1, 1]),
            "growth_mib": slope * float(done[-1]),
            "open_files": int(rows[-1, 2]),
            "further_files": int(files[-1]),
        }


def anonymous_mib() -> float:
    """Returns the memory of this process that is no file's, in MiB: pages of memory-mapped arrays come and go."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) / 1024


def open_files() -> int:
    """Returns the number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))
