"""Demonstrations: what is kept, byte for byte, whoever makes it and whoever is killed on the way."""

import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.parallel import Arrays, ShardError, make_shards
from oracles import demonstrations as module
from oracles.demonstrations import Demonstrations, Shard, demonstrate, generate, manifest_of
from tests.scripts.test_scripts import call
from tests.support.toy_problem import IMAGES, LABELS, ToyJudge, ToySource, exact_epe
from tests.support.toy_shards import CONFIG, SHARD, TroubledJudge, loaded

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEQUENCES_PER_SHARD", SHARD)


def make(out: Path, name: str = "oracle", num: int = 20, seed: int = 0) -> Demonstrations:
    return generate(name, ToySource(), ToyJudge(), num, out=out, seed=seed, config=CONFIG)


def assert_as_made_in_one_go(out: Path, name: str = "oracle") -> None:
    """That ``out`` and its manifest have the bytes that one process makes which nobody disturbs."""
    whole = out.parent / "whole" / "demos.npz"
    make(whole, name)
    for suffix in (".npz", ".json"):
        assert out.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()
    assert not list(out.parent.glob(".*.partial"))


def driver(
    out: Path, name: str, bullets: Path, *, lasts: int = 1000, workers: int = 1, ray: str = ""
) -> subprocess.Popen[str]:
    """A process of its own that makes the same demonstrations."""
    words = [str(out), name, str(bullets), str(lasts), str(workers), ray]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(out.parent)}  # Ray writes a key at home
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.toy_shards", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_shards_that_a_process_left_that_died_over_their_removal_are_removed(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, judge = ToySource(), ToyJudge()
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        made = demonstrate("random", source, judge, 20)
    folder = fresh_cache / "demonstrations"
    assert list(folder.glob(".*.partial/*.npz"))
    np.testing.assert_array_equal(demonstrate("random", source, judge, 20).locations, made.locations)
    assert not list(folder.glob(".*.partial"))


def test_oracle_sequences_and_maps_are_those_of_enumeration(tmp_path: Path) -> None:
    made = make(tmp_path / "demos.npz")
    assert made.locations.shape == (20, 2)
    assert len(np.unique(made.indices)) == 20
    for index, locations, maps, entropies in zip(made.indices, made.locations, made.epe, made.entropies, strict=True):
        world = index % len(IMAGES)
        first, second = locations
        pixels = IMAGES[world].reshape(-1)
        np.testing.assert_allclose(maps[0], exact_epe([]), atol=2e-3)  # float16
        # two copies of the image are left in the bank, so that leaving it out changes nothing here but weights
        assert (first, second) == (0, 5 if LABELS[world] > 1 else 1)
        assert int(maps[1].argmin()) == second == int(exact_epe([(0, int(pixels[0]))]).argmin())
        assert entropies[1] == pytest.approx(0, abs=1e-5)


def test_round_trip(tmp_path: Path) -> None:
    made = make(tmp_path / "demos.npz")
    loaded = Demonstrations.load(tmp_path / "demos.npz")
    for field in ("indices", "locations", "entropies", "epe"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(made, field))
    assert loaded.manifest == made.manifest
    assert not list(tmp_path.glob(".*")), "nothing temporary is left"


@pytest.mark.parametrize("name", ["oracle", "random", "fixed"])
def test_a_stopped_run_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    played: list[object] = []
    play = module.play

    def dies_at_the_third(*arguments, **further):
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(arguments)
        return play(*arguments, **further)

    monkeypatch.setattr(module, "play", dies_at_the_third)
    out = tmp_path / "demos.npz"
    with pytest.raises(KeyboardInterrupt):
        make(out, name)
    assert not out.exists()
    again = []
    monkeypatch.setattr(
        module, "play", lambda *arguments, **further: again.append(arguments) or play(*arguments, **further)
    )
    told: list[int] = []
    generate(name, ToySource(), ToyJudge(), 20, out=out, config=CONFIG, made=told.append)
    assert len(again) == 3, "two of five shards were done already"
    assert told == [12]
    assert_as_made_in_one_go(out, name)


def test_shards_that_were_cut_otherwise_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, play = tmp_path / "demos.npz", module.play
    played: list[int] = []

    def dies_at_the_second(*arguments, **further):
        if played:
            raise KeyboardInterrupt
        played.append(1)
        return play(*arguments, **further)

    monkeypatch.setattr(module, "play", dies_at_the_second)
    monkeypatch.setattr(module, "SEQUENCES_PER_SHARD", SHARD + 1)
    with pytest.raises(KeyboardInterrupt):
        make(out)
    monkeypatch.setattr(module, "play", play)
    monkeypatch.setattr(module, "SEQUENCES_PER_SHARD", SHARD)
    make(out)
    assert_as_made_in_one_go(out)


