"""Measures how fast the environments step, beside their rivals and the machine's limits.

python scripts/measure/env_speed.py
python scripts/measure/env_speed.py --num-envs 256 --observations glimpse --images
"""

import copy
import gc
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from tqdm.auto import tqdm

from agents.reports.tables import MISSING, markdown_table
from glimpse_env import cli
from glimpse_env.console.names import pip_extra
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import new_array, whole_file, write_json
from glimpse_env.presets import dataset_of
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.sensing.observations import OBSERVATIONS
from glimpse_env.threads import stepping_threads
from glimpse_env.vector_env import GlimpseVectorEnv
from glimpse_env.versions import versions

Step = Callable[[], object]
Turn = Callable[[float], float]
"""Steps for so many seconds and returns the calls a second."""
GATHER, COPY, AP_GYM = "limit: numpy gather", "limit: bytes written", "ap_gym CircleSquare-v0"
NATIVE, PIXELS, ADAPTER = "native vector", "native vector, judge on pixels", "SB3 adapter"
STOPPING = "native vector, stop=True"
"""Episodes that end at different steps: each action stops with a chance of 1 in T."""
BESIDE = "native vector, beside another"
"""Each of two processes that step at the same time."""
SINGLE, SYNC, ASYNC = "single", "SyncVectorEnv", "AsyncVectorEnv"
_ORDER = (NATIVE, STOPPING, BESIDE, PIXELS, ADAPTER, SINGLE, SYNC, ASYNC, AP_GYM, GATHER, COPY)


