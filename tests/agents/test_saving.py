"""Agents in files: the same agent comes back, it trains on as if never stopped, and no file of others runs code."""

import base64
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO

import agents
from agents.as_json import from_json, space_from_json, space_to_json, to_json
from agents.registry import ALGORITHMS, ARCHITECTURES, algorithm_of
from agents.saving import copy_agent, load_agent, restore_agent, save_agent
from glimpse_env.errors import ArtifactError, ConfigurationError, UntrustedFileError
from glimpse_env.files import digest
from tests.agents.algorithms import test_dqfd
from tests.agents.ram import test_algorithm as test_ram
from tests.support.toy_agents import OBSERVATIONS, STEPS, random_data, state_observations, toy_env_showing, toy_model

RAM_KINDS: dict[str, dict[str, Any]] = {
    "ram": {},
    "ws-ram": {"wake_sleep": 4},
    "ws-ram-map": {"wake_sleep": 4, "control_variates": True, "exploration": 0.2, "proposal_map": True},
    "averaged": test_ram.AVERAGED,
}


def trained(kind: str) -> Any:
    """An agent of each kind that has learned a little."""
    if kind in RAM_KINDS:
        return test_ram.train(test_ram.ram(**RAM_KINDS[kind]), 2)
    if kind == "dqfd":
        model: Any = test_dqfd.with_demonstrations(test_dqfd.make_model("dqn"))
        model.pretrain(3, progress=False)
        return model
    return toy_model(kind).learn(STEPS * 8)


def actions_of(model: Any) -> np.ndarray:
    """What a model does, deterministically, in many states."""
    if hasattr(model, "look"):
        return model.look(test_ram.marked(60, seed=9), np.arange(60)).locations
    observations: Any = {key: value.numpy() for key, value in state_observations(random_data()).items()}
    return model.predict(observations, deterministic=True)[0]


def same_policy(first: Any, second: Any) -> bool:
    one, two = first.policy.state_dict(), second.policy.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", [*ALGORITHMS, "dqfd", *RAM_KINDS])
def test_an_agent_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    model = trained(kind)
    save_agent(model, tmp_path / "model.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"model.zip", "model.safetensors", "model.json"}
    for path in (tmp_path, *tmp_path.iterdir()):
        loaded = agents.load_agent(path)
        assert type(loaded) is type(model)
        assert same_policy(model, loaded)
        assert loaded.observation_space == model.observation_space
        assert loaded.action_space == model.action_space
        assert loaded.num_timesteps == model.num_timesteps
        np.testing.assert_array_equal(actions_of(model), actions_of(loaded))


@pytest.mark.parametrize("kind", ["ppo", "dqn", "recurrent_ppo", "ram"])
def test_a_copy_acts_the_same_and_has_no_optimiser(kind: str, tmp_path: Path) -> None:
    model = trained(kind)
    save_agent(model, tmp_path / "model.zip")
    for path in (tmp_path, tmp_path / "copy" / "model.safetensors"):  # a copy of a copy too
        copy_agent(path, tmp_path / "copy" / "model.json")
        assert {file.name for file in (tmp_path / "copy").iterdir()} == {"model.json", "model.safetensors"}
        loaded = load_agent(tmp_path / "copy")
        assert same_policy(model, loaded)
        np.testing.assert_array_equal(actions_of(model), actions_of(loaded))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "copy", tmp_path)]
    assert sizes[0] < 0.6 * sizes[1]
    card = json.loads((tmp_path / "copy" / "model.json").read_text())
    card["same"] = {"policy/nothing": "policy/none"}
    (tmp_path / "copy" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ArtifactError):
        load_agent(tmp_path / "copy")


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_comes_back(architecture: str, observation: str, tmp_path: Path) -> None:
    model: Any = toy_model(architecture=architecture, env=toy_env_showing(observation))
    save_agent(model, tmp_path / "model.json")
    assert not (tmp_path / "model.zip").exists()
    assert json.loads((tmp_path / "model.json").read_text())["architecture"] == architecture
    assert same_policy(model, load_agent(tmp_path / "model.json"))


def test_settings_of_ones_own_come_back(tmp_path: Path) -> None:
    kwargs = {
        "net_arch": {"pi": [8], "vf": [9]},
        "activation_fn": torch.nn.Tanh,
        "optimizer_class": torch.optim.SGD,
        "features_extractor_kwargs": {"hidden": 11},
    }
    model: Any = toy_model("a2c", policy_kwargs=kwargs, gamma=0.5).learn(STEPS * 8)
    save_agent(model, tmp_path / "model.json")
    loaded: Any = load_agent(tmp_path)
    assert loaded.gamma == 0.5
    assert isinstance(loaded.policy.optimizer, torch.optim.SGD)
    np.testing.assert_array_equal(actions_of(model), actions_of(loaded))


