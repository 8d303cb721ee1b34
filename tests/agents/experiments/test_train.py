"""The main job at toy size: the files it leaves, and that stopping and resuming change nothing."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stable_baselines3 import PPO

from agents import presets
from agents.evaluation import comparison
from agents.evaluation.evaluate import choose_images
from agents.evaluation.statistics import wilson_interval
from agents.experiments import run_inputs, run_training
from agents.experiments.run_folder import CurvePoint, State, algorithm_identity
from agents.experiments.run_training import ProgressCallback
from agents.experiments.train import Experiment, format_times, goes_on, run
from agents.presets import Args, budget_of, tuned
from agents.recording import record_agent
from agents.registry import algorithm_of
from agents.reports.episodes import draw_run
from agents.saving import load_agent
from glimpse_env.datasets import make_source
from glimpse_env.encoding.base import FrozenEncoder
from glimpse_env.errors import ArtifactError, ConfigurationError, DatasetNotFoundError
from glimpse_env.files import write_json
from glimpse_env.judge.judge import judge_path
from glimpse_env.presets import PRESETS as DATASETS
from glimpse_env.sensing.observations import HistoryObserver
from oracles.demonstrations import generate
from tests.glimpse_env.judge.test_frozen import WIDTH, frozen_judge
from tests.scripts.test_scripts import load
from tests.support.few_completions import few_completions
from tests.support.tiny_data import write_tiny_cub, write_tiny_folder, write_tiny_gaze
from tests.support.toy import SMALL_FOLDER, write_toy_judge
from tests.support.toy_encoder import TOY as TOY_ENCODER

TOY = Args(
    env="GlimpseDigits-v0",
    num_demos=24,
    timesteps=4608,
    rollout=1536,
    eval_images=12,
    val_images=10,
    validations=2,
    clone_passes=2,
    warm_up=500,
    demo_fade=8000,
    seed=3,
)
OWN_ALGORITHM = """
from agents.algorithms.on_policy import GlimpsePPO
from agents.algorithms.policies import GlimpseHistoryPolicy
from agents.registry import Algorithm

class Mine(GlimpsePPO):
    pass

ALGORITHM = Algorithm(Mine, GlimpseHistoryPolicy, rollout=1536, minibatch=512, hyperparameters={"n_epochs": 3})
"""
PICTURES = {"learning_curve.png", "episodes.png"}
FILES = PICTURES | {"config.json", "metrics.json", "recordings.npz", "checkpoint", "tensorboard"}
FILES |= {"model.zip", "model.json", "model.safetensors"}
CHECKPOINT = {"state.json", "chunk-2.json", "chunk-2.safetensors"}
CLONED = {"cloned.json", "cloned.safetensors"}


@pytest.fixture(scope="module", autouse=True)
def _toy_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache with an untrained judge of the digits and oracles, BOED with few completions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIMPSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        few_completions(patch, "digits")
        write_toy_judge(make_source("digits"))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted, with its pictures."""
    out = run(replace(TOY, out=tmp_path_factory.mktemp("runs") / "whole"))
    assert not PICTURES & {path.name for path in out.iterdir()}
    assert {path.name for path in draw_run(out)} == PICTURES
    return out


def read(folder: Path, name: str = "metrics.json") -> dict:
    return json.loads((folder / name).read_text())


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_agent(path).policy.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_times(curve: list[dict]) -> list[dict]:
    return [{name: value for name, value in point.items() if name != "seconds"} for point in curve]


