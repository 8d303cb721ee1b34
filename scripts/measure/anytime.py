"""Measures how good the judge's answer is by the glimpses that were taken, with rules that stop the oracle.

python scripts/measure/anytime.py --env GlimpseBirds-v0 --images 1000
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays a policy to the end once on each image, works out where each rule would have stopped, and compares the
    rules at equal mean numbers of glimpses. Rules are fitted on training images, thresholds chosen on validation
    images."""

    policy: str = "oracle"
    """Policy that looks."""
    cost: float | None = None
    """Cost of a glimpse at which returns are compared, in expected success; default the data set's."""
    images: int = 1000
    """Maximum number of images."""
    split: Literal["val", "test"] = "test"
    """Split that the images are from."""
    picture: Path | None = None
    """File of the picture (.png); default runs/anytime_<data set>.png."""
    looks: Path | None = None
    """File of a picture (.png) of where, how closely and until when the policy looks in the environment itself, stops
    and all, which is then all that is made; default none."""
    out: Path | None = None
    """File of the figures (.json); default runs/anytime_<data set>.json."""
    into: Path | None = None
    """Page that the tables go into, between `<!-- anytime:NAME -->` and `<!-- /anytime:NAME -->`."""

    def __post_init__(self) -> None:
        cli.check_least(self, images=1)
        if self.cost is not None:
            cli.check_least(self, cost=0)


def main(args: Args) -> None:
    from agents.evaluation.evaluate import TITLES, choose_images
    from agents.reports.stopping import anytime, looks
    from agents.reports.tables import replace_section
    from glimpse_env.devices import find_device
    from glimpse_env.files import write_json
    from glimpse_env.presets import anytime_options, glimpse_cost
    from glimpse_env.rollout import play
    from glimpse_env.versions import versions
    from oracles.induction import record, recorded_episodes
    from oracles.registry import ensure_policy, make_policy, policy_settings, priced, resolved
    from oracles.training.judge import ensure_judge

    source = args.source()
    judge = ensure_judge(source, device=find_device(args.device))
    if args.looks is not None:
        own, config = priced(args.policy, source, anytime_options(args.env).get("glimpse_cost"))
        acting, dataset = make_policy(own, source, judge, config=config), source.load(args.split)
        rows = choose_images(dataset, args.images)
        played = play(acting, dataset, judge, rows, start=lambda indices: acting.start(dataset, indices))
        name_of = TITLES.get(own, own)
        note = f"{name_of}; {len(rows)} {args.split} images, one episode each."
        looks.draw(
            args.looks, played.locations, judge.grid, title=f"{args.env} · where, how closely, until when", note=note
        )
        print(f"Picture in {args.looks}.")
        return
    ensure_policy(args.policy, source, judge)
    settings = policy_settings(args.policy, source, judge)
    fitted_to = recorded_episodes(
        source, judge, lambda network: make_policy(args.policy, source, judge, network=network), settings
    )
    policy, episodes = make_policy(args.policy, source, judge), {}
    for split in ("val", args.split):
        dataset = source.load(split)
        episodes[split] = record(policy, dataset, judge, choose_images(dataset, args.images))
    cost = glimpse_cost(source.name) if args.cost is None else args.cost
    compared = anytime.compare(fitted_to, episodes["val"], episodes[args.split], cost)
    name = source.name + ("" if len(source.geometry.zooms) == 1 else "-zooms")
    picture, out = args.picture or Path(f"runs/anytime_{name}.png"), args.out or Path(f"runs/anytime_{name}.json")
    player = resolved(args.policy, source)
    anytime.draw(
        picture,
        compared,
        title=f"{args.env} · success by glimpses",
        note=f"{TITLES.get(player, player)}; {compared.images} {args.split} images, one episode each; "
        "bands: 95 %, bootstrap over images.",
    )
    content = {
        "env": args.env,
        "command": cli.command_line("measure/anytime", args),
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        "judge": judge.identity,
        "policy": player,
        "split": args.split,
        "num_images": compared.images,
        "cost": cost,
        **compared.to_json(),
        "looks": anytime.looks(episodes[args.split], judge.grid),
        "versions": versions(),
    }
    write_json(out, content)
    text = compared.to_markdown()
    print(f"\n{text}\n\nPicture in {picture}, figures in {out}.")
    if args.into is not None:
        replace_section(text, args.into, f"anytime:{name}")


if __name__ == "__main__":
    cli.run(main, Args)
