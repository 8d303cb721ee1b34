"""What it costs to stop looking early, by the paper's rule and by simpler ones.

python scripts/measure/stopping.py --env GlimpseBirds-v0
python scripts/measure/stopping.py --env GlimpseBirdsClassify-v0 --network runs/paper/cells/<run>/best.zip
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro

import glimpse_env  # noqa: F401 - registers the ids
from agents.evaluation.evaluate import TITLES, choose_images
from agents.evaluation.statistics import Estimate, percentile_estimates, success_by_budget
from agents.ram import stopping as early_stopping
from agents.ram.algorithm import RAM
from agents.reports.stopping_plots import StoppingCurve, stopping_curves
from agents.reports.tables import command_line, format_estimate, markdown
from agents.vec_env import GlimpseVecEnv
from glimpse_env.datasets.base import DataSource
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.files import write_json
from glimpse_env.registration import source_of
from glimpse_env.versions import versions
from oracles.boed.oracle import BOEDOracle
from oracles.boed.stopping import PlayedOut, glimpses_used, play_out
from oracles.registry import make_policy
from oracles.training.judge import ensure_judge

THRESHOLDS = 200
"""Of each rule, spread over the values that its signal takes."""


@dataclass(frozen=True)
class Args:
    """Plays the oracle, or a network that classifies, to the end once on each image and works out where each rule would
    have stopped."""

    env: str = "GlimpseBirds-v0"
    """Environment id, or the name of a data set."""
    policy: str = "boed"
    """boed, boed-paper or oracle."""
    network: Path | None = None
    """A network of scripts/paper_experiment.py, trained by ps-nogs-steps, in place of a policy."""
    images: int = 1000
    """Images, at most."""
    split: Literal["val", "test"] = "test"
    """Whose images."""
    root: str | None = None
    """Folder of the data set; default GLIMPSE_DATA. GlimpseFolder-v0 has no default."""
    dataset_options: str = "{}"
    """Further arguments of the data set as JSON, e.g. '{"species": [1, 2, 3]}' for CUB, '{"size": 96}' for a folder."""
    scales: int | None = None
    """Concentric windows a glimpse; default the environment's."""
    picture: Path | None = None
    """Where the picture goes; default docs/images/stopping_<data set>.png."""
    out: Path | None = None
    """Where the figures go as JSON; default docs/stopping_<data set>.json."""


def main(args: Args) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        measure(args)
    except GlimpseError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def measure(args: Args) -> None:
    """Plays, and writes picture and figures."""
    source = source_of(args.env, args.root, args.dataset_options, args.scales)
    indices = choose_images(source.load(args.split), args.images)
    played, who = played_by_network(args, source, indices) if args.network else played_by_oracle(args, source, indices)
    rules = rules_of(played)
    operations = who.pop("flops", None)
    steps = source.geometry.num_glimpses
    budgets = np.linspace(1, steps, 20 * (steps - 1) + 1)
    curves = {
        name: StoppingCurve(budgets, success_by_budget(played.success, used, budgets))
        for name, (_, used) in rules.items()
    }
    name = f"network_{source.name}" if args.network else source.name
    picture = args.picture or Path(f"docs/images/stopping_{name}.png")
    stopping_curves(
        picture,
        curves,
        steps,
        title=f"{args.env} · when to stop looking",
        note=f"{who.pop('told')}; {len(indices)} {args.split} images, one episode each; bands: 95 %, bootstrap over "
        "images.",
        flops=operations,
    )
    saved = comparisons(curves, steps)
    print(f"\n{table(saved)}\n\nPicture in {picture}")
    out = args.out or Path(f"docs/stopping_{name}.json")
    write_json(
        out,
        {
            "env": args.env,
            "command": command_line("measure/stopping", args),
            "dataset": {"name": source.name, "fingerprint": source.fingerprint},
            **who,
            "split": args.split,
            "num_images": len(indices),
            "rules": {
                name: {
                    "thresholds_nats": None if thresholds is None else [round(float(t), 6) for t in thresholds],
                    "mean_glimpses": [round(float(mean), 4) for mean in used.mean(axis=1)],
                    **_mean_flops(operations, name, used),
                    "success_rate": [
                        round(float(played.success[np.arange(len(indices)), stops - 1].mean()), 4) for stops in used
                    ],
                }
                for name, (thresholds, used) in rules.items()
            },
            "at_equal_glimpses": saved,
            "versions": versions(),
        },
    )
    print(f"Figures in {out}")


