"""A grid from the command line at toy size: killed, resumed, compared; and grids that are refused."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rliable", reason="pip install -c constraints.txt -e '.[benchmark]'")

import pandas
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.evaluation.comparison import kept_evaluation
from agents.evaluation.evaluate import choose_images
from agents.experiments.benchmark import Benchmark
from agents.experiments.benchmark_grid import AgentCell, BenchmarkGrid
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import write_json
from oracles.demonstrations import Demonstrations
from oracles.demonstrations import _partial_folder as partial_folder
from tests.support.commands import ROOT, begun, finish

GRID = BenchmarkGrid(
    envs=("GlimpseDigits-v0",),
    algos=("a2c",),
    demos=("none", "oracle", "ps-ram"),
    architectures=("mlp",),
    seeds=2,
    timesteps=2560,
    num_demos=(20,),
    validations=2,
    val_images=40,
    eval_images=40,
)
FLAGS = (
    "--envs GlimpseDigits-v0 --algos a2c --demos none oracle ps-ram --architectures mlp --seeds 2 --timesteps 2560 "
    "--num-demos 20 --validations 2 --val-images 40 --eval-images 40 --workers 2 --against fixed"
)
CELLS = 6
TIMINGS = ["wall_s", "making_s"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache; digits have the judge and the oracle that come with the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


def start(out: Path, flags: str = FLAGS) -> subprocess.Popen[str]:
    return begun("benchmark", flags, out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a grid that was not interrupted."""
    out = tmp_path_factory.mktemp("benchmark") / "whole"
    printed = finish(start(out))
    assert f"Wrote {out / 'report.html'}" in printed
    before, _, after = printed.partition("6 cells, 6 of them to do")
    assert "embeddings: 100%" in before
    assert "embeddings" not in after  # what cells share is made before them
    return out


def test_the_best_agent_beside_a_policy(whole: Path) -> None:
    """Differences are those of the mean success and of the mean log-loss of the label."""
    benchmark, env = Benchmark(GRID, whole), "GlimpseDigits-v0"
    found = benchmark.against("fixed")[env]
    test = benchmark.sources[env].load("test")
    fixed = kept_evaluation("fixed", benchmark.sources[env], benchmark.judges[env], test, choose_images(test, 40))
    frame = benchmark.results()
    best = frame[(frame.split == "test") & (frame.demos == found["method"]["demos"])]
    assert found["seeds"] == len(best) == 2
    assert found["difference"]["value"] == pytest.approx(best.success.mean() - fixed.success_rate)
    assert found["log_loss_difference"]["value"] == pytest.approx(best.log_loss.mean() - fixed.log_loss[-1], abs=1e-5)


def test_options_reach_all_cells() -> None:
    grid = replace(GRID, options='{"clone_passes": 3, "hyperparameters": {"learning_rate": 0.1}}')
    settings = [grid.settings(cell, Path("out")) for cell in grid.cells()]
    assert {one.clone_passes for one in settings} == {3}
    assert {one.hyperparameters for one in settings} == {'{"learning_rate": 0.1}'}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"learning_rate": 1}', r"--options .* sets learning_rate; what it can set is clone_passes, "),
        ('{"seed": 1, "timesteps": 3}', "sets seed, timesteps;"),
        ("[]", r"--options \[\] must be a JSON object"),
        ("{", "--options { is no JSON"),
        ('{"group": 0}', "--group 0 must be at least 1"),
    ],
)
def test_options_that_are_refused(options: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(GRID, options=options)


def test_a_killed_grid_goes_on(whole: Path, tmp_path: Path) -> None:
    """With one seed and one worker, so that its rows are those of seed 0 of the larger grid."""
    out, flags = tmp_path / "killed", FLAGS.replace("--seeds 2", "--seeds 1").replace("--workers 2", "--workers 1")
    process = start(out, flags)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        finished = {path.parent for path in out.glob("cells/*/cell.json")}
        begun = {path.parent for path in out.glob("cells/*/config.json")}
        if finished and begun - finished:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = len(list(out.glob("cells/*/cell.json")))
    assert 0 < left < CELLS / 2
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/cell.json")}
    finish(start(out, flags))
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())  # what was finished was left alone
    ours, theirs = (pandas.read_parquet(folder / "results.parquet") for folder in (out, whole))
    assert ours.cell.nunique() == CELLS / 2
    theirs = theirs[theirs.seed == 0].reset_index(drop=True)
    pandas.testing.assert_frame_equal(ours.drop(columns=TIMINGS), theirs.drop(columns=TIMINGS), check_exact=True)


