"""Pictures for the benchmark's report: episodes of the best agent, of the oracle with its maps, and at random."""

from agents.evaluation.evaluate import choose_images
from agents.evaluation.recordings import record
from agents.experiments.benchmark import Benchmark
from agents.recording import load_agent
from agents.reports import episodes as figures
from oracles.registry import make_policy

EXAMPLES = 3
"""Episodes of each policy."""


def example_figures(benchmark: Benchmark) -> list[tuple[str, bytes]]:
    """For each environment one figure, (caption, PNG): the same images through several pairs of eyes."""
    found = []
    frame = benchmark.results()
    for env, source in benchmark.sources.items():
        judge, test = benchmark.judges[env], source.load("test")
        curves = frame[(frame.env == env) & (frame.split == "val")]
        best = curves.loc[curves.success.idxmax()]
        agent, settings = load_agent(benchmark.out / "cells" / best.cell / "model.zip")
        rows = choose_images(test, EXAMPLES)
        recordings = {"agent": record(agent, test, judge, rows, observation=settings["observation"])}
        for name in ("oracle", "random"):
            recordings[name] = record(make_policy(name, source, judge), test, judge, rows)
        path = benchmark.out / "plots" / f"episodes-{env}.png"
        figures.episodes(path, recordings, test, title=f"{env} · {best.cell}")
        caption = (
            f"{env}: test images through the eyes of the best agent ({best.algo}, {best.architecture}, demonstrations: "
            f"{best.demos}), of the oracle with its map of what it expects of every location, and at random."
        )
        found.append((caption, path.read_bytes()))
    return found