def played_by_oracle(args: Args, source: DataSource, indices: np.ndarray) -> tuple[PlayedOut, dict[str, Any]]:
    """The oracle's episodes, judged by the judge, and what they were played with."""
    judge = ensure_judge(source)
    oracle = make_policy(args.policy, source, judge)
    if not isinstance(oracle, BOEDOracle):
        raise ConfigurationError(f"--policy {args.policy} expects no entropies; take boed or boed-paper.")
    played = play_out(oracle, source.load(args.split), judge, indices)
    return played, {
        "judge": judge.identity,
        "policy": args.policy,
        "config": asdict(oracle.config),
        "told": f"{TITLES[args.policy]}, criterion {oracle.config.criterion}",
    }


def played_by_network(args: Args, source: DataSource, indices: np.ndarray) -> tuple[PlayedOut, dict[str, Any]]:
    """The network's episodes and classes, and what each number of glimpses costs by each rule."""
    assert args.network is not None
    root: dict[str, Any] = {} if args.root is None else {"root": args.root}
    env: Any = gym.make_vec(
        args.env,
        num_envs=1,
        task="classify",
        observation="glimpse",
        scales=source.geometry.scales,
        dataset_options=json.loads(args.dataset_options),
        **root,
    )
    model = RAM.load(args.network, env=GlimpseVecEnv(env), device="cpu")
    played = early_stopping.play_out(model, source.load(args.split), indices)
    asked = early_stopping.flops(model, rule=True)
    operations = {"fixed": early_stopping.flops(model, rule=False), "entropy": asked, "gain": asked}
    return played, {
        "network": str(args.network),
        "flops_by_glimpses": {name: [int(number) for number in found] for name, found in operations.items()},
        "flops": operations,
        "told": "a network that classifies",
    }


def _mean_flops(operations: dict[str, np.ndarray] | None, name: str, used: np.ndarray) -> dict[str, list[int]]:
    """The operations of each rule, means over images; nothing where they are not counted."""
    return {} if operations is None else {"mean_flops": [int(operations[name][stops - 1].mean()) for stops in used]}


def rules_of(played: PlayedOut) -> dict[str, tuple[np.ndarray | None, np.ndarray]]:
    """By family of rules: their thresholds (K,) in nats, and where each stops (K, N), the earliest first."""
    count, steps = played.success.shape
    fixed = np.broadcast_to(np.arange(1, steps + 1)[:, None], (steps, count))
    found: dict[str, tuple[np.ndarray | None, np.ndarray]] = {"fixed": (None, fixed)}
    for name, signal in (("entropy", played.entropy[:, :-1]), ("gain", played.gain)):
        inner = np.quantile(signal, np.linspace(1, 0, THRESHOLDS))
        thresholds = np.concatenate([[np.nextafter(inner[0], np.inf)], inner])  # from stopping at once to never
        found[name] = thresholds, np.stack([glimpses_used(signal, threshold) for threshold in thresholds])
    return found


def comparisons(curves: dict[str, StoppingCurve], steps: int) -> list[dict[str, Any]]:
    """For each number of glimpses but the ends: every rule's success at that many in the mean, and what it is above
    stopping all images there."""
    rows = []
    for t in range(2, steps):
        row: dict[str, Any] = {"glimpses": t}
        at = int(np.argmin(np.abs(curves["fixed"].budgets - t)))
        base = curves["fixed"].samples[:, at]
        for name, curve in curves.items():
            row[name] = _estimate(curve.samples[:, at]).to_json()
            if name != "fixed":
                row[f"{name}_less_fixed"] = _estimate(curve.samples[:, at] - base).to_json()
        rows.append(row)
    return rows


def _estimate(samples: np.ndarray) -> Estimate:
    value, low, high = percentile_estimates(samples[:, None])
    return Estimate(float(value[0]), float(low[0]), float(high[0]))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of :func:`comparisons`."""

    def told(content: dict[str, Any], signed: bool = False) -> str:
        return format_estimate(Estimate(content["value"], *content["interval"]), 1, scale=100, signed=signed)

    head = ["mean glimpses", "fixed number, %", "by entropy, %", "less fixed, points", "by information gain, %"]
    lines = [[*head, "less fixed, points"]]
    for row in rows:
        cells = [told(row["fixed"])]
        for name in ("entropy", "gain"):
            cells += [told(row[name]), told(row[f"{name}_less_fixed"], signed=True)]
        lines.append([str(row["glimpses"]), *cells])
    return markdown(lines)


if __name__ == "__main__":
    main(tyro.cli(Args))