def interrupt_at(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Presses Ctrl-C in fine-tuning, once ``steps`` environment steps are done."""

    def on_step(self: ProgressCallback) -> bool:
        if self.model.num_timesteps >= steps:
            raise KeyboardInterrupt
        return True

    patch.setattr(ProgressCallback, "_on_step", on_step)


def test_a_run_leaves_its_files_and_nothing_else(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    assert {path.name for path in (finished / "checkpoint").iterdir()} == CHECKPOINT | CLONED


def test_config_is_resolved(finished):
    config = read(finished, "config.json")
    assert config["args"]["timesteps"] == 4608
    assert config["args"]["algo"] == "ppo"
    assert config["dataset"] == "digits"
    # the metadata of some builds leave out the part behind the plus
    assert config["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert config["command"].startswith(
        "python scripts/train_agent.py --env GlimpseDigits-v0 --demos oracle --num-demos 24"
    )


def test_metrics_tell_everything(finished):
    metrics = read(finished)
    source = make_source("digits")
    assert metrics["dataset"]["name"] == "digits"
    assert metrics["dataset"]["fingerprint"] == source.fingerprint
    assert metrics["dataset"]["splits"] == {split: source.size(split) for split in ("train", "val", "test")}
    assert list(metrics["policies"]) == [
        *("random", "centre", "fixed", "oracle", "clairvoyant", "agent_cloned", "agent")
    ]
    for entry in metrics["policies"].values():
        assert entry["split"] == "test"
        assert entry["num_images"] == 12 == len(entry["outcomes"])
        assert entry["successes"] == entry["outcomes"].count("1")
        assert entry["success_rate"] == entry["successes"] / 12
        assert entry["interval"] == list(wilson_interval(entry["successes"], 12))
        assert len(entry["log_loss"]) == len(entry["entropy"]) == 6
        assert entry["judge"] == metrics["judge"]["identity"]
    assert len({entry["images"] for entry in metrics["policies"].values()}) == 1
    assert set(metrics["gap_closed"]) == {"value", "interval"}
    assert metrics["demonstrations"]["num"] == 24
    assert set(metrics["wall_time_s"]) >= {"judge", "demonstrations", "cloning", "critic warm-up", "fine-tuning"}
    assert metrics["versions"]["gymnasium"]
    assert metrics["seed"] == 3


def test_the_curve_has_a_point_for_every_validation_and_the_best_one_is_kept(finished):
    metrics = read(finished)
    steps = [point["env_steps"] for point in metrics["curve"]]
    success = [point["success"] for point in metrics["curve"]]
    # whole rollouts of 128 environments x 12 steps; the critic's warm-up takes the first
    assert steps == [0, 3072, 4608]
    seconds = [point["seconds"] for point in metrics["curve"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    learning = ("cloning", "critic warm-up", "fine-tuning")
    assert seconds[2] == pytest.approx(sum(metrics["wall_time_s"][stage] for stage in learning))
    assert all(point["log_loss"] > 0 for point in metrics["curve"])
    best = max(range(3), key=lambda i: (success[i], i))
    assert metrics["selection"]["env_steps"] == steps[best]
    if best == 2:
        assert same(weights(finished / "model.zip"), weights(finished / "checkpoint" / "chunk-2.json"))


def test_fine_tuning_changes_the_agent_and_cloning_changed_it_before(finished):
    cloned, last = weights(finished / "checkpoint" / "cloned.json"), weights(finished / "checkpoint" / "chunk-2.json")
    assert not same(cloned, last)
    encoder = [name for name in cloned if ".encoder." in name]
    assert encoder
    assert all(torch.equal(cloned[name], last[name]) for name in encoder)  # the judge's, frozen


def test_pictures_can_be_opened(finished):
    for name in ("learning_curve.png", "episodes.png"):
        with Image.open(finished / name) as picture:
            assert min(picture.size) > 500
            assert len(np.unique(np.asarray(picture))) > 50


def test_tensorboard_holds_curves_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    scalars, images = set(events.Tags()["scalars"]), set(events.Tags()["images"])
    assert scalars >= {
        *("rollout/ep_rew_mean", "rollout/success_rate", "train/entropy_loss", "demonstrations/loss"),
        *("validation/success_rate", "cloning/held_out_loss"),
    }
    assert images == {"episodes/agent-0", "episodes/agent-1", "episodes/oracle-0", "episodes/oracle-1"}
    assert [event.step for event in events.Scalars("validation/success_rate")] == [0, 3072, 4608]
    assert any(name.startswith("_hparams_") for name in events.summary_metadata)


def test_the_kept_model_needs_nothing_but_its_file(finished):
    model = PPO.load(finished / "model.zip", device="cpu")
    judge = Experiment(TOY, finished, make_source("digits"), "").judge
    observation = HistoryObserver(judge.geometry, 1).blank(2)
    actions, _ = model.predict(observation, deterministic=True)
    assert actions.shape == (2,)


def test_interrupted_and_resumed_ends_like_a_run_that_was_not(finished, tmp_path, monkeypatch, caplog):
    """Ctrl-C in the first chunk of fine-tuning, and after resuming again in the second."""
    caplog.set_level("INFO")
    out = tmp_path / "stopped"
    for steps, args in ((2000, replace(TOY, out=out)), (4000, Args(resume=out))):
        with monkeypatch.context() as patch:
            interrupt_at(steps, patch)
            with pytest.raises(KeyboardInterrupt):
                run(args)
        assert goes_on(args) == f"python scripts/train_agent.py --resume {out}"
        assert f"The agent so far is {out / 'model.zip'}." in caplog.text
        assert not (out / "metrics.json").exists()
        load_agent(out)

    assert run(Args(resume=out)) == out
    before, after = read(finished), read(out)
    for key in before.keys() - {"wall_time_s", "policies", "command", "curve"}:
        assert before[key] == after[key], key
    assert without_times(before["curve"]) == without_times(after["curve"])
    for name, entry in before["policies"].items():
        times = {"seconds": 0, "policy_seconds": 0}
        assert entry | times == after["policies"][name] | times
    for name in ("model.zip", "checkpoint/chunk-2.json"):
        assert same(weights(finished / name), weights(out / name))


def test_stages_can_be_called_one_by_one(finished, tmp_path):
    """By one process each; a stage does what is missing before it, and nothing a second time."""
    out = tmp_path / "staged"
    Experiment.started(replace(TOY, out=out)).prepare()
    Experiment.resumed(Args(resume=out)).clone()
    cloned = out / "checkpoint" / "cloned.json"
    written = cloned.stat().st_mtime_ns
    Experiment.resumed(Args(resume=out)).fine_tune(chunks=1)
    third = Experiment.resumed(Args(resume=out))
    assert third.state.chunk == 1
    for suffix in (".json", ".safetensors"):  # as a process leaves it that dies before it removes the last but one
        (out / "checkpoint" / "chunk-0").with_suffix(suffix).touch()
    third.clone()
    assert cloned.stat().st_mtime_ns == written
    third.fine_tune(chunks=0)
    assert third.state.chunk == 1
    assert {path.stem for path in (out / "checkpoint").glob("chunk-*")} == {"chunk-1"}
    third.report()  # fine-tunes first
    before, after = read(finished), read(out)
    assert without_times(before["curve"]) == without_times(after["curve"])
    for name, entry in before["policies"].items():
        assert entry["outcomes"] == after["policies"][name]["outcomes"]
    for name in ("model.zip", "checkpoint/chunk-2.json"):
        assert same(weights(finished / name), weights(out / name))


def test_a_run_that_is_stopped_before_it_has_a_folder_begins_again(tmp_path):
    args = Args(env="GlimpseDigits-v0", out=tmp_path / "run")
    assert goes_on(args) == f"python scripts/train_agent.py --env GlimpseDigits-v0 --out {args.out}"
    args.out.mkdir()
    (args.out / "config.json").touch()
    assert goes_on(args) == goes_on(Args(resume=args.out)) == f"python scripts/train_agent.py --resume {args.out}"


def test_a_stage_that_was_interrupted_begins_anew_in_the_same_process(finished, tmp_path, monkeypatch):
    training = Experiment.started(replace(TOY, out=tmp_path / "run"))
    with monkeypatch.context() as patch:
        interrupt_at(2000, patch)
        with pytest.raises(KeyboardInterrupt):
            training.fine_tune()
    training.fine_tune()
    last = Path("checkpoint") / "chunk-2.json"
    assert same(weights(tmp_path / "run" / last), weights(finished / last))


def test_agents_learn_in_one_thread(tmp_path):
    """Two runs side by side, each with as many threads as there are cores, wait for each other."""
    experiment, before = Experiment(TOY, tmp_path, make_source("digits"), ""), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for stage in ("cloning", "fine-tuning", "judge"):
            with experiment._stage(stage):
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_there_is_nothing_to_test_before_training(tmp_path):
    with pytest.raises(ArtifactError, match="holds no agent yet"):
        Experiment.started(replace(TOY, out=tmp_path / "run")).test()


@pytest.mark.parametrize("stage", ["clone", "warm_up_critic"])
def test_interrupted_before_fine_tuning_a_model_is_kept_all_the_same(stage, finished, tmp_path, monkeypatch):
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(run_training, stage, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(replace(TOY, out=out))
    cloned = weights(finished / "checkpoint" / "cloned.json")
    assert same(weights(out / "model.zip"), cloned) == (stage == "warm_up_critic")
    Experiment.resumed(Args(resume=out)).train()
    assert same(weights(out / "checkpoint" / "chunk-2.json"), weights(finished / "checkpoint" / "chunk-2.json"))


@pytest.mark.parametrize(
    ("algo", "architecture", "observation", "demos"),
    [
        ("ppo", "attention", "embedding", "oracle"),
        ("a2c", "mlp", "history", "none"),
        ("reinforce", "canvas", "embedding", "oracle"),
        ("recurrent_ppo", None, "history", "oracle"),
        ("dqn", "canvas", "history", "oracle"),
        ("dqn", "gru", "embedding", "none"),
        ("qrdqn", "gru", "embedding", "oracle"),
        ("my_algorithm.py", "gru", "embedding", "oracle"),
    ],
)
def test_every_kind_of_agent_goes_on_as_if_never_stopped(algo, architecture, observation, demos, tmp_path, monkeypatch):
    """Ctrl-C in the second chunk, whose start has to be restored."""
    if algo.endswith(".py"):
        (tmp_path / algo).write_text(OWN_ALGORITHM)
        algo = str(tmp_path / algo)
    given = {"algo": algo, "architecture": architecture, "observation": observation, "demos": demos}
    small = {"num_demos": 24 if demos == "oracle" else None, "warm_up": 100, "timesteps": 3840}
    small["rollout"] = None if algo in ("dqn", "qrdqn") else 768  # off-policy ones have none
    trained = []
    for name in ("whole", "stopped"):
        out = tmp_path / name
        training = Experiment.started(replace(TOY, **given, **small, out=out))
        if name == "stopped":
            with monkeypatch.context() as patch:
                interrupt_at(2000, patch)
                with pytest.raises(KeyboardInterrupt):
                    training.train()
            assert training.state.chunk == 1
            training = Experiment.resumed(Args(resume=out))
        training.train()
        curve = without_times([asdict(point) for point in training.state.curve])
        best, last = weights(out), weights(out / "checkpoint" / "chunk-2.json")
        trained.append((curve, training.state.selected, best, last, training.test().to_json()["outcomes"]))
        names = {path.name for path in (out / "checkpoint").iterdir()}
        replay = {"chunk-2.npz"} if algo in ("dqn", "qrdqn") else set()
        assert names == CHECKPOINT | replay | (CLONED if demos == "oracle" else set())
    (curve, selected, best, last, outcomes), (*other, other_best, other_last, other_outcomes) = trained
    assert [curve, selected, outcomes] == [*other, other_outcomes]
    assert curve[-1]["env_steps"] == 3840
    assert same(best, other_best)
    assert same(last, other_last)


def test_an_algorithm_of_a_file_is_named_and_trained(tmp_path):
    path = tmp_path / "my_algorithm.py"
    path.write_text(OWN_ALGORITHM)
    args = replace(TOY, algo=str(path), demos="none", num_demos=None, timesteps=1000, out=tmp_path / "run")
    assert replace(args, out=None).folder == Path("runs/GlimpseDigits-v0-my_algorithm-none-s3")
    assert read(run(args))["algorithm"] == str(path)
    assert algorithm_of(str(path)).model.__name__ == "Mine"
    assert PPO.load(args.out / "model.zip", device="cpu").n_epochs == 3
    for content in ("", "ALGORITHM = 'ppo'"):
        other = tmp_path / f"other-{len(content)}.py"
        other.write_text(content)
        with pytest.raises(ConfigurationError, match=f"{other} sets no ALGORITHM"):
            Args(algo=str(other))
    with pytest.raises(ConfigurationError, match=r"absent.py' must be one of ppo, .*or a Python file"):
        Args(algo="absent.py")


def test_an_algorithm_is_what_its_file_holds(tmp_path):
    """A run is not resumed with another file of the same name."""
    path = tmp_path / "my_algorithm.py"
    path.write_text(OWN_ALGORITHM)
    identity = algorithm_identity(str(path))
    assert identity.startswith("my_algorithm-")
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / path.name
    moved.write_text(OWN_ALGORITHM)
    assert algorithm_identity(str(moved)) == identity
    assert algorithm_identity("ppo") == algorithm_identity("package.module:ppo") == "ppo"
    args = replace(TOY, algo=str(path), demos="none", num_demos=None, timesteps=0, out=tmp_path / "run")
    Experiment.started(args).train()
    path.write_text(OWN_ALGORITHM.replace("n_epochs", "batch_size"))
    assert algorithm_identity(str(path)) != identity
    with pytest.raises(ArtifactError, match=r"was begun with other algorithm \(my_algorithm-"):
        Experiment.resumed(Args(resume=tmp_path / "run")).train()


def test_files_given_relatively_are_found_again_from_elsewhere(tmp_path, monkeypatch):
    """A file of an algorithm, and one of demonstrations."""
    (tmp_path / "my_algorithm.py").write_text(OWN_ALGORITHM)
    monkeypatch.chdir(tmp_path)
    source = make_source("digits")
    generate("random", source, Experiment(TOY, tmp_path, source, "").judge, 10, out="mine.npz")
    args = replace(TOY, algo="my_algorithm.py", demos="mine.npz", num_demos=10, timesteps=0, out=Path("run"))
    Experiment.started(args).train()
    monkeypatch.chdir("/")
    again = Experiment.resumed(Args(resume=tmp_path / "run"))
    again.train()
    assert again.demonstrations is not None
    assert len(again.demonstrations) == 10


def test_demonstrations_of_another_agent(finished, tmp_path, monkeypatch):
    """They are recorded again when the run is resumed, and are the same."""
    out, agent = tmp_path / "run", str(finished / "model.zip")
    args = replace(TOY, demos=agent, out=out)
    with monkeypatch.context() as patch:
        interrupt_at(4000, patch)
        with pytest.raises(KeyboardInterrupt):
            run(args)
    metrics = read(run(Args(resume=out)))
    assert metrics["demonstrations"]["policy"] == "agent"
    assert metrics["demonstrations"]["num"] == 24
    assert "agent_cloned" in metrics["policies"]
    demonstrations = Experiment(args, out, make_source("digits"), "").demonstrations
    assert demonstrations is not None
    assert len(demonstrations) == 24
    assert demonstrations.manifest["agent"]["seed"] == 3
    started = Experiment.started(replace(args, num_demos=None, out=tmp_path / "other"))
    assert started.args.num_demos == 1000  # the data set's
    with pytest.raises(ArtifactError, match="is no agent of a run"):
        Experiment(replace(args, demos=str(out / "checkpoint" / "cloned.json")), out, make_source("digits"), "").train()


def test_a_folder_of_images_is_found_again_from_elsewhere(tmp_path, monkeypatch):
    """Ctrl-C in fine-tuning, then resumed from another folder, with data that moved; the root was given relatively."""
    photos = write_tiny_folder(tmp_path / "photos", images=12)
    source = make_source("folder", root=str(photos), **SMALL_FOLDER)
    write_toy_judge(source)
    options = json.dumps(SMALL_FOLDER)
    small = {"num_demos": 12, "timesteps": 3072, "eval_images": 4, "val_images": 3, "clone_passes": 1, "warm_up": 100}
    given = {"env": "GlimpseFolder-v0", "root": "photos", "dataset_options": options}
    args = replace(TOY, **given, **small, validations=1, out=tmp_path / "run")
    assert '--root photos --dataset-options \'{"size": 60' in args.command
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_at(1600, patch)
        with pytest.raises(KeyboardInterrupt):
            run(args)
    monkeypatch.chdir("/")
    config = read(tmp_path / "run", "config.json")["args"]
    assert (config["root"], config["dataset_options"]) == (str(photos), options)
    moved = photos.rename(tmp_path / "moved")
    with pytest.raises(DatasetNotFoundError, match=f"{tmp_path / 'run'} cannot go on: .*new folder with --root"):
        run(Args(resume=tmp_path / "run"))
    with pytest.raises(ArtifactError, match="was begun on data set folder"):
        run(Args(resume=tmp_path / "run", root=str(write_tiny_folder(tmp_path / "other", images=11))))
    metrics = read(run(Args(resume=tmp_path / "run", root=str(moved))))
    assert metrics["dataset"]["fingerprint"] == source.fingerprint
    assert read(tmp_path / "run", "config.json")["args"] == config | {"root": str(moved)}


def test_agents_are_shown_the_features_that_the_judge_reads(tmp_path, monkeypatch):
    """Fine-tuning reads tables, however many images there are."""
    monkeypatch.setattr(run_inputs, "TABULATED_IMAGES", 0)
    monkeypatch.setitem(DATASETS, "folder", replace(DATASETS["folder"], encoder=TOY_ENCODER))
    options = {"size": 20, "glimpse_size": 12, "stride": 4, "num_glimpses": 3, "mirror": True}
    root = str(write_tiny_folder(tmp_path / "photos", images=12))
    source = make_source("folder", root=root, **options)
    shape = {"num_networks": source.num_folds, "fingerprint": source.fingerprint, "dataset": "folder"}
    frozen_judge(geometry=source.geometry, channels=3, **shape).save(judge_path(source, TOY_ENCODER))
    given = {"env": "GlimpseFolder-v0", "root": root, "dataset_options": json.dumps(options), "demos": "random"}
    small = {"num_demos": 12, "timesteps": 1536, "rollout": 768, "val_images": 3, "clone_passes": 1, "warm_up": 100}
    experiment = Experiment.started(replace(TOY, **given, **small, validations=1, out=tmp_path / "run"))
    experiment.progress = experiment.examples = False
    assert experiment.observation == "features"
    assert read(tmp_path / "run", "config.json")["args"]["observation"] == "features"
    experiment.clone()
    with monkeypatch.context() as patch:
        patch.setattr(FrozenEncoder, "__call__", lambda *_: pytest.fail("a glimpse was encoded"))
        patch.setattr(Experiment, "_checkpoint", lambda *_: None)
        experiment.fine_tune()
    assert experiment.cloning_data is not None
    assert (len(experiment.cloning_data), experiment.cloning_data.observation) == (24, "features")
    assert experiment.model is not None
    assert experiment.model.num_timesteps == 1536
    assert experiment.model.observation_space["features"].shape == (3 * WIDTH,)
    recorded = record_agent(tmp_path / "run" / "model.zip", source, experiment.judge, 5)
    assert recorded.manifest["agent"]["observation"] == "features"
    assert Experiment.resumed(Args(resume=tmp_path / "run")).observation == "features"


@pytest.mark.parametrize(
    ("algo", "demos", "given", "expected"),
    [
        ("ppo", "random", "{}", 3e-5),
        ("ppo", "none", "{}", tuned("ppo", False)["learning_rate"]),
        ("ppo", "random", '{"learning_rate": 0.5}', 0.5),
    ],
)
def test_a_data_set_has_its_learning_rate_after_cloning(algo, demos, given, expected, tmp_path, monkeypatch):
    monkeypatch.setitem(presets._BUDGETS, "digits", replace(budget_of("digits"), learning_rate=3e-5))
    args = replace(TOY, algo=algo, demos=demos, hyperparameters=given, observation="history", out=tmp_path)
    assert Experiment.started(args).make_model().learning_rate == expected


def test_whether_the_cloned_weights_were_kept_is_known():
    points = [CurvePoint(steps, 0.5, 1.0, 0.0) for steps in (0, 640)]
    assert State(selected=0, curve=points, cloning={}).kept_as_cloned
    assert not State(selected=640, curve=points, cloning={}).kept_as_cloned
    assert not State(selected=0, curve=points).kept_as_cloned, "nothing was cloned"


def test_steps_between_updates_that_are_given_replace_the_tuned_ones(tmp_path):
    tuned_args = replace(TOY, demos="none", observation="history", rollout=None, out=tmp_path / "tuned")
    assert Experiment.started(tuned_args).make_model().n_steps != 18
    args = replace(tuned_args, hyperparameters='{"n_steps": 18}', out=tmp_path / "given")
    assert Experiment.started(args).make_model().n_steps == 18
    twice = Experiment.started(replace(args, rollout=640, out=tmp_path / "twice"))
    with pytest.raises(ConfigurationError, match="n_steps=18 of --hyperparameters and a rollout both say"):
        twice.make_model()


@pytest.mark.parametrize(("encoder", "expected"), [("convolutional", "history"), (TOY_ENCODER, "features")])
def test_observations_by_default_are_those_of_the_judge_that_will_be_trained(encoder, expected, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "folder", replace(DATASETS["folder"], encoder=encoder))
    root = str(write_tiny_folder(tmp_path / "photos"))
    args = replace(TOY, env="GlimpseFolder-v0", root=root, dataset_options=json.dumps(SMALL_FOLDER))
    assert Experiment.started(replace(args, out=tmp_path / "run")).observation == expected
    asked = replace(args, observation="embedding", out=tmp_path / "asked")
    assert Experiment.started(asked).observation == "embedding"


@pytest.mark.parametrize(
    ("env", "scales", "expected"), [("GlimpseCUBFull-v0", None, 2), ("GlimpseCUB-v0", None, 1), ("GlimpseCUB-v0", 3, 3)]
)
def test_windows_of_a_glimpse_are_those_of_the_environment(tmp_path, env, scales, expected):
    root = str(write_tiny_cub(tmp_path))
    experiment = Experiment.started(replace(TOY, env=env, root=root, scales=scales, out=tmp_path / "run"))
    assert experiment.source.geometry.scales == expected


def test_hand_crafted_demonstrations_need_parts(tmp_path):
    with pytest.raises(ConfigurationError, match="has no parts"):
        run(replace(TOY, demos="hgs", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_demonstrations_of_human_gaze_need_its_files(tmp_path):
    write_tiny_cub(tmp_path)
    human = replace(TOY, env="GlimpseCUB-v0", root=str(tmp_path), demos="human", num_demos=None, out=tmp_path / "run")
    with pytest.raises(ConfigurationError, match="--demos human: human gaze on CUB-200-2011 was not found"):
        Experiment.started(human)
    assert not (tmp_path / "run").exists()
    write_tiny_gaze(tmp_path, {})
    assert Experiment.started(human).args.num_demos == 12
    with pytest.raises(
        ConfigurationError, match="--demos human: human gaze is of CUB-200-2011, not of data set 'digits'"
    ):
        Experiment.started(replace(TOY, demos="human", out=tmp_path / "other"))


def test_without_demonstrations_and_without_fine_tuning(tmp_path):
    out = run(replace(TOY, demos="none", num_demos=None, timesteps=0, algo="a2c", out=tmp_path / "scratch"))
    metrics = read(out)
    assert metrics["demonstrations"] is None
    assert "agent_cloned" not in metrics["policies"]
    assert [point["env_steps"] for point in metrics["curve"]] == [0]
    assert metrics["selection"]["env_steps"] == 0


def test_demonstrations_from_a_file(finished, tmp_path):
    """The file may hold more than are asked for, and is refused where it holds fewer."""
    whole = Experiment(TOY, finished, make_source("digits"), "").demonstrations
    path = tmp_path / "mine.npz"
    whole.save(path)
    args = replace(TOY, demos=str(path), num_demos=10, out=tmp_path / "run")
    fewer = Experiment(args, tmp_path / "run", make_source("digits"), "").cloning_data
    np.testing.assert_array_equal(fewer.taken, whole.locations[:10])
    with pytest.raises(ArtifactError, match="fewer than --num-demos 25"):
        _ = Experiment(replace(args, num_demos=25), tmp_path / "run", make_source("digits"), "").cloning_data
    path.with_suffix(".json").write_text(json.dumps(whole.manifest | {"judge": "another"}))
    with pytest.raises(ArtifactError, match="judge"):
        _ = Experiment(args, tmp_path / "run", make_source("digits"), "").cloning_data


def test_reference_policies_come_from_the_cache_the_second_time(finished, monkeypatch):
    """A run, the benchmark and scripts/compare_policies.py share them."""
    monkeypatch.setattr(comparison, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    experiment = Experiment(TOY, finished, make_source("digits"), "")
    again = experiment.references()
    test = experiment.source.load("test")
    fixed = comparison.kept_evaluation("fixed", experiment.source, experiment.judge, test, choose_images(test, 12))
    assert fixed.to_json() == again["fixed"].to_json()
    assert [entry.to_json() for entry in again.values()] == list(read(finished)["policies"].values())[:5]


def test_a_run_is_never_overwritten(finished, tmp_path):
    with pytest.raises(ConfigurationError, match="finished run; choose another --out"):
        run(replace(TOY, out=finished))
    with pytest.raises(ConfigurationError, match="nothing to go on with"):
        run(Args(resume=finished))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=f"--resume {tmp_path}"):
        run(replace(TOY, out=tmp_path))


def test_a_run_that_was_killed_over_its_pictures_gets_them(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    before = {name: (out / name).read_bytes() for name in PICTURES}
    (out / "episodes.png").unlink()
    load("train_agent").main(Args(resume=out))
    assert {name: (out / name).read_bytes() for name in PICTURES} == before
    with pytest.raises(ConfigurationError, match="nothing to go on with"):
        load("train_agent").main(Args(resume=out))


def test_resume_refuses_other_data_or_another_judge(finished, tmp_path):
    config = read(finished, "config.json")
    (tmp_path / "config.json").write_text(json.dumps(config | {"fingerprint": "other"}))
    with pytest.raises(ArtifactError, match="was begun on data set digits other"):
        run(Args(resume=tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_json(tmp_path / "checkpoint" / "state.json", {"identity": {"judge": "other"}})
    with pytest.raises(ArtifactError, match="other judge"):
        run(Args(resume=tmp_path))


def test_times_are_lines_by_stage_and_part() -> None:
    lines = format_times({"judge": 1.0, "fine-tuning": 3.0, "fine-tuning: environment steps": 0.6}).splitlines()
    assert [line.split() for line in lines] == [
        ["judge", "1.0", "s", "25.0", "%"],
        ["fine-tuning", "3.0", "s", "75.0", "%"],
        ["of", "which", "environment", "steps", "0.6", "s", "20.0", "%"],
        ["total", "4.0", "s"],
    ]


def test_dagger_asks_the_oracle_where_the_agent_gets_to(tmp_path: Path) -> None:
    asked = replace(TOY, demos="dagger", dagger_rounds=2, num_demos=20, timesteps=0, out=tmp_path / "run")
    training = Experiment.started(asked)
    training.clone()
    made = training.demonstrations
    assert made is not None
    assert made.manifest["policy"] == "dagger"
    assert training.cloning_data is not None
    assert (training.cloning_data.targets > 0).sum(-1).min() > 1  # soft: of the maps, not of what was looked at
    again = Experiment.resumed(Args(resume=tmp_path / "run"))
    assert np.array_equal(again.demonstrations.locations, made.locations)
    again.train()
    assert again.state.cloning == training.state.cloning


@pytest.mark.parametrize("given", [{"algo": "dqn", "rollout": None}, {"target_temperature": 0.0}])
def test_dagger_needs_maps_that_can_be_learned_from(given: dict) -> None:
    with pytest.raises(ConfigurationError, match="--demos dagger gives the oracle's maps at states where others act"):
        replace(TOY, demos="dagger", **given)
