"""Measures what it costs to stop looking early, by the paper's rule and by simpler ones.

python scripts/measure/stopping.py --env GlimpseBirds-v0
python scripts/measure/stopping.py --env GlimpseBirdsClassify-v0 --network runs/paper/cells/<run>/best.zip
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glimpse_env import cli

if TYPE_CHECKING:
    import numpy as np

    from glimpse_env.datasets.base import DataSource
    from oracles.boed.stopping import PlayedOut


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays the oracle, or a network that classifies, to the end once on each image and works out where each rule would
    have stopped."""

    policy: str = "boed"
    """Policy that expects entropies: boed, boed-paper, or oracle where that is one of them."""
    network: Path | None = None
    """File of a network of scripts/paper_experiment.py, trained by ps-nogs-steps, that plays in place of the policy."""
    trust: bool = False
    """Whether to read an agent from an SB3 zip without a card beside it, and to run the code that a card names. A file
    of somebody else can do anything then that you can do."""
    images: int = 1000
    """Maximum number of images."""
    split: Literal["val", "test"] = "test"
    """Split that the images are from."""
    picture: Path | None = None
    """File of the picture (.png); default runs/stopping_<data set>.png."""
    out: Path | None = None
    """File of the figures (.json); default runs/stopping_<data set>.json."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1)


def main(args: Args) -> None:
    import numpy as np

    from agents.evaluation.evaluate import choose_images
    from agents.evaluation.statistics import success_by_budget
    from agents.reports.stopping import rules as reported
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions

    source = args.source()
    images = choose_images(source.load(args.split), args.images)
    play = played_by_oracle if args.network is None else played_by_network
    played, player, entry, flops = play(args, source, images)
    rules, steps = reported.rules_of(played), source.geometry.num_glimpses
    budgets = np.linspace(1, steps, 20 * (steps - 1) + 1)
    curves = {name: success_by_budget(played.success, used, budgets) for name, (_, used) in rules.items()}
    name = source.name if args.network is None else f"network_{source.name}"
    picture, out = args.picture or Path(f"runs/stopping_{name}.png"), args.out or Path(f"runs/stopping_{name}.json")
    reported.stopping_curves(
        picture,
        curves,
        budgets,
        title=f"{args.env} · when to stop looking",
        note=f"{player}; {len(images)} {args.split} images, one episode each; bands: 95 %, bootstrap over images.",
        flops=flops,
    )
    rows = reported.comparisons(curves, budgets)
    content = {
        "env": args.env,
        "command": cli.command_line("measure/stopping", args),
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        **entry,
        "split": args.split,
        "num_images": len(images),
        "rules": reported.rules_entry(played, rules, flops),
        "at_equal_glimpses": rows,
        "versions": versions(),
    }
    write_json(out, content)
    print(f"\n{reported.comparison_table(rows)}\n\nPicture in {picture}, figures in {out}.")


Played = tuple["PlayedOut", str, dict[str, Any], "dict[str, np.ndarray] | None"]
"""Episodes, their player's title and figures, and its operations by rule where they are counted."""


def played_by_oracle(args: Args, source: DataSource, images: np.ndarray) -> Played:
    """Plays the oracle to the end on each image.

    Raises:
        ConfigurationError: if the policy expects no entropies.
    """
    from agents.evaluation.evaluate import TITLES
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from oracles.boed.oracle import BOEDOracle
    from oracles.boed.stopping import play_out
    from oracles.registry import make_policy
    from oracles.training.judge import ensure_judge

    judge = ensure_judge(source, device=find_device(args.device))
    oracle = make_policy(args.policy, source, judge)
    if not isinstance(oracle, BOEDOracle):
        raise ConfigurationError(f"--policy {args.policy} expects no entropies; take boed or boed-paper.")
    played = play_out(oracle, source.load(args.split), judge, images)
    entry = {"judge": judge.identity, "policy": args.policy, "config": asdict(oracle.config)}
    return played, f"{TITLES[args.policy]}, criterion {oracle.config.criterion}", entry, None


def played_by_network(args: Args, source: DataSource, images: np.ndarray) -> Played:
    """Lets the network look and classify to the end on each image, and counts its operations by rule."""
    import gymnasium as gym

    from agents.ram.algorithm import RAM
    from agents.ram.stopping import flops, play_out
    from agents.saving import load_agent
    from agents.vec_env import GlimpseVecEnv
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ArtifactError, ConfigurationError

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
    model = load_agent(args.network, trust=args.trust, algo="ram", device=find_device(args.device))
    if not isinstance(model, RAM):
        raise ArtifactError(f"--network {args.network} is no network of paper_experiment.")
    if model.observation_space != GlimpseVecEnv(env).observation_space:
        raise ConfigurationError(
            f"--network {args.network} was not trained on the glimpses of {args.env}; a network that reads frozen "
            "features cannot be stopped early yet."
        )
    asked = flops(model, rule=True)
    operations = {"fixed": flops(model, rule=False), "entropy": asked, "gain": asked}
    by_glimpses = {name: [int(number) for number in numbers] for name, numbers in operations.items()}
    entry = {"network": str(args.network), "flops_by_glimpses": by_glimpses}
    return play_out(model, source.load(args.split), images), "a network that classifies", entry, operations


if __name__ == "__main__":
    cli.run(main, Args)