@dataclass(frozen=True)
class Args:
    """Environment steps a second by number of environments and kind of observation; contenders take turns in one run,
    so that whatever else the machine does slows all of them."""

    env: str = "GlimpseBirds-v0"
    """Environment id."""
    num_envs: tuple[int, ...] = (1, 16, 64, 256, 1024)
    """Environments in a batch."""
    observations: tuple[str, ...] = ("glimpse", "history", "canvas", "embedding")
    """Kinds of observation."""
    images: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Also compare data sets of so many random 60 x 60 images, in a temporary file; none leaves this out."""
    rounds: int = 7
    """Turns of each contender; the median counts."""
    seconds: float = 0.2
    """Seconds of a turn."""
    async_up_to: int = 16
    """Most environments, each a process, that AsyncVectorEnv is measured with."""
    out: Path = Path("runs/env_speed.json")
    """File of the figures (.json)."""
    picture: Path | None = None
    """File of a plot of them (.png or .svg); default none."""

    def __post_init__(self) -> None:
        dataset_of(self.env)
        for name in self.observations:
            OBSERVATIONS.name_of(name)
        if min((1, *self.num_envs, *self.images)) < 1 or self.rounds < 1 or self.seconds <= 0:
            raise ConfigurationError("--num-envs, --images, --rounds and --seconds must be positive.")


def main(args: Args) -> None:
    cells = [(mode, num_envs) for mode in args.observations for num_envs in args.num_envs]
    results: list[dict[str, Any]] = []
    with tqdm(cells, desc="benchmark", unit="cell") as bar:
        for mode, num_envs in bar:
            bar.set_postfix_str(f"{mode} x {num_envs}")
            with ExitStack() as stack:
                rates = take_turns(contenders(args, mode, num_envs, stack), num_envs, args)
            results.append({"observation": mode, "num_envs": num_envs, "steps_per_second": rates} | ratios(rates))
    scaling = by_size(args) if args.images else []
    report = {"env": args.env, "results": results, "data_set_size": scaling, **circumstances(args)}
    write_json(args.out, report)
    if args.picture is not None:
        draw(results, args.picture)
    print(table(results, scaling))
    print(f"\nFigures in {args.out}" + (f", plot in {args.picture}." if args.picture else "."))


def contenders(args: Args, mode: str, num_envs: int, stack: ExitStack) -> dict[str, Turn]:
    """Returns what is measured for one number of environments and kind of observation."""
    from agents.vec_env import GlimpseVecEnv  # only here: --help needs no Stable-Baselines3

    made = gym.make_vec(args.env, num_envs=num_envs, observation=mode, posterior_info=False, tabulated=True)
    native = made.unwrapped
    assert isinstance(native, GlimpseVectorEnv)
    turns: dict[str, Turn] = limits(native) | {NATIVE: stepper(native)}
    if mode != "embedding":
        turns[PIXELS] = stepper(gym.make_vec(args.env, num_envs=num_envs, observation=mode, posterior_info=False))
    stopping = gym.make_vec(
        args.env, num_envs=num_envs, observation=mode, posterior_info=False, tabulated=True, stop=True
    )
    turns[STOPPING] = stepper(stopping, stops=1 / native.batch.geometry.num_glimpses)
    turns[ADAPTER] = stepper(GlimpseVecEnv(copy.deepcopy(native)))
    single = gym.make(args.env, observation=mode, posterior_info=False, tabulated=True)
    if num_envs == 1:
        turns[SINGLE] = stepper(single)
    singles = [lambda: copy.deepcopy(single)] * num_envs
    turns[SYNC] = stepper(SyncVectorEnv(singles, autoreset_mode=AutoresetMode.SAME_STEP))
    if num_envs <= args.async_up_to:
        # not forked, as torch's threads do not survive that
        processes = AsyncVectorEnv(singles, autoreset_mode=AutoresetMode.SAME_STEP, context="forkserver")
        stack.callback(processes.close)
        turns[ASYNC] = stepper(processes)
    programs: dict[str, list[tuple[str, ...]]] = {}
    if hasattr(signal, "SIGSTOP"):
        programs[BESIDE] = [(_OURS, args.env, str(num_envs), mode)] * 2
        if find_spec("ap_gym") is not None:
            programs[AP_GYM] = [(_RIVAL, str(num_envs))]
    for name, lines in programs.items():
        turns[name] = pair = SideBySide(lines)
        stack.callback(pair.close)
    return turns


_OURS = """
import sys
import gymnasium as gym
import glimpse_env
name, num_envs, mode = sys.argv[1:]
env = gym.make_vec(name, num_envs=int(num_envs), observation=mode, posterior_info=False, tabulated=True)
"""
_RIVAL = """
import sys
import ap_gym
env = ap_gym.make_vec("CircleSquare-v0", num_envs=int(sys.argv[1]))
"""
_STEPPING = """
import time
env.reset(seed=0)
env.action_space.seed(0)
actions = [env.action_space.sample() for _ in range(64)]
print("ready", flush=True)
for line in sys.stdin:
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < float(line) or calls < 5:
        held = env.step(actions[calls % 64])
        calls += 1
    print(calls / elapsed, flush=True)
