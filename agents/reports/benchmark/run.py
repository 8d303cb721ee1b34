"""The report of a finished grid of the benchmark, with episodes of the best agent, of the oracle and at random."""

from pathlib import Path
from typing import Any

from agents.evaluation.evaluate import choose_images
from agents.evaluation.recordings import record
from agents.experiments.benchmark import Benchmark, price_of
from agents.recording import load_run_agent
from agents.registry import short_name
from agents.reports import episodes
from agents.reports.benchmark.tables import write_report
from agents.reports.pages import ReportContext
from glimpse_env.files import whole_file, write_json
from glimpse_env.versions import versions
from oracles.registry import make_policy, priced

EXAMPLES = 3
"""Number of episodes of each policy in the example figures."""


def report_benchmark(benchmark: Benchmark, command: str, against: str) -> tuple[list[Path], list[str]]:
    """Writes results.parquet, results.json and the report of a finished grid into its folder.

    Args:
        against: policy that the best agent of each environment is compared with.

    Returns:
        The paths of :func:`write_report`, and a sentence on each comparison.
    """
    results, comparisons, grid = benchmark.results(), benchmark.against(against), benchmark.grid
    with whole_file(benchmark.out / "results.parquet") as temporary:
        results.to_parquet(temporary, index=False)
    content = {"command": command, "seeds": grid.seeds, "against": comparisons, "versions": versions()}
    write_json(benchmark.out / "results.json", content)
    sentences = [comparison_sentence(env, entry) for env, entry in comparisons.items()]
    context = ReportContext(
        title="Hard attention: agents against the oracle",
        command=command,
        versions=versions(),
        protocol={
            "budget": f"{grid.timesteps:,} environment steps a run",
            "seeds": f"0 to {grid.seeds - 1}",
            "learning curves": f"{grid.validations + 1} evaluations on up to {grid.val_images} validation images",
            "final scores": f"up to {grid.eval_images} test images, weights chosen on validation images",
            "agents are shown": {"history": "glimpses and locations", "embedding": "embeddings of glimpses"}.get(
                grid.observation, "frozen features of glimpses"
            ),
        },
        figures=example_figures(benchmark),
        notes=sentences,
    )
    return write_report(benchmark.out, results, context), sentences


def comparison_sentence(env: str, entry: dict[str, Any]) -> str:
    """Returns how the best agent of an environment stands to the policy that it is compared with."""
    method, difference, log_loss = entry["method"], entry["difference"], entry["log_loss_difference"]
    low, high = difference["interval"] or (float("nan"), float("nan"))
    least, most = log_loss["interval"] or (float("nan"), float("nan"))
    ours, theirs = ("it is right on", "on") if price_of(env) is None else ("its return is", "with")
    return (
        f"{env}: best on validation images is {method['algo']} with {method['architecture']} and {method['num_demos']} "
        f"demonstrations ({method['demos']}); on {entry['images']} test images {ours} {entry['success']:.1%} "
        f"(mean of {entry['seeds']} seeds), {entry['reference']} {theirs} {entry['reference_success']:.1%}: "
        f"{100 * difference['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), and "
        f"{log_loss['value']:+.3f} nats of log-loss ({least:+.3f} to {most:+.3f})."
    )


def example_figures(benchmark: Benchmark) -> list[tuple[str, bytes]]:
    """Returns a figure, (caption, PNG), for each environment: the same images as several policies see them."""
    figures = []
    frame = benchmark.results()
    for env, source in benchmark.sources.items():
        judge, test = benchmark.judges[env], source.load("test")
        curves = frame[(frame.env == env) & (frame.split == "val")]
        best = curves.loc[curves.success.idxmax()]
        agent, settings = load_run_agent(benchmark.out / "cells" / best.cell)
        rows = choose_images(test, EXAMPLES)
        recordings = {"agent": record(agent, test, judge, rows, observation=settings["observation"])}
        for name in ("oracle", "random"):
            own, config = priced(name, source, price_of(env))
            recordings[name] = record(make_policy(own, source, judge, config=config), test, judge, rows)
        path = benchmark.out / "plots" / f"episodes-{short_name(env)}.png"
        episodes.episodes(path, recordings, test, title=f"{env} · {best.cell}")
        caption = (
            f"{env}: test images through the eyes of the best agent ({best.algo}, {best.architecture}, demonstrations: "
            f"{best.demos}), of the oracle with its map of what it expects of every location, and at random."
        )
        figures.append((caption, path.read_bytes()))
    return figures
