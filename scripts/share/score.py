"""Scores an agent or a policy on test images and writes a row of the scoreboard; checks and shows rows.

python scripts/share/score.py my_agent.py --env GlimpseBirds-v0 --name "my agent" --author "me"
python scripts/share/score.py --check docs/scoreboard --into docs/scoreboard.md
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags, cli.DeviceFlags):
    """Plays one deterministic episode on each test image and writes a row with the result of each; or checks rows."""

    subject: tyro.conf.Positional[str | None] = None
    """What to score: a Python file with a function make_agent(source, judge), the folder of a run or of what was
    pulled, an id that an agent comes with the package for, or the name of a policy."""
    name: str | None = None
    """Name of the row; default the subject's."""
    author: str = ""
    """Whose row it is."""
    seed: int = 0
    """Seed of a policy that is random."""
    trust: bool = False
    """Whether to read an agent from an SB3 zip without a card beside it, and to run the code that a card names. A file
    of somebody else can do anything then that you can do."""
    out: Path = Path("runs/scores")
    """Folder for the row."""
    new_board: bool = False
    """Whether the folder is to have a board for this id: its rows have to be of the same data and judge as this one."""
    check: Path | None = None
    """Folder of rows, of which each number is computed again from its results on single images."""
    into: Path | None = None
    """Page that the tables of the checked rows go into, between `<!-- board -->` and `<!-- /board -->`; pictures go
    into images/ beside it."""

    def __post_init__(self) -> None:
        cli.check_least(self, seed=0)


def main(args: Args) -> None:
    from glimpse_env.errors import ConfigurationError

    if (args.subject is None) == (args.check is None):
        raise ConfigurationError("name what to score, or a folder of rows to --check.")
    if args.into is not None and args.check is None:
        raise ConfigurationError(f"--into {args.into} needs the folder of the rows, --check docs/scoreboard.")
    if args.check is not None:
        show(args.check, args.into)
    else:
        score(args)


def score(args: Args) -> None:
    from agents.evaluation.evaluate import choose_images, evaluate, format_table
    from agents.sharing.rows import TEST_IMAGES, make_row, open_board, write_row
    from agents.sharing.subjects import load_subject
    from glimpse_env.devices import find_device
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.presets import CLASSIFY_IDS, anytime_options
    from oracles.training.judge import ensure_judge

    if args.env in CLASSIFY_IDS:
        raise ConfigurationError(f"--env {args.env} has no judge, and rows are compared under one; take its twin.")
    assert args.subject is not None
    source, cost = args.source(), anytime_options(args.env).get("glimpse_cost")
    judge = ensure_judge(source, device=find_device(args.device))
    subject = load_subject(args.subject, source, judge, glimpse_cost=cost, seed=args.seed, trust=args.trust)
    test, name = source.load("test"), args.name or subject.name
    images = choose_images(test, TEST_IMAGES)
    evaluation = evaluate(subject.policy, test, judge, images, name=name, observation=subject.observation)
    row = make_row(
        evaluation,
        subject,
        env=args.env,
        name=name,
        author=args.author,
        seed=args.seed,
        command=command_of(args),
        glimpse_cost=cost,
    )
    if args.new_board:
        open_board(row, args.out)
    print(f"{format_table({name: evaluation}, cost)}\nRow: {write_row(row, args.out)}")


def command_of(args: Args) -> str:
    """Returns the command that scores the same again, without folders of this machine."""
    import shlex

    from agents.sharing.bundle import without_folders

    plain = replace(args, subject=None, out=Args.out, root=None, new_board=False)
    words = shlex.split(cli.command_line("share/score", plain, always=("env",)))
    return without_folders(shlex.join([*words[:2], str(args.subject), *words[2:]]))


def show(folder: Path, page: Path | None) -> None:
    import os

    from agents.reports.tables import replace_section
    from agents.sharing.rows import read_rows
    from agents.sharing.scoreboard import MARK, boards_of, draw_board, to_markdown

    rows = read_rows(folder)
    boards = boards_of(rows)
    print(f"{len(rows)} rows of {len(boards)} ids follow from their results.")
    if page is not None:
        for env, board in boards.items():
            draw_board(page.parent / "images" / f"scoreboard-{env}.png", env, board)
        where = os.path.relpath(folder, page.parent).replace(os.sep, "/")
        replace_section(to_markdown(rows, where, "images/scoreboard-{}.png"), page, MARK)
        print(f"Page: {page}")


if __name__ == "__main__":
    cli.run(main, Args)
