"""The scripts as a user runs them, at toy size."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import tyro
from PIL import Image
from stable_baselines3 import PPO

from agents.vec_env import GlimpseVecEnv
from glimpse_env import cli
from glimpse_env.datasets import make_source
from glimpse_env.errors import JudgeNotFoundError
from glimpse_env.judge.judge import Judge, judge_path
from oracles.demonstrations import Demonstrations
from oracles.presets import PRESETS, Preset
from oracles.training.plans import JudgePlan
from tests.support.tiny_data import write_tiny_cub, write_tiny_folder
from tests.support.toy import SMALL_FOLDER, write_toy_judge
from tests.support.toy_encoder import TOY

ROOT = Path(__file__).parents[2]
REQUIRED = {
    "share/inspect_": ["runs/mine"],
    "cache": ["list"],
    "measure/published": ["sequences"],
    "download_data": ["cub"],
    "generate_demos": ["--out", "demos.npz"],
    "share/pull": ["me/nothing"],
    "share/push": ["nowhere", "me/nothing"],
}
"""Flags that a script must be given."""
BAD_VALUES = {
    "benchmark": ["--seeds", "0"],
    "cache": ["clear", "nothing"],
    "compare_policies": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "compare_runs": ["nowhere"],
    "doctor": ["--out", str(ROOT / "LICENSE" / "doctor.json")],
    "download_data": ["mnist", "--url", "nowhere"],
    "encode_features": ["--env", "GlimpseDigits-v0", "--width", "-1"],
    "exchange_demos": ["--export-from", "nowhere.npz"],
    "generate_demos": ["--env", "GlimpseDigits-v0", "--num", "0", "--out", "demos.npz"],
    "measure/anytime": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "measure/calibration": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "measure/dagger": ["--env", "GlimpseDigits-v0", "--rounds", "0"],
    "measure/diagnostics": ["random", "--images", "0"],
    "measure/env_speed": ["--env", "GlimpseDigits-v0", "--num-envs", "0"],
    "measure/devices": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "measure/encoders": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "measure/epe_convergence": ["--sizes", "4"],
    "measure/fine_grid": ["--images", "0"],
    "measure/human_gaze": ["--images", "1"],
    "measure/near_optimal": ["--env", "GlimpseDigits-v0", "--glimpses", "9"],
    "measure/oracle_cost": ["--banks", "0"],
    "measure/players": ["--games", "nowhere.npz"],
    "measure/published": ["nowhere", "--draws", "0"],
    "measure/soak": ["--makes", "0"],
    "measure/stopping": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "paper_experiment": ["--seeds", "0"],
    "play": ["--seed", "-1"],
    "render_episode": ["--env", "GlimpseDigits-v0", "--width", "0", "--out", "episode.gif"],
    "share/inspect_": ["nowhere", "--out", "page.pdf"],
    "share/pull": ["nothing"],
    "share/push": ["nowhere", "me/nothing"],
    "share/score": ["random", "--env", "GlimpseDigits-v0", "--seed", "-1"],
    "share/watch": ["GlimpseDigits-v0", "--out", "watch.bmp"],
    "train_agent": ["--timesteps", "-1"],
    "train_judge": ["--env", "GlimpseDigits-v0", "--passes", "0"],
    "train_oracle": ["--env", "GlimpseDigits-v0", "--images", "0"],
    "tune_agents": ["--trials", "0"],
    "tune_oracle": ["--env", "GlimpseDigits-v0", "--images", "0"],
}
SCRIPTS = sorted(str(path.relative_to(ROOT / "scripts").with_suffix("")) for path in (ROOT / "scripts").rglob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache with an untrained judge of the digits and oracles, for subprocesses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        write_toy_judge(make_source("digits"))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an agent: what a run that Ctrl-C stopped in fine-tuning leaves behind."""
    out = tmp_path_factory.mktemp("runs") / "stopped"
    flags = "--env GlimpseDigits-v0 --demos random --num-demos 10 --clone-passes 1 --warm-up 100 --val-images 4"
    command = [sys.executable, "scripts/train_agent.py", *flags.split(), "--timesteps", "1000000", "--out", str(out)]
    lines = []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        (out.parent / "stderr.txt").open("w") as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # a shell that runs the tests in the background has them ignore Ctrl-C, and this process would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "on validation images" in line:  # the next thing is fine-tuning
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(lines) + (out.parent / "stderr.txt").read_text()
    assert lines[-1].strip() == f"python scripts/train_agent.py --resume {out}"
    return out / "model.zip"