def test_files_carry_no_time_of_writing(tmp_path: Path) -> None:
    make(tmp_path / "demos.npz")
    with zipfile.ZipFile(tmp_path / "demos.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_workers_make_the_same_bytes_though_one_is_killed(tmp_path: Path) -> None:
    out, bullets = tmp_path / "demos.npz", loaded(tmp_path / "bullets", 1)
    judge = TroubledJudge(bullets)
    generate("oracle", ToySource(), judge, 20, out=out, config=CONFIG, workers=2)
    assert not list(bullets.iterdir()), "a worker was killed"
    assert_as_made_in_one_go(out)


def test_a_killed_driver_takes_its_workers_along_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demos.npz"
    # a shard asks three times: before and after each of two glimpses
    with driver(out, "random", loaded(tmp_path / "bullets", 0), lasts=3, workers=2) as process:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob(".*.partial/[0-9]*.npz"))) < 2:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=30)  # the pipe has an end when all who could write into it are gone
    assert not out.exists()
    again, play = [], module.play
    monkeypatch.setattr(
        module, "play", lambda *arguments, **further: again.append(arguments) or play(*arguments, **further)
    )
    make(out, "random")
    assert len(again) == 3, "two of five shards were done already"
    assert_as_made_in_one_go(out, "random")


def test_ray_makes_the_same_bytes_though_a_worker_is_killed(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install -c constraints.txt -e '.[ray]'")
    out, bullets = tmp_path / "demos.npz", loaded(tmp_path / "bullets", 1)
    with driver(out, "oracle", bullets, ray="local") as process:
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert not list(bullets.iterdir()), "a worker was killed"
    assert_as_made_in_one_go(out)


def test_a_shard_that_kills_whoever_begins_it_is_named(tmp_path: Path) -> None:
    judge = TroubledJudge(loaded(tmp_path / "bullets", 20))
    with pytest.raises(ShardError, match=r"shard 0-00000[04] \(4 images of fold 0\) was begun 3 times .*exit code -9"):
        generate("oracle", ToySource(), judge, 20, out=tmp_path / "demos.npz", config=CONFIG, workers=2)


def refuse(shard: Shard) -> Arrays:
    raise ArtifactError(f"shard {shard} is refused in {os.getpid()}")


def test_errors_of_workers_arrive_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="shard 1-000000 is refused") as raised:
        list(make_shards(refuse, [Shard(1, 0, np.arange(3))], workers=2))
    assert str(os.getpid()) not in str(raised.value)
    assert "in refuse" in str(raised.value.__cause__), "the trace comes along"
    source = ToySource()
    source.fingerprint = "of files that the workers do not have"
    with pytest.raises(ArtifactError, match="give both the same files"):
        generate("random", source, ToyJudge(), 4, out=tmp_path / "demos.npz", workers=2)


def test_contradictions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(0, 0, np.arange(3))]
    with pytest.raises(ConfigurationError, match="workers=2 and ray='local' contradict"):
        make_shards(refuse, shards, workers=2, ray="local")
    with pytest.raises(ConfigurationError, match="workers=0"):
        make_shards(refuse, shards, workers=0)
    with pytest.raises(SystemExit, match="contradict"):
        call("generate_demos", "--out", str(tmp_path / "demos.npz"), "--workers", "2", "--ray", "local")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install .*\.\[ray\]"):
        make_shards(refuse, shards, ray="local")


def test_seeds_matter_and_repeat(tmp_path: Path) -> None:
    first, again, other = (make(tmp_path / f"{i}.npz", "random", seed=seed) for i, seed in enumerate((0, 0, 1)))
    np.testing.assert_array_equal(first.locations, again.locations)
    assert (first.indices != other.indices).any()
    assert (first.locations != other.locations).any()
    assert first.epe is None
    assert all(len(set(row)) == 2 for row in first.locations), "no location twice"


def test_manifest_names_what_determines_them(tmp_path: Path) -> None:
    manifest = manifest_of("oracle", ToySource(), ToyJudge(), 20, config=CONFIG)
    assert manifest["fingerprint"] == ToySource.fingerprint
    assert manifest["judge"] == ToyJudge().identity
    other = manifest_of("oracle", ToySource(), ToyJudge(), 20, config=replace(CONFIG, criterion="error"))
    assert manifest != other
    made = make(tmp_path / "demos.npz")
    made.check_fits(ToySource(), ToyJudge())
    with pytest.raises(ArtifactError, match="judge"):
        made.check_fits(ToySource(), ToyJudge(labels=1 - LABELS % 2))


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="num=25"):
        make(tmp_path / "demos.npz", num=25)
    with pytest.raises(ArtifactError, match="generate_demos"):
        Demonstrations.load(tmp_path / "absent.npz")
    make(tmp_path / "demos.npz")
    (tmp_path / "demos.npz").write_bytes(b"PK broken")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Demonstrations.load(tmp_path / "demos.npz")