"""


class SideBySide:
    """Processes that step at the same time, an environment each, and are stopped between their turns.

    ap_gym needs that, as it has a thread that never rests.

    Args:
        programs: the lines of each process that make ``env``, and their command-line arguments.
    """

    def __init__(self, programs: Sequence[tuple[str, ...]]):
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", program + _STEPPING, *arguments],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for program, *arguments in programs
        ]
        self._answers()  # that they are ready
        self._signal(signal.SIGSTOP)

    def __call__(self, seconds: float) -> float:
        """Returns the calls a second in a turn, the mean over processes."""
        self._signal(signal.SIGCONT)
        for process in self._processes:
            assert process.stdin is not None
            print(seconds, file=process.stdin, flush=True)
        rates = [float(answer) for answer in self._answers()]
        self._signal(signal.SIGSTOP)
        return sum(rates) / len(rates)

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _signal(self, number: int) -> None:
        for process in self._processes:
            process.send_signal(number)

    def _answers(self) -> list[str]:
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            answers.append(process.stdout.readline())
        if not all(answers):
            raise ConfigurationError(
                "a process that steps beside this one has ended: if ap_gym does not run, "
                f"`{pip_extra('rivals')}`, or uninstall it."
            )
        return answers


def limits(env: GlimpseVectorEnv) -> dict[str, Turn]:
    """The bare gather of as many glimpses, and the bare copy of the bytes that observations of this kind have.

    An episode of T steps returns T + 1 observations: its last and the first of the next come together.
    """
    batch, num_envs, steps = env.batch, env.num_envs, env.batch.geometry.num_glimpses
    rng = np.random.default_rng(0)
    side, images = batch.grid.glimpse_size, np.asarray(batch.dataset.images)
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side, images.shape[3]), axis=(1, 2, 3))
    rows = rng.integers(len(images), size=(64, num_envs))
    corners = batch.grid.corners[rng.integers(len(batch.grid), size=(64, num_envs))]
    places = itertools.cycle(zip(rows, corners[..., 0], corners[..., 1], strict=True))
    blank = batch.observer.blank(num_envs)
    parts = [array + 0 for array in (blank.values() if isinstance(blank, dict) else [blank])]
    held: dict[str, Any] = {}  # as whoever learns from observations holds them
    counts = itertools.count(1)

    def gather() -> None:
        images_at, down, right = next(places)
        held["glimpses"] = windows[images_at, down, right, 0]

    def write() -> None:
        held["observation"] = [array.copy() for array in parts]
        if next(counts) % steps == 0:
            held["first"] = [array.copy() for array in parts]

    return {GATHER: partial(measure, gather), COPY: partial(measure, write)}


def stepper(env: Any, stops: float | None = None) -> Turn:
    """Returns a turn of an environment of any kind: random actions, all drawn beforehand, and resets where due.

    With ``stops`` each action is the last, which stops, with this probability.
    """
    env.reset()
    env.action_space.seed(0)
    single, adapter = isinstance(env, gym.Env), not isinstance(env, gym.Env | gym.vector.VectorEnv)
    draws = [env.action_space.sample() for _ in range(64 * (env.num_envs if adapter else 1))]
    if stops is not None:
        rng, last = np.random.default_rng(0), env.single_action_space.n - 1
        draws = [np.where(rng.random(env.num_envs) < stops, last, np.minimum(draw, last - 1)) for draw in draws]
    actions = itertools.cycle(np.reshape(draws, (64, env.num_envs)) if adapter else draws)
    held: list[Any] = [None]  # as whoever learns from transitions holds them

    def step() -> None:
        held[0] = env.step(next(actions))
        if single and (held[0][2] or held[0][3]):
            env.reset()

    return partial(measure, step)


def take_turns(turns: dict[str, Turn], num_envs: int, args: Args) -> dict[str, list[float]]:
    """Environment steps a second of each contender in each round."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        turn(args.seconds)  # caches fill
    gc.collect()
    gc.freeze()  # a thousand single environments would slow down whoever makes an object
    for _ in range(args.rounds):
        for name, turn in turns.items():
            rates[name].append(num_envs * turn(args.seconds))
    gc.unfreeze()
    return rates


def measure(step: Step, seconds: float) -> float:
    """Calls a second."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or calls < 5:
        step()
        calls += 1
    return calls / elapsed


def ratios(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Returns the median over rounds of the native vector environment's rate relative to each of the others, and the
    share of it that each of two processes keeps beside the other."""
    ours = np.array(rates[NATIVE])
    others = {name: float(np.median(ours / rate)) for name, rate in rates.items() if name != NATIVE}
    return {"native_to": others} | ({"kept_beside_another": 1 / others[BESIDE]} if BESIDE in others else {})


class Undecided:
    """A judge that costs nothing."""

    num_classes = 10

    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        return np.full((len(counts), self.num_classes), 0.1, dtype=np.float32)