def test_a_row_is_an_evaluation(whole: Path) -> None:
    frame = pandas.read_parquet(whole / "results.parquet")
    assert frame.cell.nunique() == CELLS
    assert set(frame.demos) == {"none", "oracle", "ps-ram"}
    assert (frame[frame.split == "test"].groupby("cell").size() == 1).all()
    assert (frame.total_steps == frame.env_steps + frame.demo_steps).all()
    assert (frame[frame.demos != "none"].demo_steps == 20 * 6).all()
    assert (frame[frame.demos == "none"].demo_steps == 0).all()
    assert (frame.oracle > frame.random).all()
    curves = frame[frame.split == "val"].groupby("cell")
    assert (curves.env_steps.min() == 0).all()
    assert (curves.env_steps.max() >= 2560).all()
    assert (curves.wall_s.apply(lambda seconds: seconds.is_monotonic_increasing)).all()


def test_tensorboard_holds_the_same_curves(whole: Path) -> None:
    frame = pandas.read_parquet(whole / "results.parquet")
    for name, rows in frame[frame.split == "val"].groupby("cell"):
        events = EventAccumulator(str(whole / "cells" / str(name) / "tensorboard")).Reload()
        told = {event.step: event.value for event in events.Scalars("validation/success_rate")}
        assert told == pytest.approx(dict(zip(rows.env_steps, rows.success, strict=True)))
        assert "_hparams_/session_start_info" in events.summary_metadata


