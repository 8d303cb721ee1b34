"""Measures how fast each device computes beside the CPU, and whether it gives the CPU's results.

python scripts/measure/devices.py --env GlimpseCUB-v0 --devices cpu cuda
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glimpse_env import cli
from glimpse_env.devices import Device


@dataclass(frozen=True)
class Args(cli.DatasetFlags):
    """Times encoding, oracles, a judge's training step and a PPO update on each device in one run, as ratios to the
    CPU, and compares what they give."""

    devices: tuple[Device, ...] = ("cpu", "auto")
    """Devices beside the CPU, which is always measured, first."""
    encoder: str = "efficientnet_lite0"
    """Encoder that is measured, frozen, and that the training step reads; oracles have the data set's own judge."""
    oracles: tuple[str, ...] = ("boed", "kernel")
    """Oracles whose sequences are measured."""
    images: int = 64
    """Images encoded, looked at and trained on at a time, at most; validation images for oracles."""
    rounds: int = 3
    """Turns of each measurement after one that warms up; the median counts."""
    out: Path = Path("runs/devices.json")
    """File of the figures (.json)."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1, rounds=1)


def main(args: Args) -> None:
    from agents.reports.tables import MISSING, markdown_table
    from glimpse_env.devices import find_device
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions

    devices = list(dict.fromkeys(find_device(name).type for name in ("cpu", *args.devices)))
    figures: dict[str, dict[str, Any]] = {}
    rows = [["", *devices]]
    answers: dict[str, Any] = {}
    for device in devices:
        figures[device] = measure(args, device, answers)
    for name, cpu in figures["cpu"].items():
        for device in devices:
            figures[device][name]["ratio"] = figures[device][name]["per_second"] / cpu["per_second"]
        told = [figures[device][name] for device in devices]
        rows.append(
            [f"{name}, {cpu['unit']} a second", *(f"{one['per_second']:.3g} (x {one['ratio']:.2f})" for one in told)]
        )
        for key in ("largest_difference", "same_locations"):
            if key in cpu:
                rows.append([f"{name}, {key.replace('_', ' ')}", MISSING, *(f"{one[key]:.4f}" for one in told[1:])])
    settings = {name: value for name, value in asdict(args).items() if not isinstance(value, Path)}
    write_json(args.out, {"args": settings, "devices": figures, "versions": versions()})
    print(markdown_table(rows))
    if devices == ["cpu"]:
        print("\nNo other device than the CPU was measured: none is here, or none was named.")
    print(f"\nFigures in {args.out}.")


def measure(args: Args, device: str, answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Measures one device.

    Args:
        args: what to measure.
        device: its kind.
        answers: what the CPU gave, which the first call, for the CPU, fills in.

    Returns:
        For each measurement its speed, and how far results are from the CPU's.
    """
    import numpy as np
    import torch

    from agents.registry import make_model
    from agents.vec_env import GlimpseVecEnv
    from glimpse_env.encoding.registry import load_encoder
    from glimpse_env.judge.sequences import judge_sequences
    from glimpse_env.rollout import play
    from glimpse_env.vector_env import GlimpseVectorEnv
    from oracles.presets import preset_of
    from oracles.registry import make_policy
    from oracles.training.judge import ensure_judge
    from oracles.training.posterior import NetworkTrainer

    source = args.source()
    judge, val, train = ensure_judge(source, device=device), source.load("val"), source.load("train")
    rows, figures = np.arange(min(args.images, len(val))), {}

    def add(name: str, unit: str, count: int, turn: Callable[[], object]) -> Any:
        seconds, result = [], turn()
        for _ in range(args.rounds):
            began = time.perf_counter()
            result = turn()
            seconds.append(time.perf_counter() - began)
        figures[name] = {"unit": unit, "per_second": count / float(np.median(seconds)), "seconds": seconds}
        return result

    def difference(name: str, values: np.ndarray) -> None:
        figures[name]["largest_difference"] = float(np.abs(answers.setdefault(f"{name} values", values) - values).max())

    encoder, grid = load_encoder(args.encoder).to(device), source.geometry.grid
    centre = np.repeat(grid.corners[[grid.centre]], len(rows), axis=0)
    windows = torch.from_numpy(source.geometry.sensor(val.images, rows, centre)[..., : source.image_shape[2]].copy())
    encoded = add("encoding", "glimpses", len(rows), lambda: encoder(windows))
    difference("encoding", encoded.numpy())
    for name in args.oracles:
        policy: Any = make_policy(name, source, judge)

        def look(policy: Any = policy) -> Any:
            start = lambda indices: policy.start(val, indices)  # noqa: E731  # as short as that
            return play(policy, val, judge, rows, start=start, progress=False)

        found = add(name, "sequences", len(rows), look)
        locations = answers.setdefault(f"{name} locations", found.locations)
        corners = answers.setdefault(f"{name} corners", found.corners)
        figures[name]["same_locations"] = float((found.locations == locations).mean())
        difference(name, judge_sequences(val, judge, rows, corners))
    trainer = NetworkTrainer(source, 0, preset_of(source, args.encoder).judge, seed=0, device=device)
    draw = source.judge_images if trainer.entries is None else trainer.entries.draw
    data = draw(0, np.random.default_rng(0))
    data = data.take(np.arange(min(args.images, len(data.labels))))
    places = trainer._random_locations(data.parts, np.random.default_rng(0))
    trainer.network.train().requires_grad_(True)

    def step() -> None:
        loss, _ = trainer._loss(data.images, data.labels, data.parts, places)
        trainer.descend(loss, 0.5)

    add("judge training", "images", len(data.labels), step)
    env = GlimpseVecEnv(GlimpseVectorEnv(train, judge, num_envs=16, observation="embedding", tabulated=True))
    ppo = make_model("ppo", env, judge=judge, seed=0, device=device)
    ppo.learn(ppo.n_steps * env.num_envs)
    add("PPO", "updates", 1, ppo.train)
    return figures


if __name__ == "__main__":
    cli.run(main, Args)
