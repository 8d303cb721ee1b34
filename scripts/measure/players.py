"""Makes a row of a table for each person who played the game, beside policies on the same images.

python scripts/measure/players.py --env GlimpseBirds-v0 --games runs/play/GlimpseBirds-v0-test.npz
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse_env import cli

if TYPE_CHECKING:
    from agents.evaluation.players import PlayerResult


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Evaluates the games that play kept, by the protocol of the other tables."""

    games: Path = Path("runs/play/GlimpseBirds-v0-test.npz")
    """File of the games (.npz)."""
    policies: tuple[str, ...] = ("random", "fixed", "oracle")
    """Names of policies to compare with."""
    assisted: bool = False
    """Whether images count on which the player saw the oracle's map."""
    out: Path = Path("runs/players.json")
    """File of the figures."""
    into: Path | None = None
    """Page that the table goes into, between `<!-- table:players -->` and `<!-- /table:players -->`."""


def main(args: Args) -> None:
    from agents.evaluation.players import evaluate_players
    from agents.reports.tables import replace_section
    from glimpse_env.devices import find_device
    from glimpse_env.files import write_json
    from glimpse_env.versions import versions
    from oracles.demonstrations import Demonstrations
    from oracles.training.judge import ensure_judge

    games, source = Demonstrations.load(args.games), args.source()
    judge = ensure_judge(source, device=find_device(args.device))
    results = evaluate_players(games, source, judge, args.policies, assisted=args.assisted)
    text = table(results)
    print(text)
    players = {
        name: {
            "person": one.person.to_json(),
            "policies": {policy: evaluation.to_json() for policy, evaluation in one.policies.items()},
            "less": {policy: less.to_json() for policy, less in one.less.items()},
        }
        for name, one in results.items()
    }
    settings: dict[str, Any] = {"env": args.env, "split": games.manifest["split"], "assisted": args.assisted}
    command = cli.command_line("measure/players", args)
    write_json(args.out, {**settings, "players": players, "command": command, "versions": versions()})
    if args.into is not None:
        replace_section(text, args.into, "table:players")


def table(results: "dict[str, PlayerResult]") -> str:
    """Returns Markdown with a row for each player and each policy on that player's images."""
    from agents.evaluation.evaluate import TITLES
    from agents.reports.tables import MISSING, format_percent, markdown_table, percent, plain

    rows = [["on the same images", "images", "success", "log-loss, nats", "person less this"]]
    for name, one in results.items():
        for title, evaluation, less in (
            (plain(name), one.person, None),
            *((TITLES.get(policy, policy), one.policies[policy], one.less[policy]) for policy in one.policies),
        ):
            rows.append(
                [
                    title,
                    str(len(evaluation.outcomes)),
                    percent(evaluation.success_rate, evaluation.interval()),
                    f"{evaluation.log_loss[-1]:.3f}",
                    MISSING if less is None else format_percent(less.success, signed=True),
                ]
            )
    return markdown_table(rows, "lr")


if __name__ == "__main__":
    cli.run(main, Args)