@pytest.mark.parametrize("kind", ["ppo", "a2c", "recurrent_ppo", "maskable_ppo"])
def test_a_restored_agent_trains_on_as_if_never_stopped(kind: str, tmp_path: Path) -> None:
    whole: Any = toy_model(kind).learn(STEPS * 8)
    save_agent(whole, tmp_path / "model.json")
    restored: Any = toy_model(kind)
    restore_agent(restored, tmp_path / "model.json")
    assert list(restored.ep_success_buffer) == list(whole.ep_success_buffer)
    groups = [model.policy.optimizer.state_dict()["param_groups"] for model in (whole, restored)]
    assert repr(groups[0]) == repr(groups[1])  # tuples among them, so that zips have the same bytes
    for model in (whole, restored):
        model.set_random_seed(4)
        model.set_env(model.get_env(), force_reset=True)
        model.get_env().seed(4)
        model.learn(STEPS * 8, reset_num_timesteps=False)
    assert restored.num_timesteps == whole.num_timesteps == 2 * STEPS * 8
    assert restored._n_updates == whole._n_updates
    assert same_policy(whole, restored)


def test_a_restored_ram_trains_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = test_ram.train(test_ram.ram(**test_ram.AVERAGED), 3)
    save_agent(whole, tmp_path / "model.json")
    restored = test_ram.ram(**test_ram.AVERAGED)
    restore_agent(restored, tmp_path / "model.json")
    assert restored.iterations == 3
    assert same_policy(test_ram.train(whole, 3), test_ram.train(restored, 3))


# --- what others sent


class Payload:
    """Runs code when it is unpickled: it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.marker, "ran")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that is there once somebody's code has run."""
    return tmp_path / "marker"


@pytest.fixture
def malicious(tmp_path: Path, marker: Path) -> Path:
    """An SB3 zip, in the folder of a run, with a payload in place of its policy class."""
    run = tmp_path / "run"
    run.mkdir()
    toy_model().save(tmp_path / "honest.zip")
    with zipfile.ZipFile(tmp_path / "honest.zip") as honest, zipfile.ZipFile(run / "model.zip", "w") as changed:
        for name in honest.namelist():
            content = honest.read(name)
            if name == "data":
                data = json.loads(content)
                data["policy_class"][":serialized:"] = base64.b64encode(cloudpickle.dumps(Payload(marker))).decode()
                content = json.dumps(data).encode()
            changed.writestr(name, content)
    (run / "config.json").write_text(json.dumps({"args": {"algo": "ppo"}}))
    return run / "model.zip"


def test_a_zip_runs_no_code_unless_it_is_trusted(malicious: Path, marker: Path) -> None:
    for path in (malicious, malicious.parent):
        with pytest.raises(UntrustedFileError, match=r"model\.zip .* runs the code in it; pass trust=True \(--trust\)"):
            load_agent(path)
    assert not marker.exists()
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_agent(malicious, trust=True)
    assert marker.exists(), "the payload is one"


def test_a_zip_beside_its_card_is_not_opened(malicious: Path, marker: Path) -> None:
    save_agent(toy_model(), malicious.with_suffix(".json"))
    with pytest.raises(ArtifactError, match=r"model\.zip is not the file that model\.json was written for"):
        load_agent(malicious)
    card = json.loads(malicious.with_suffix(".json").read_text()) | {"zip": digest(malicious.read_bytes())}
    malicious.with_suffix(".json").write_text(json.dumps(card))
    for path in (malicious, malicious.parent):
        assert same_policy(toy_model(), load_agent(path, trust=True))
    assert not marker.exists()


def test_a_zip_that_is_trusted_is_read(tmp_path: Path) -> None:
    model: Any = toy_model().learn(STEPS * 8)
    model.save(tmp_path / "mine.zip")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        load_agent(tmp_path / "mine.zip", trust=True)
    assert same_policy(model, load_agent(tmp_path / "mine.zip", trust=True, algo="ppo"))


