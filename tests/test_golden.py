"""Values that no rearrangement of the code may change, compared with those kept in ``tests/golden``.

``GOLDEN=record python -m pytest tests/test_golden.py`` keeps the present values instead; look at the difference before
committing it. The artefacts in ``tests/golden/v0.1`` were made by that version of the package and are never made anew.

Last digits differ between processors and versions of PyTorch, so numbers are compared within :data:`TOLERANCE`, and
choices of a policy only as far as no image had a near-tie. ``GOLDEN=exact`` compares all digits that are kept, and
digests of whole arrays too: for the machine and the packages that the values were recorded with.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.evaluation.evaluate import evaluate
from agents.reports.benchmark.tables import summary_table, write_report
from agents.reports.pages import ReportContext
from glimpse_env.datasets import contents, make_source
from glimpse_env.datasets.images import PhotographSource
from glimpse_env.files import digest
from glimpse_env.judge.judge import Judge, find_judge
from oracles.amortised.oracle import AmortisedOracle, find_oracle
from oracles.demonstrations import Demonstrations
from oracles.entries import LEARNED_RIVALS
from oracles.registry import POLICIES
from oracles.saliency import saliency_installed
from tests.scripts.test_scripts import call
from tests.support.commands import ROOT
from tests.support.tiny_data import write_tiny_celeba, write_tiny_cub, write_tiny_folder, write_tiny_mnist
from tests.support.toy import GEOMETRY, SMALL_CELEBA, SMALL_FOLDER, toy_dataset

FOLDER = Path(__file__).parent / "golden"
ARTEFACTS = FOLDER / "v0.1"
MODE = os.environ.get("GOLDEN", "")
"""``record``, ``exact``, or nothing."""
TOLERANCE = 1e-3
"""Relative or absolute, whichever is larger; a little more than what half-precision maps resolve."""
KEPT_DIGITS = 6
"""Significant digits of recorded numbers."""
BIRDS = {"num_train": 288, "num_val": 48, "num_test": 48}
"""Options of drawn birds that the shipped judge fits: images and fingerprint do not depend on the splits' sizes."""
SEEDS = {"GlimpseBirds-v0": 5, "GlimpseDigits-v0": 19}
"""Seeds that choose the images with demonstrations: those of 25 with the fewest near-ties."""
IMAGES = 6
"""Images with demonstrations."""
MAPS = 3
"""Images with demonstrations whose maps are kept."""
EVERY = 12
"""Locations from one to the next that are kept of a map."""
TIE = 1e-4
"""Difference between the lowest two values of a map up to which another processor may choose the other location: some
hundred times what rounding makes of them in single precision. In half precision, as maps are kept, values above 0.1
that differ at all differ by more."""
VOLATILE = frozenset({"command", "versions", "wall_time_s", "seconds", "policy_seconds"})
"""Keys whose values differ between runs."""
EXACT_ONLY = frozenset({"sha256"})
"""Keys of digests that last digits change."""
OPTIONS: dict[str, dict[str, Any]] = {"birds": BIRDS, "celeba-hq": SMALL_CELEBA, "folder": SMALL_FOLDER}
"""By data set, where its default options are not taken."""
ENCODED = ("cub", "cub-full", "celeba-hq", "folder")
"""Data sets whose tiny images Pillow compresses: sizes in bytes, and so fingerprints, may depend on its version."""


