"""How near to optimal greedy design and looking ahead are, on a small problem of real images that is solved exactly.

python scripts/measure/near_optimal.py --env GlimpseBirds-v0 --side 4 --glimpses 3
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from glimpse_env import cli


@dataclass(frozen=True)
class Args(cli.DatasetFlags):
    """Tabulates the judge on every set of a few places, finds the optimum among all policies that see which cluster
    each glimpse falls into, and measures what others lose to it, on those images and on test images."""

    side: int = 4
    """Places along a side, evenly spread over the grid."""
    glimpses: int = 3
    """T, glimpses of an episode."""
    clusters: tuple[int, ...] = (4, 8, 16)
    """C, clusters of the glimpses at each place; a problem for each."""
    images: int = 10_000
    """Maximum number of training images, which are the world, and of test images."""
    out: Path = Path("runs/near_optimal.json")
    """File of the figures, an entry for each data set and number of glimpses; others stay."""
    into: Path | None = None
    """Page that the table goes into, between marks named like its entry."""

    def __post_init__(self) -> None:
        cli.check_least(self, side=2, glimpses=1, images=2)


def main(args: Args) -> None:
    """Tabulates, plans, measures and prints the table."""
    import numpy as np

    from agents.evaluation.evaluate import choose_images
    from agents.evaluation.statistics import mean_difference, mean_of
    from agents.reports.tables import format_estimate, markdown_table, replace_entry, replace_section
    from glimpse_env.errors import ConfigurationError
    from glimpse_env.versions import versions
    from oracles.training.judge import ensure_judge
    from oracles.validation.tabulated import (
        Following,
        Planner,
        TabulatedProblem,
        chosen_sets,
        clustered,
        glimpse_embeddings,
        greedy,
        open_loop,
        tabulated_losses,
    )

    source = args.source()
    judge, grid = ensure_judge(source), source.geometry.grid
    if not (args.side <= grid.side and args.glimpses < args.side**2 and args.glimpses <= source.geometry.num_glimpses):
        raise ConfigurationError(
            f"--side {args.side} --glimpses {args.glimpses}: need at most {grid.side} places along a side, at most "
            f"{source.geometry.num_glimpses} glimpses, and more places than glimpses."
        )
    along = np.linspace(0, grid.side - 1, args.side).round().astype(np.int64)
    locations = (along[:, None] * grid.side + along).reshape(-1)
    splits = [source.load("train"), source.load("test")]
    chosen = [choose_images(split, args.images) for split in splits]
    tabulated = []
    for split, rows in zip(splits, chosen, strict=True):
        logging.info("%s: %d %s images, %d places", source.name, len(rows), split.split, len(locations))
        tabulated.append(tabulated_losses(judge, split, rows, locations, args.glimpses))
    train, test = (
        glimpse_embeddings(judge, split, rows, locations) for split, rows in zip(splits, chosen, strict=True)
    )
    (losses, correct), (test_losses, test_correct) = tabulated

    def outcomes(ours: np.ndarray, theirs: np.ndarray) -> list[np.ndarray]:
        """Returns log-loss and success of each image, of the world and then of test images, by their sets of places."""
        n, m = np.arange(len(ours)), np.arange(len(theirs))
        return [losses[-1][ours, n], correct[ours, n], test_losses[-1][theirs, m], test_correct[theirs, m]]

    fixed = int(losses[-1].mean(axis=1).argmin())
    best_fixed = outcomes(*(np.full(len(rows), fixed) for rows in chosen))
    clairvoyant = outcomes(losses[-1].argmin(axis=0), test_losses[-1].argmin(axis=0))
    head = ["clusters", "policy", "log-loss, nats", "lost", "success", "on test images: log-loss", "lost", "success"]
    table, problems = [head], dict[str, dict[str, dict[str, object]]]()
    for count in args.clusters:
        symbols, others = clustered(train, test, count)
        problem = TabulatedProblem(symbols, losses, correct)
        planners: dict[str, Planner] = {
            "greedy": greedy,
            "best set, planned anew": open_loop,
            "looking ahead": Following(greedy),
            "optimum": Following(None),
        }
        found = {name: outcomes(*chosen_sets(planner, problem, others)) for name, planner in planners.items()}
        best = found["optimum"]
        problems[str(count)] = figures = {}
        for name, one in {"best fixed places": best_fixed, **found, "clairvoyant": clairvoyant}.items():
            loss, lost = (float(x.mean(dtype=np.float64)) for x in (one[0], one[0] - best[0]))
            test_loss, test_lost = mean_of(one[2]), mean_difference(one[2], best[2])
            success, test_success = (float(x.mean()) for x in (one[1], one[3]))
            figures[name] = {
                "log_loss": loss,
                "lost": lost,
                "success": success,
                "test_log_loss": test_loss.to_json(),
                "test_lost": test_lost.to_json(),
                "test_success": test_success,
            }
            cells = [str(count), f"{name} †" if name == "clairvoyant" else name, f"{loss:.3f}", f"{lost:+.3f}"]
            cells += [f"{100 * success:.1f} %", format_estimate(test_loss, 3)]
            table.append([*cells, format_estimate(test_lost, 3, signed=True), f"{100 * test_success:.1f} %"])
    note = (
        f"{len(chosen[0])} training images of {source.name} (`{source.fingerprint}`) are the world, {len(chosen[1])} "
        f"test images are what nothing was planned with; {len(locations)} places, {args.glimpses} glimpses, judge "
        f"`{judge.identity}`. † sees the label. In the world there is no sampling error; 95 % bootstrap intervals over "
        "test images, paired for what is lost."
    )
    text = f"{markdown_table(table)}\n\n{note}"
    print(text)
    name = f"{source.name}-{args.glimpses}"
    content = {
        "command": cli.command_line("measure/near_optimal", args),
        "dataset": {"name": source.name, "fingerprint": source.fingerprint},
        "judge": judge.identity,
        "images": {"world": len(chosen[0]), "test": len(chosen[1])},
        "places": grid.corners[locations].tolist(),
        "glimpses": args.glimpses,
        "clusters": problems,
        "versions": versions(),
    }
    replace_entry(args.out, name, content)
    if args.into is not None:
        replace_section(text, args.into, f"near-optimal:{name}")


if __name__ == "__main__":
    cli.run(main, Args)