def load(name: str) -> ModuleType:
    """A script as a module; importing it must do nothing."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def call(name: str, *words: str) -> None:
    """Runs a script in this process with a command line, as its entry does."""
    module = load(name)
    cli.run(module.main, module.Args, words)


@pytest.mark.parametrize("name", SCRIPTS)
def test_interface_is_one_dataclass_that_explains_every_flag(name, capsys):
    module = load(name)
    assert is_dataclass(module.Args)
    with pytest.raises(SystemExit) as ended:
        tyro.cli(module.Args, args=["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    flags = re.sub(r"^usage: .*", "", printed)
    assert not re.search(r"scripts/|\b[a-z]+_[a-z]+\.py|docs/", flags), "a wheel has no such file; name the command"
    source = "".join(Path(sys.modules[kind.__module__].__file__ or "").read_text() for kind in own_classes(module.Args))
    for field in fields(module.Args):
        assert "Positional" in str(field.type) or f"--{field.name.replace('_', '-')}" in printed
        assert re.search(rf'\n    {field.name}: .*\n    """', source), f"--{field.name} has no docstring"


def own_classes(kind: type) -> list[type]:
    """A dataclass of flags and those it inherits from."""
    return [base for base in kind.__mro__ if is_dataclass(base)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_only_entry_is_the_shared_one(name):
    lines = (ROOT / "scripts" / f"{name}.py").read_text().splitlines()
    assert lines[-2] == 'if __name__ == "__main__":'
    assert lines[-1].startswith("    cli.run(main, Args")


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_default_is_a_committed_file(name):
    for field in fields(load(name).Args):
        if isinstance(field.default, Path):
            assert field.default.parts[0] not in ("docs", "agents", "oracles", "glimpse_env"), field.name


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_bad_value_ends_in_one_sentence(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        call(name, *BAD_VALUES[name])
    if ended.value.code == 2:  # refused where flags are read
        message = capsys.readouterr().err
    else:
        message = str(ended.value.code)
        assert re.fullmatch(r"\w+: \S.*[.]", message), message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir()), "nothing was written"


@pytest.mark.parametrize("name", SCRIPTS)
def test_unknown_flags_fail(name, capsys):
    with pytest.raises(SystemExit) as ended:
        tyro.cli(load(name).Args, args=[*REQUIRED.get(name, []), "--no-such-flag", "1"])
    assert ended.value.code == 2
    assert "no-such-flag" in capsys.readouterr().err


def test_ctrl_c_leaves_an_agent_that_can_be_loaded(model):
    assert PPO.load(model, device="cpu").num_timesteps == 0
    assert (model.parent / "config.json").is_file()


def test_train_agent_names_mistakes(capsys):
    with pytest.raises(SystemExit, match="ConfigurationError: nowhere holds no run"):
        call("train_agent", "--resume", "nowhere")
    with pytest.raises(SystemExit):
        call("train_agent", "--demos", "orakle")
    assert "--demos orakle is no file" in "".join(capsys.readouterr())


def test_render_episode_as_png_has_a_picture_for_every_glimpse(tmp_path):
    out = tmp_path / "episode.png"
    call("render_episode", "--env", "GlimpseDigits-v0", "--policy", "centre", "--index", "2", "--out", str(out))
    with Image.open(out) as picture:
        assert picture.size == (2 * 640, 3 * 384)


def test_render_episode_as_gif_puts_policies_side_by_side(tmp_path):
    out = tmp_path / "episode.gif"
    words = ["--env", "GlimpseDigits-v0", "--policies", "oracle", "random", "--width", "500"]
    call("render_episode", *words, "--split", "val", "--out", str(out))
    with Image.open(out) as picture:
        assert (picture.n_frames, picture.width) == (6, 500)
        first = np.asarray(picture.convert("RGB"))
        picture.seek(5)
        assert (np.asarray(picture.convert("RGB")) != first).any()


def test_render_episode_of_an_agent(tmp_path, model):
    out = tmp_path / "agent.png"
    call("render_episode", "--env", "GlimpseDigits-v0", "--policies", str(model), "--out", str(out))
    assert out.is_file()


def test_render_episode_of_an_agent_that_sees_embeddings(tmp_path):
    env = GlimpseVecEnv(gym.make_vec("GlimpseDigits-v0", num_envs=2, observation="embedding"))
    path = tmp_path / "model.zip"
    PPO("MultiInputPolicy", env, seed=0).save(path)
    out = tmp_path / "agent.png"
    call(
        "render_episode",
        "--env",
        "GlimpseDigits-v0",
        "--policies",
        str(path),
        "--trust",
        "--algo",
        "ppo",
        "--out",
        str(out),
    )
    assert out.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policies", "nobody"], "policy nobody is no file"),
        (["--index", "99999"], "--index 99999 must lie in 0.."),
        (["--out", "episode.bmp"], "must end in .png or .gif"),
        (["--policies", "hgs"], "has no parts"),
    ],
)
def test_render_episode_names_mistakes(words, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        call("render_episode", "--env", "GlimpseDigits-v0", *words)


def test_generate_demos_writes_what_can_be_loaded(tmp_path, capsys):
    out = tmp_path / "demos.npz"
    call("generate_demos", "--env", "GlimpseDigits-v0", "--policy", "random", "--num", "7", "--out", str(out))
    assert Demonstrations.load(out).locations.shape == (7, 6)
    assert "7 sequences of random" in capsys.readouterr().out


def test_train_judge_writes_a_judge_that_fits(tmp_path, capsys, monkeypatch):
    out = tmp_path / "judge.safetensors"
    small = JudgePlan(features=16, embedding=16, hidden=16, histories=1, heldout_images=64, part_weight=0.0)
    monkeypatch.setitem(PRESETS, "digits", Preset(judge=small))
    call("train_judge", "--env", "GlimpseDigits-v0", "--passes", "1", "--rounds", "0", "--out", str(out))
    assert Judge.load(out).card.fingerprint == make_source("digits").fingerprint
    assert "accuracy" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags that name a tiny folder of images, of which there is an untrained judge."""
    photos = write_tiny_folder(tmp_path / "photos")
    write_toy_judge(make_source("folder", root=str(photos), **SMALL_FOLDER))
    monkeypatch.chdir(tmp_path)
    return ["--env", "GlimpseFolder-v0", "--root", "photos", "--dataset-options", json.dumps(SMALL_FOLDER)]


def test_encode_features_makes_the_tables_once(folder, tmp_path, capsys):
    command = [*folder, "--encoder", TOY, "--width", "5", "--scales", "2", "--splits", "train", "val", "--mirrored"]
    for computed in (2, 0):
        call("encode_features", *command, "--out", str(tmp_path / "features.json"))
        splits = json.loads((tmp_path / "features.json").read_text())["splits"]
        sizes = {split: (of["images"], of["copies"], of["bytes"]) for split, of in splits.items()}
        assert sizes == {"train": (12, 2, 24 * 169 * 5 * 2), "val": (3, 1, 3 * 169 * 5 * 2)}
        assert splits["train"]["copies_computed"] == computed
    assert "folder/val: 507 glimpses of 1 x 3 images" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="ConfigurationError: encoder='nothing' must be one of convolutional, eff"):
        call("encode_features", *folder, "--encoder", "nothing")


def test_a_folder_of_images_in_every_script(folder, tmp_path, capsys):
    call("generate_demos", *folder, "--policy", "oracle", "--num", "4", "--out", "demos.npz")
    assert Demonstrations.load(tmp_path / "demos.npz").epe.shape == (4, 6, 169)
    call("render_episode", *folder, "--policy", "centre", "--out", "episode.png")
    assert (tmp_path / "episode.png").is_file()
    only = ["--criteria", "entropy", "--matches", "pixels", "--effective-samples", "2", "--label-weights", "0"]
    call("tune_oracle", *folder, "--images", "2", *only, "--out", "tuned.json")
    assert (tmp_path / "tuned.json").is_file()


def test_the_judge_of_a_folder_is_found_by_the_environment(folder, tmp_path, monkeypatch):
    small = JudgePlan(features=16, embedding=16, hidden=16, histories=2, visited_images=4)
    monkeypatch.setitem(PRESETS, "folder", Preset(judge=small))
    path = judge_path(make_source("folder", root="photos", **SMALL_FOLDER))
    path.unlink()
    call("train_judge", *folder, "--passes", "2", "--rounds", "1")
    env = gym.make("GlimpseFolder-v0", root=str(tmp_path / "photos"), **SMALL_FOLDER)
    assert env.unwrapped.batch.judge.card.command.startswith("python scripts/train_judge.py")  # type: ignore[attr-defined]
    assert Judge.load(path).card.num_networks == 3


def test_a_judge_of_two_scales_is_what_whole_photographs_get(tmp_path, monkeypatch):
    root = str(write_tiny_cub(tmp_path))
    small = JudgePlan(features=16, embedding=16, hidden=16, histories=1, heldout_images=4)
    monkeypatch.setitem(PRESETS, "cub-full", Preset(judge=small))
    call("train_judge", "--env", "GlimpseCUBFull-v0", "--root", root, "--passes", "1", "--rounds", "0")
    env = gym.make("GlimpseCUBFull-v0", root=root)
    assert env.unwrapped.batch.sensor.scales == 2  # type: ignore[attr-defined]
    assert env.unwrapped.batch.judge.card.config.channels == 6  # type: ignore[attr-defined]
    with pytest.raises(JudgeNotFoundError, match="--scales 1"):
        gym.make("GlimpseCUBFull-v0", root=root, scales=1)


@pytest.mark.parametrize("script", ["train_judge", "generate_demos", "tune_oracle"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "GlimpseFish-v0"], "GlimpseFolder-v0"),
        (["--env", "GlimpseFolder-v0"], "--root photos"),
        (["--env", "GlimpseDigits-v0", "--dataset-options", "{seed: 1}"], "is no JSON"),
        (["--env", "GlimpseDigits-v0", "--dataset-options", "[1]"], "must be a dict"),
        (["--env", "GlimpseDigits-v0", "--dataset-options", '{"sead": 1}'], "sead"),
        (["--env", "GlimpseDigits-v0", "--scales", "0"], "scales=0"),
    ],
)
def test_data_that_are_not_there_are_named(script, words, message):
    with pytest.raises(SystemExit, match=f"^(ConfigurationError|DatasetNotFoundError): .*{message}"):
        call(script, *words, *REQUIRED.get(script, []))


def test_compare_runs_puts_runs_side_by_side(tmp_path, capsys):
    def evaluated(success_rate):
        return {"success_rate": success_rate, "interval": [success_rate - 0.05, success_rate + 0.05], "num_images": 80}

    folders = []
    gaps = [
        {"value": 0.5, "interval": [0.4, 0.6]},
        {"value": None, "interval": None},
    ]  # an oracle no better than random
    cloned = {"random": 0.25, "agent_cloned": 0.5, "agent": 0.5}
    for env, policies in (("A-v0", cloned), ("B-v0", {"random": 0.125, "oracle": 0.75})):
        folders.append(tmp_path / env)
        metrics = {
            "env": env,
            "dataset": {"fingerprint": f"{env}0"},
            "policies": {name: evaluated(rate) for name, rate in policies.items()},
            "gap_closed": gaps.pop(0),
            "curve": [{"env_steps": 0}, {"env_steps": 640}],
            "selection": {"env_steps": 0},
            **dict.fromkeys(("command", "seed", "wall_time_s", "versions")),
        }
        folders[-1].mkdir()
        (folders[-1] / "metrics.json").write_text(json.dumps(metrics))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n")
    out = tmp_path / "out.json"
    call("compare_runs", *map(str, folders), "--into", str(page), "--out", str(out))
    told = capsys.readouterr().out.strip()
    assert told.splitlines()[:3] == [
        "| success on test images | A-v0 | B-v0 |",
        "|---|---|---|",
        "| random | 25.0 % (20.0 to 30.0) | 12.5 % (7.5 to 17.5) |",
    ]
    assert "| oracle | – | 75.0 % (70.0 to 80.0) |" in told
    assert "| agent, cloned | 50.0 % (45.0 to 55.0) | – |" in told
    assert "| agent, fine-tuned | 50.0 % (45.0 to 55.0), kept as cloned | – |" in told
    assert "| *agent, of the way from random to oracle* | 50 % (40 to 60) | – |" in told
    assert "| test images | 80 | 80 |" in told
    assert page.read_text() == f"before\n<!-- table -->\n{told}\n<!-- /table -->\nafter\n"
    assert [run["env"] for run in json.loads(out.read_text())] == ["A-v0", "B-v0"]
    with pytest.raises(SystemExit, match="ArtifactError: nowhere holds no finished run"):
        call("compare_runs", "nowhere")
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no part between"):
        call("compare_runs", str(folders[0]), "--into", str(page))


def test_benchmark_env_measures_every_contender(tmp_path, capsys):
    out, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    words = ["--env", "GlimpseDigits-v0", "--num-envs", "1", "--observations", "glimpse", "embedding"]
    words += ["--rounds", "2", "--seconds", "0.001", "--images", "20", "40", "--async-up-to", "0"]
    call("measure/env_speed", *words, "--out", str(out), "--picture", str(picture))
    figures = json.loads(out.read_text())
    assert [(row["observation"], row["num_envs"]) for row in figures["results"]] == [
        ("glimpse", 1),
        ("embedding", 1),
    ]
    first = figures["results"][0]
    assert {"native vector", "single", "SyncVectorEnv", "SB3 adapter", "limit: numpy gather"} <= set(
        first["steps_per_second"]
    )
    ours, gather = (np.array(first["steps_per_second"][name]) for name in ("native vector", "limit: numpy gather"))
    assert first["native_to"]["limit: numpy gather"] == pytest.approx(np.median(ours / gather))
    beside = np.median(ours / np.array(first["steps_per_second"]["native vector, beside another"]))
    assert first["kept_beside_another"] == pytest.approx(1 / beside)
    assert [row["images"] for row in figures["data_set_size"]] == [20, 40]
    assert figures["data_set_size"][0]["relative"] == 1
    with Image.open(picture) as shown:
        assert shown.width > 500
    assert "| embedding | 1 |" in capsys.readouterr().out