@pytest.fixture(scope="module", autouse=True)
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny data sets, found by GLIMPSE_DATA, and an empty cache, in which no other test's results are."""
    root = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_DATA", str(root / "data"))
        patch.setenv("GLIMPSE_CACHE", str(root / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        write_tiny_cub(root / "data")
        write_tiny_mnist(root / "data")
        write_tiny_celeba(root / "data")
        write_tiny_folder(root / "photos")
        yield root


# Recording and comparing


def check(topic: str, name: str, found: Any) -> None:
    """Compares ``found`` with the entry ``name`` of ``tests/golden/<topic>.json``, or records it there."""
    found = json.loads(json.dumps(rounded(found)))
    if MODE == "record":
        record(topic, name, found)
        return
    differences = list(compare(recorded(topic)[name], found, name))
    assert not differences, "\n".join(differences[:20])


def recorded(topic: str) -> dict[str, Any]:
    """The entries of a file of recorded values; none where there is no file yet."""
    path = FOLDER / f"{topic}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def record(topic: str, name: str, value: Any) -> None:
    text = json.dumps({**recorded(topic), name: value}, indent=1, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{topic}.json").write_text(text + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """``value`` with its floats at :data:`KEPT_DIGITS`, and None for what differs between runs."""
    if isinstance(value, dict):
        return {key: None if key in VOLATILE else rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{KEPT_DIGITS}g}")
    return value


def compare(wanted: Any, found: Any, where: str) -> Iterator[str]:
    """Each difference between two JSON values, as a line; numbers may differ by :data:`TOLERANCE`."""
    if type(wanted) is not type(found):
        yield f"{where}: {wanted!r} was recorded, {found!r} found"
    elif isinstance(wanted, dict):
        if wanted.keys() != found.keys():
            yield f"{where}: keys {sorted(wanted)} were recorded, {sorted(found)} found"
        for key in wanted.keys() & found.keys():
            if key not in EXACT_ONLY or MODE == "exact":
                yield from compare(wanted[key], found[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        if len(wanted) != len(found):
            yield f"{where}: {len(wanted)} entries were recorded, {len(found)} found"
        for place, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from compare(one, other, f"{where}[{place}]")
    elif isinstance(wanted, float):
        tolerance = 10.0 ** (1 - KEPT_DIGITS) if MODE == "exact" else TOLERANCE
        same = math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance)
        if not same and not (math.isnan(wanted) and math.isnan(found)):
            yield f"{where}: {wanted} was recorded, {found} found"
    elif wanted != found:
        yield f"{where}: {wanted!r} was recorded, {found!r} found"


def with_numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as JSON, its texts of numbers as lists of them."""
    texts = {key: evaluation[key].split() for key in ("final_log_loss", "final_entropy")}
    return {**evaluation, **{key: [float(number) for number in words] for key, words in texts.items()}}


def sha256(*arrays: Any) -> str:
    """Returns the digest of the arrays' shapes, types and contents."""
    state = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        state.update(f"{array.shape}{array.dtype.str}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


# Data sets, judges and oracles


@pytest.mark.parametrize("name", ["birds", "digits", "cub", "cub-full", "mnist", "celeba-hq", "folder"])
def test_data_sets(name: str, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fingerprint`` is that of names and sizes, which published contents keep; other photographs have another one."""
    root = {"root": str(tiny_data / "photos")} if name == "folder" else {}
    options = {**root, **OPTIONS.get(name, {})}
    source = make_source(name, **options)
    own = {}
    if name in ENCODED:
        assert isinstance(source, PhotographSource)
        own = {"fingerprint_of_content": source.fingerprint}
        monkeypatch.setattr(contents, "PUBLISHED", {digest(source.contents.digests)})
        source = make_source(name, **options)
    if name == "birds":
        assert source.fingerprint == make_source(name).fingerprint
    found: dict[str, Any] = {
        "fingerprint": source.fingerprint,
        **own,
        "image_shape": source.image_shape,
        "num_folds": source.num_folds,
        "class_names": source.class_names,
        "part_names": source.part_names,
        "options": {key: value for key, value in source.options.items() if key != "root"},
    }
    for split in ("train", "val", "test"):
        dataset = source.load(split)
        found[split] = {
            "size": len(dataset),
            "labels": dataset.labels[:12].tolist(),
            "folds": dataset.folds[:12].tolist(),
            "all_labels_and_folds": sha256(dataset.labels, dataset.folds),
            "parts": dataset.parts[0].tolist(),
            "pixels": [sha256(image) for image in dataset.images[:3]],
        }
    if name in ENCODED:
        written = sorted(path for path in tiny_data.rglob("*") if path.suffix in (".jpg", ".png"))
        found["files"] = hashlib.sha256(b"".join(path.read_bytes() for path in written)).hexdigest()
        wanted = recorded("datasets").get(name, found)
        if MODE != "record" and wanted["files"] != found["files"]:  # another Pillow has compressed them
            found |= {key: wanted[key] for key in ("files", "fingerprint", "fingerprint_of_content")}
            for split in ("train", "val", "test"):
                found[split]["pixels"] = wanted[split]["pixels"]
    check("datasets", name, found)


@pytest.mark.parametrize("name", ["birds", "digits"])
def test_shipped_judges_and_oracles(name: str) -> None:
    source = make_source(name)
    judge = find_judge(source)
    oracles = {horizon: find_oracle(source, judge, horizon) for horizon in ("next", "last")}
    check(
        "artefacts",
        name,
        {
            "judge": judge.identity,
            "oracles": {horizon: oracle.identity for horizon, oracle in oracles.items()},
            "oracles_judge": {horizon: oracle.card.judge for horizon, oracle in oracles.items()},
        },
    )


# Episodes


@pytest.mark.parametrize(
    ("env_id", "observation"),
    [
        ("GlimpseDigits-v0", "history"),
        ("GlimpseDigits-v0", "canvas"),
        ("GlimpseDigitsClassify-v0", "glimpse"),
        ("GlimpseBirds-v0", "history"),
        ("GlimpseBirds-v0", "embedding"),
    ],
)
def test_episodes(env_id: str, observation: str) -> None:
    """Two with random actions; observations of integers are compared whole."""
    options = {"dataset_options": BIRDS} if "Birds" in env_id else {}
    env = gym.make(env_id, observation=observation, **options)
    env.action_space.seed(0)
    steps: list[dict[str, Any]] = []
    for seed in (0, 1):
        seen, info = env.reset(seed=seed)
        assert info.pop("glimpses") == 0  # newer than what was recorded
        steps.append({"observation": summary(seen), "info": summary(info)})
        over = False
        while not over:
            action = env.action_space.sample()
            seen, reward, over, truncated, info = env.step(action)
            assert not truncated
            info.pop("glimpses")
            steps.append({"action": np.asarray(action).tolist(), "observation": summary(seen), "info": summary(info)})
            steps[-1]["reward"] = float(reward)
    env.close()
    check("episodes", f"{env_id} {observation}", steps)


def summary(value: Any) -> Any:
    """Integer arrays as digests, arrays of floats as their mean and mean square, numbers as they are."""
    if isinstance(value, dict):
        return {key: summary(entry) for key, entry in value.items()}
    array = np.asarray(value)
    if array.ndim == 0:
        return array.item()
    if array.dtype.kind == "f":
        return [float(array.mean(dtype=np.float64)), float(np.square(array, dtype=np.float64).mean())]
    return sha256(array)


# Demonstrations


@pytest.mark.parametrize(
    "policy", [name for name in POLICIES if not POLICIES[name].stops and name not in LEARNED_RIVALS]
)
@pytest.mark.parametrize("env_id", sorted(SEEDS))
def test_demonstrations(env_id: str, policy: str, tmp_path: Path) -> None:
    if policy == "saliency" and not saliency_installed():
        pytest.skip("pip install opencv-contrib-python-headless")
    out, name = tmp_path / "demos.npz", f"{env_id} {policy}"
    options = json.dumps(BIRDS) if "Birds" in env_id else "{}"
    words = ["--num", str(IMAGES), "--seed", str(SEEDS[env_id]), "--dataset-options", options, "--out", str(out)]
    try:
        call("generate_demos", "--env", env_id, "--policy", policy, *words)
    except SystemExit as ended:
        check("demonstrations", name, {"error": str(ended.code).partition(":")[0]})
        return
    with np.load(out) as archive:
        arrays = dict(archive)
    maps, locations, entropies = (arrays.get(field) for field in ("epe", "locations", "entropies"))
    assert locations is not None
    assert entropies is not None
    decided = np.full(IMAGES, locations.shape[1]) if maps is None else glimpses_decided(maps, locations)
    wanted = recorded("demonstrations").get(name)
    kept = decided if MODE == "record" or wanted is None else np.array(wanted["decided"])
    if MODE == "exact":
        assert kept.tolist() == decided.tolist()
    found = {
        "manifest": json.loads(out.with_suffix(".json").read_text(encoding="utf-8")),
        "shapes": {field: [str(array.dtype), *array.shape] for field, array in arrays.items()},
        "sha256": sha256(*(arrays[field] for field in sorted(arrays))),
        "decided": kept.tolist(),
        "indices": arrays["indices"].tolist(),
        "locations": [row[:count].tolist() for row, count in zip(locations, kept, strict=True)],
        "entropies": [row[:count].tolist() for row, count in zip(entropies, kept, strict=True)],
        "maps": None
        if maps is None
        # the map before a glimpse depends on the glimpses before it
        else [rows[: count + 1, ::EVERY].tolist() for rows, count in zip(maps[:MAPS], kept, strict=False)],
    }
    check("demonstrations", name, found)


def test_no_policy_is_gone() -> None:
    """Other tests may have added some."""
    assert set(recorded("demonstrations")) <= {f"{env_id} {policy}" for env_id in SEEDS for policy in POLICIES}


def glimpses_decided(maps: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """How many of each image's glimpses (N,) come before the first near-tie.

    Args:
        maps: (N, T, L) float16, what was minimised.
        locations: (N, T).
    """
    decided = []
    for rows, looked_at in zip(maps.astype(np.float32), locations, strict=True):
        for t in range(len(looked_at)):
            rows[t, looked_at[:t]] = np.inf
        best, second = np.sort(rows, axis=1)[:, :2].T
        close = second - best <= TIE
        decided.append(int(close.argmax()) if close.any() else len(close))
    return np.array(decided)


# Training and reports


def test_metrics_of_a_training_run(tmp_path: Path) -> None:
    flags = (
        "--env GlimpseDigits-v0 --num-demos 24 --timesteps 3072 --rollout 1536 --eval-images 12 --val-images 10 "
        "--validations 1 --clone-passes 1 --warm-up 500 --demo-fade 8000 --seed 4"
    )
    call("train_agent", *flags.split(), "--out", str(tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    metrics["policies"] = {name: with_numbers(entry) for name, entry in metrics["policies"].items()}
    check("training", "metrics.json", metrics)


def test_report_of_a_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("rliable", reason="pip install -c constraints.txt -e '.[benchmark]'")
    pytest.importorskip("jinja2", reason="pip install -c constraints.txt -e '.[benchmark]'")
    from tests.support.toy_results import grid  # needs pandas

    results = grid(envs=("GlimpseDigits-v0", "GlimpseMNIST-v0"), algos=("ppo",), architectures=("gru",), seeds=2)
    context = ReportContext("Toy results", "python scripts/benchmark.py", protocol={"budget": "50,000 steps"})
    write_report(tmp_path, results, context, resamples=50)
    check("reports", "benchmark results.md", (tmp_path / "results.md").read_text(encoding="utf-8").splitlines())
    check("reports", "benchmark summary", summary_table(results, resamples=50).splitlines())


def test_results_of_a_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("rliable", reason="pip install -c constraints.txt -e '.[benchmark]'")
    flags = (
        "--envs GlimpseDigits-v0 --algos a2c --demos oracle --architectures mlp --seeds 1 --timesteps 1280 "
        "--num-demos 20 --validations 1 --val-images 40 --eval-images 40 --workers 1 --against fixed"
    )
    call("benchmark", *flags.split(), "--out", str(tmp_path))
    check("reports", "benchmark results.json", json.loads((tmp_path / "results.json").read_text(encoding="utf-8")))


def test_results_of_the_paper(tmp_path: Path) -> None:
    flags = (
        "--data digits --methods ram ps-nogs --seeds 1 --iterations 6 --num-sequences 20 --val-images 40 "
        "--eval-images 40 --workers 1"
    )
    call("paper_experiment", *flags.split(), "--out", str(tmp_path))
    check("reports", "paper results.json", json.loads((tmp_path / "results.json").read_text(encoding="utf-8")))
    text = (tmp_path / "results.md").read_text(encoding="utf-8").replace(str(tmp_path), "OUT")
    check("reports", "paper results.md", re.sub(r"[\d.]+ minutes", "some minutes", text).splitlines())


# Artefacts of version 0.1


def test_a_judge_and_an_oracle_of_version_0_1_load() -> None:
    """Untrained ones as in tests/toy.py, their layers narrower."""
    judge = Judge.load(ARTEFACTS / "judge.safetensors")
    oracle = AmortisedOracle.load(ARTEFACTS / "oracle.safetensors")
    assert oracle.card.judge == judge.identity
    dataset = toy_dataset(geometry=replace(GEOMETRY, image_size=24))
    evaluation = evaluate(oracle, dataset, judge, np.arange(8), name="oracle", progress=False)
    check(
        "artefacts",
        "v0.1",
        {"judge": judge.identity, "oracle": oracle.identity, "evaluation": with_numbers(evaluation.to_json())},
    )


def test_demonstrations_of_version_0_1_load() -> None:
    """They were made by ``scripts/generate_demos.py --env GlimpseDigits-v0 --num 3``."""
    source = make_source("digits")
    demonstrations = Demonstrations.load(ARTEFACTS / "demonstrations.npz")
    demonstrations.check_fits(source, find_judge(source))
    assert demonstrations.epe is not None
    check(
        "artefacts",
        "v0.1 demonstrations",
        {
            "manifest": demonstrations.manifest,
            "content": sha256(
                demonstrations.indices, demonstrations.locations, demonstrations.entropies, demonstrations.epe
            ),
        },
    )