def by_size(args: Args) -> list[dict[str, Any]]:
    """Steps a second over ever larger data sets, memory-mapped, glimpse observations, 256 environments."""
    side, most, num_envs = 60, max(args.images), 256
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        images = new_array(path, (most, side, side, 1), np.uint8)
        for start in tqdm(range(0, most, 10_000), desc="random images", unit="chunk"):
            part = images[start : start + 10_000]
            part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
        turns = {str(count): stepper(_env_of(images[:count], num_envs)) for count in args.images}
        rates = take_turns(turns, num_envs, args)
    first = np.array(rates[str(args.images[0])])
    return [
        {
            "images": count,
            "steps_per_second": rates[str(count)],
            "relative": float(np.median(np.array(rates[str(count)]) / first)),
        }
        for count in args.images
    ]


def _env_of(images: np.ndarray, num_envs: int) -> GlimpseVectorEnv:
    """An environment over random images, without a judge to speak of."""
    count = len(images)
    dataset = GlimpseDataset(
        name="random",
        split="val",
        images=images,
        labels=np.arange(count) % Undecided.num_classes,
        folds=np.full(count, -1),
        class_names=tuple(map(str, range(Undecided.num_classes))),
        part_names=(),
        parts=np.zeros((count, 0, 3), dtype=np.float32),
        fingerprint="random",
        geometry=Geometry(images.shape[1], 12, 4, 6),
    )
    return GlimpseVectorEnv(dataset, Undecided(), num_envs=num_envs, observation="glimpse", posterior_info=False)


def circumstances(args: Args) -> dict[str, Any]:
    """Returns what the figures depend on."""
    rival = {"ap_gym": metadata.version("ap_gym")} if find_spec("ap_gym") is not None else {}
    return {
        "rounds": args.rounds,
        "seconds": args.seconds,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "stepping_threads": stepping_threads(),
        "versions": versions() | rival,
    }


def table(results: list[dict[str, Any]], scaling: list[dict[str, Any]]) -> str:
    """Returns the medians as Markdown."""
    from agents.reports.style import short_number  # only here: --help needs no Matplotlib

    names = [name for name in _ORDER if any(name in row["steps_per_second"] for row in results)]
    rows = [["observation", "environments", *names]]
    for row in results:
        rates, shares = row["steps_per_second"], row["native_to"]
        cells = [short_number(np.median(rates[name])) if name in rates else MISSING for name in names]
        cells = [f"{c} ({shares[name]:.3g})" if name in shares else c for c, name in zip(cells, names, strict=True)]
        rows.append([row["observation"], str(row["num_envs"]), *cells])
    lines = [markdown_table(rows, "lr"), ""]
    lines.append("Environment steps a second; in brackets, how many times as fast the native vector environment is.")
    for row in scaling:
        speed = short_number(np.median(row["steps_per_second"]))
        lines.append(f"{row['images']} images: {speed}, {row['relative']:.2f} of the first.")
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws the steps a second over the number of environments, one panel a kind of observation."""
    from matplotlib.figure import Figure  # only here: --help needs no Matplotlib

    modes = list(dict.fromkeys(row["observation"] for row in results))
    figure = Figure(figsize=(3.2 * len(modes) + 1.8, 3.6), layout="constrained")
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for panel, mode in zip(panels, modes, strict=True):
        for colour, name in enumerate(_ORDER):
            points = [
                (row["num_envs"], np.median(row["steps_per_second"][name]))
                for row in results
                if row["observation"] == mode and name in row["steps_per_second"]
            ]
            if points:
                style = "--" if name.startswith("limit") else "-"
                panel.plot(*zip(*points, strict=True), style, marker=".", color=f"C{colour}", label=name)
        panel.set(xscale="log", yscale="log", title=mode, xlabel="environments")
        panel.set_xticks([row["num_envs"] for row in results if row["observation"] == mode])
        panel.get_xaxis().set_major_formatter("{x:.0f}")
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("environment steps a second")
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    cli.run(main, Args, one_thread=False)  # the threads that steps use are what is measured