class References(HTMLParser):
    """Collects the addresses that a page loads or links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_report_stands_alone(whole: Path) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    parser = References()
    parser.feed(page)
    assert parser.found
    assert all(reference.startswith(("#", "data:")) for reference in parser.found)
    assert not re.search(r"url\((?!['\"]?(#|data:))", page)
    assert "GlimpseDigits-v0" in page
    assert "data:image/png" in page  # example episodes
    for name in ("learning_curves", "sample_efficiency", "performance_profiles", "steps_to_threshold"):
        for suffix in ("png", "svg"):
            assert (whole / "plots" / f"{name}.{suffix}").stat().st_size > 1000
    assert "A2C" in (whole / "results.md").read_text(encoding="utf-8")


def test_another_budget_is_refused(whole: Path) -> None:
    """Finished cells refuse it too."""
    process = start(whole, FLAGS.replace("--timesteps 2560", "--timesteps 9000"))
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    first = whole / "cells" / GRID.cells()[0].name
    assert printed.splitlines() == [
        f"ConfigurationError: {first} was begun with timesteps=2560, not 9000; choose another --out."
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"validations": 3},
        {"val_images": 41},
        {"eval_images": 41},
        {"observation": "history"},
        {"options": '{"warm_up": 100}'},
    ],
)
def test_other_settings_are_refused(whole: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """By finished cells, and by cells that have nothing but their settings yet."""
    cell = GRID.cells()[0].name
    (tmp_path / "cells" / cell).mkdir(parents=True)
    (tmp_path / "cells" / cell / "config.json").write_bytes((whole / "cells" / cell / "config.json").read_bytes())
    (name, value), *_ = {"warm_up": 100}.items() if "options" in change else change.items()
    for out in (whole, tmp_path):
        with pytest.raises(ConfigurationError, match=f"was begun with {name}=.*, not {value}; choose another --out"):
            Benchmark(replace(GRID, **change), out).run()


def test_an_option_that_is_no_longer_given_is_refused(whole: Path, tmp_path: Path) -> None:
    cell = GRID.cells()[0].name
    config = json.loads((whole / "cells" / cell / "config.json").read_text())
    config["args"]["rollout"] = 1920
    (tmp_path / "cells" / cell).mkdir(parents=True)
    (tmp_path / "cells" / cell / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="was begun with rollout=1920, not None; choose another --out"):
        Benchmark(GRID, tmp_path).run()


def test_references_are_of_the_images_asked_for(whole: Path, tmp_path: Path) -> None:
    """Another number of images makes new references, and keeps the time that demonstrations took to make."""
    (tmp_path / "demonstrations").mkdir()
    for path in [whole / "references.json", *(whole / "demonstrations").iterdir()]:
        (tmp_path / path.relative_to(whole)).write_bytes(path.read_bytes())
    before, after = (Benchmark(replace(GRID, eval_images=count), tmp_path).prepare() for count in (40, 30))
    (env,) = GRID.envs
    assert (before[env].images, after[env].images) == ({"val": 40, "test": 40}, {"val": 40, "test": 30})
    assert before[env].oracle["val"] == after[env].oracle["val"]
    assert before[env].making_s == after[env].making_s
    assert before[env].making_s["oracle"] > 0


def test_demonstrations_without_the_time_that_they_took_are_made_again_and_shards_left_over_removed(
    whole: Path, tmp_path: Path
) -> None:
    """As a process leaves them that dies behind them."""
    shutil.copytree(whole / "demonstrations", tmp_path / "demonstrations")
    (env,) = GRID.envs
    (path,) = (tmp_path / "demonstrations").glob("*oracle*.npz")
    left = partial_folder(path, Demonstrations.load(path).manifest)
    for _ in range(2):  # the second time they are known
        left.mkdir()
        made = Benchmark(GRID, tmp_path).prepare()[env]
        assert made.making_s["oracle"] > 0
        assert not left.exists()
    assert path.read_bytes() == (whole / "demonstrations" / path.name).read_bytes()


def test_results_are_of_the_present_data_and_judge(whole: Path, tmp_path: Path) -> None:
    """References of others are made anew, and cells of others are refused."""
    references = json.loads((whole / "references.json").read_text(encoding="utf-8"))
    (env,) = GRID.envs
    wrong = {"random": {"val": 0.0, "test": 0.0}, "judge": "another"}
    write_json(tmp_path / "references.json", {env: references[env] | wrong})
    shutil.copytree(whole / "demonstrations", tmp_path / "demonstrations")
    benchmark = Benchmark(GRID, tmp_path)
    assert asdict(benchmark.prepare()[env]) == references[env]
    cell = GRID.cells()[0]
    result = json.loads(Benchmark(GRID, whole).result_path(cell).read_text(encoding="utf-8"))
    write_json(benchmark.result_path(cell), result | {"test": result["test"] | {"judge": "another"}})
    with pytest.raises(ArtifactError, match=f"was tested with judge another, not {references[env]['judge']}"):
        benchmark.results()


# --- grids


def test_cells_are_all_combinations() -> None:
    grid = replace(GRID, algos=("ppo", "recurrent_ppo"), architectures=("gru", "mlp"), demos=("oracle", "ps-ram"))
    cells = grid.cells()
    assert len(cells) == len(set(cells)) == len({cell.name for cell in cells})
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    families = {(cell.algo, cell.architecture) for cell in cells}
    assert families == {("ppo", "gru"), ("ppo", "mlp"), ("recurrent_ppo", "lstm")}
    # ps-ram records the cells without demonstrations, which come in by that
    assert len(cells) == 2 * 3 * 3
    assert {cell.demos for cell in cells} == {"none", "oracle", "ps-ram"}


def test_variants_are_of_runs_with_demonstrations() -> None:
    grid = replace(GRID, demos=("none", "oracle"), variants=("default", "no_warm_up", "argmax"), seeds=1)
    assert [(cell.demos, cell.variant) for cell in grid.cells()] == [
        ("none", "default"),
        ("oracle", "default"),
        ("oracle", "no_warm_up"),
        ("oracle", "argmax"),
    ]
    settings = {cell.variant: grid.settings(cell, Path("out")) for cell in grid.cells()}
    assert settings["no_warm_up"].warm_up == 0
    assert settings["argmax"].target_temperature == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"envs": ("GlimpseNowhere-v0",)}, "GlimpseNowhere-v0"),
        ({"algos": ()}, "--algos"),
        ({"algos": ("sac",)}, "'sac' must be one of"),
        ({"demos": ("somebody",)}, "--demos somebody"),
        ({"architectures": ("tree",)}, "'tree' must be one of"),
        ({"variants": ("odd",)}, "--variants odd"),
        ({"seeds": 0}, "--seeds 0"),
        ({"timesteps": -1}, "--timesteps -1"),
        ({"num_demos": (20, 20)}, "--num-demos 20 20"),
        ({"validations": 0}, "--validations 0"),
    ],
)
def test_what_there_is_not_is_named(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        replace(GRID, **change)


def test_an_algorithm_of_ones_own_is_a_row(tmp_path: Path) -> None:
    own = str(ROOT / "docs" / "own_algorithm.py")
    grid = replace(GRID, algos=(own,), demos=("none",), seeds=1, timesteps=1, validations=1)
    benchmark, (cell,) = Benchmark(grid, tmp_path), grid.cells()
    assert re.fullmatch("GlimpseDigits-v0-own_algorithm-[0-9a-f]{8}-mlp-none-default-s0", cell.name)
    benchmark.prepare()
    benchmark(cell)
    frame = benchmark.results()
    assert set(frame.algo) == {own}
    assert list(frame.env_steps[frame.split == "val"]) == [0, 3840]  # a rollout of 128 x 6 x 5 steps
    assert benchmark.against("fixed")["GlimpseDigits-v0"]["method"]["algo"] == own


def test_algorithms_of_the_same_name_have_a_cell_each(tmp_path: Path) -> None:
    """Files in two folders whose contents differ."""
    text = (ROOT / "docs" / "own_algorithm.py").read_text(encoding="utf-8")
    paths = [tmp_path / name / "mine.py" for name in ("first", "second")]
    for path, content in zip(paths, (text, text + "\n# another\n"), strict=True):
        path.parent.mkdir()
        path.write_text(content, encoding="utf-8")
    grid = replace(GRID, algos=tuple(map(str, paths)), demos=("none",), seeds=1)
    first, second = grid.cells()
    assert first.name != second.name
    assert len({grid.settings(cell, tmp_path).out for cell in (first, second)}) == 2
    write_json(Benchmark(grid, tmp_path).result_path(first), {"finished": True})
    assert list(Benchmark(grid, tmp_path).finished_results()) == [first]


def test_without_a_finished_cell_there_is_nothing_to_report(tmp_path: Path) -> None:
    benchmark = Benchmark(replace(GRID, demos=("none",), seeds=1), tmp_path)
    with pytest.raises(ArtifactError, match="no finished cell"):
        benchmark.results()


def test_a_cell_says_what_it_is() -> None:
    cell = AgentCell("GlimpseDigits-v0", "ppo", "gru", "oracle", 1000, "default", 3)
    assert str(cell) == "GlimpseDigits-v0-ppo-gru-oracle-1000-default-s3"


def test_more_demonstrations_than_images_are_refused(tmp_path: Path) -> None:
    benchmark = Benchmark(replace(GRID, num_demos=(20, 1_000_000)), tmp_path)
    with pytest.raises(ConfigurationError, match="--num-demos 1000000 is more than the"):
        benchmark.prepare()