def test_code_that_a_card_names_is_not_run_unless_it_is_trusted(
    tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = "from agents.algorithms.on_policy import PPO_ALGORITHM as ALGORITHM"
    code = f"from pathlib import Path\n{algorithm}\nPath({str(marker)!r}).touch()\n"
    for name in ("sent.py", "sent_along.py"):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for change in ({"algo": str(tmp_path / "sent.py")}, {"algo": "sent_along:ppo"}, {"architecture": "sent_along:gru"}):
        marker.unlink(missing_ok=True)
        save_agent(toy_model(), tmp_path / "model.json")
        card = json.loads((tmp_path / "model.json").read_text()) | change
        (tmp_path / "model.json").write_text(json.dumps(card))
        with pytest.raises(UntrustedFileError, match=r"looking that up runs its code"):
            load_agent(tmp_path)
        assert not marker.exists()
        assert same_policy(toy_model(), load_agent(tmp_path, trust=True))
        assert marker.exists()
        load_agent(tmp_path)  # it has been run
        sys.modules.pop("sent_along", None)


def test_a_file_that_was_named_by_hand_may_be_named_by_a_card(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from agents.algorithms.on_policy import PPO_ALGORITHM as ALGORITHM")
    save_agent(toy_model(), tmp_path / "model.json", algo=str(path))
    with pytest.raises(UntrustedFileError, match=r"mine\.py"):
        load_agent(tmp_path)
    algorithm_of(str(path))
    assert same_policy(toy_model(), load_agent(tmp_path))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda card: [], "is no agent"),
        (lambda card: card | {"format": 2}, "has format 2, not 1"),
        (lambda card: {**card, "weights": "0" * 16}, "was written for"),
        (lambda card: {**card, "algo": "trpo"}, "must be one of"),
        (lambda card: {**card, "algo": ["ppo"]}, "is no card of an agent"),
        (lambda card: {**card, "architecture": "lstm"}, "must be one of"),
        (lambda card: {**card, "policy_kwargs": {}}, "is no card of an agent"),
        (lambda card: {**card, "policy_kwargs": {"activation_fn": {"class": "os.system"}}}, "is no class of a network"),
        (lambda card: {**card, "action_space": {"discrete": 3, "start": 0}}, "is no card of an agent"),
        (lambda card: {**card, "observation_space": None}, "is no card of an agent"),
        (lambda card: {**card, "attributes": None}, "is no card of an agent"),
        (lambda card: {name: value for name, value in card.items() if name != "optimisers"}, "does not fit"),
        (lambda card: {**card, "policy_kwargs": {**card["policy_kwargs"], "net_arch": {"pi": [3]}}}, "does not fit"),
    ],
)
def test_damaged_cards_are_named(change: Callable[[dict[str, Any]], Any], match: str, tmp_path: Path) -> None:
    save_agent(toy_model(), tmp_path / "model.json")
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(change(card)))
    with pytest.raises(ArtifactError, match=match):
        load_agent(tmp_path / "model.json")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    save_agent(toy_model(), tmp_path / "model.json")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: value + 1 for name, value in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not the file that model\.json was written for"):
        load_agent(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="FileNotFoundError"):
        load_agent(tmp_path)
    for content in ("{", "[" * 100_000):
        (tmp_path / "model.json").write_text(content)
        with pytest.raises(ArtifactError, match="is no agent"):
            load_agent(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ArtifactError, match="there is no such file"):
        load_agent(tmp_path)


def test_an_attribute_that_is_no_number_of_the_model_is_left_alone(tmp_path: Path) -> None:
    save_agent(toy_model(), tmp_path / "model.json")
    path = tmp_path / "model.json"
    card = json.loads(path.read_text())
    card["attributes"] |= {"predict": 1, "tensorboard_log": "/tmp/elsewhere", "policy_class": "str", "gamma": 0.25}
    path.write_text(json.dumps(card))
    model: Any = load_agent(path)
    assert callable(model.predict)
    assert model.tensorboard_log is None
    assert model.gamma == 0.25


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    class Own(torch.nn.ReLU):
        pass

    with pytest.raises(ConfigurationError, match="cannot be kept as JSON"):
        save_agent(toy_model(policy_kwargs={"activation_fn": Own}), tmp_path / "model.json")
    with pytest.raises(ConfigurationError, match="no algorithm with the class PPO is registered"):
        save_agent(PPO("MlpPolicy", "CartPole-v1", device="cpu"), tmp_path / "model.json")
    assert not list(tmp_path.iterdir())


# --- as JSON


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (3, 2), np.float32),
        spaces.Box(np.array([0.1, -2.0], np.float32), np.array([1.0, np.inf], np.float32)),
        spaces.Box(0, 255, (4, 4, 1), np.uint8),
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(6),
        spaces.Dict(b=spaces.Discrete(2), a=spaces.MultiBinary(1)),
    ],
)
def test_spaces_come_back(space: spaces.Space) -> None:
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space
    assert again.dtype == space.dtype


def test_settings_come_back() -> None:
    settings = {"a": [1, 2.5, None, True], "b": {"c": "text"}, "d": torch.nn.ReLU, "e": torch.optim.AdamW}
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings
    assert to_json({"x": (np.float32(0.5), np.int64(3))}) == {"x": [0.5, 3]}
    for refused in (spaces.Discrete, len, object()):
        with pytest.raises(ConfigurationError, match="cannot be kept as JSON"):
            to_json({"x": refused})
    with pytest.raises(ConfigurationError, match="cannot be kept as JSON"):
        space_to_json(spaces.Text(3))
