"""Files of a run, edited or damaged: they are read as what they are, or are one named error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.evaluation.evaluate import Evaluation
from agents.experiments.ram_curves import Validation, curve_by, read_curve
from agents.experiments.run_folder import State, read_metrics, read_run
from agents.presets import Args, json_object
from agents.reports.episodes import finished_run
from agents.saving import load_agent, save_agent
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError, GlimpseError
from glimpse_env.registration import source_of
from scripts.compare_runs import table
from tests.agents.test_saving import actions_of
from tests.support.fuzz import JSON_JUNK, damaged, edited, json_files, outcome
from tests.support.toy_agents import toy_model

POINT = {"env_steps": 1280, "success": 0.5, "log_loss": 0.7, "seconds": 3.5, "glimpses": 2.5, "returned": 0.25}
WAY = {"accuracy": 0.25, "cross_entropy": 0.9}
STATE = {
    "chunk": 1,
    "selected": 1280,
    "curve": [{**POINT, "env_steps": 0}, POINT],
    "identity": {"judge": "0" * 16, "algorithm": "ppo"},
    "cloning": {"steps": 8, "loss": 0.1},
    "wall_time": {"cloning": 2.0},
}
EVALUATION = Evaluation(
    *("random", "birds", "0" * 16, "test", "1" * 16, "2" * 16),
    outcomes=np.array([True, False, True]),
    log_loss=np.array([0.5, 0.25]),
    entropy=np.array([1.0, 0.5]),
    final_log_loss=np.array([0.1, 0.5, 0.15], dtype=np.float32),
    final_entropy=np.array([0.1, 0.2, 0.3], dtype=np.float32),
    seconds=1.0,
    policy_seconds=0.5,
).to_json()
METRICS = {
    "env": "GlimpseBirds-v0",
    "dataset": {"name": "birds", "fingerprint": "0" * 16},
    "policies": {"random": EVALUATION, "agent": EVALUATION},
    "gap_closed": {"value": 0.5, "interval": [0.25, 0.75]},
    "curve": STATE["curve"],
    "selection": {"rule": "the best", "env_steps": 1280, "validation_images": 3},
}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The settings of a run, as they are written."""
    source = make_source("digits")
    args = {name: value for name, value in vars(Args(env="GlimpseDigits-v0", demos="none")).items() if name != "trust"}
    return {"format": 1, "args": args, "command": "x", "dataset": source.name, "fingerprint": source.fingerprint}


@given(data=st.data())
def test_settings_of_a_run(config: Any, tmp_path: Path, data: st.DataObject) -> None:
    """Those that name other data are refused as such; none names code that is run."""
    (tmp_path / "config.json").write_bytes(data.draw(json_files(config)))
    read, _ = outcome(lambda: read_run(tmp_path, Args(resume=tmp_path)), GlimpseError)
    if read is None:
        return
    args, source, command = read
    assert source.fingerprint == config["fingerprint"]
    assert isinstance(command, str)
    assert str(args.command).startswith("python")


def test_an_empty_root_is_not_the_folder_that_one_is_in(tmp_path: Path) -> None:
    """As a shell gives it for a variable that is not set."""
    with pytest.raises(ConfigurationError, match="root='' must be the path"):
        read_run(tmp_path, Args(resume=tmp_path, root=""))


@given(data=st.data())
def test_states_of_a_run(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(data.draw(json_files(STATE)))
    state, refusal = outcome(lambda: State.load(path), ArtifactError)
    if state is None:
        assert str(path) in refusal
        return
    assert max((point.score for point in state.curve), default=0.0) is not None
    assert sum(state.wall_time.values()) is not None
    assert (state.chunk or 0) >= 0


@given(data=st.data())
def test_states_of_the_papers_experiment(tmp_path: Path, data: st.DataObject) -> None:
    path, point = (
        tmp_path / "state.json",
        {"iterations": 20, "accuracy": 0.5, "cross_entropy": 0.7, "seconds": 1.5, "ways": {"sampled": WAY}},
    )
    path.write_bytes(data.draw(json_files({"iterations": 20, "curve": [point, point]})))
    curve, refusal = outcome(lambda: read_curve(path), ArtifactError)
    if curve is None:
        assert str(path) in refusal
        return
    assert all(isinstance(one, Validation) and one.accuracy + one.cross_entropy is not None for one in curve)
    assert len(curve_by(curve, "sampled")) in (0, len(curve))


@given(data=st.data())
def test_metrics_in_a_table(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "metrics.json").write_bytes(data.draw(json_files(METRICS)))
    metrics, refusal = outcome(lambda: read_metrics(tmp_path), ArtifactError)
    if metrics is None:
        assert f"{tmp_path} holds no finished run" in refusal
        return
    assert table([metrics, METRICS]).startswith("| success on test images |")
    finished, refusal = outcome(lambda: finished_run(tmp_path), ArtifactError)
    assert finished is not None or f"{tmp_path} holds no finished run" in refusal


@given(data=st.data())
def test_evaluations(data: st.DataObject) -> None:
    content = data.draw(edited(EVALUATION))
    evaluation, _ = outcome(lambda: Evaluation.from_json(content), ArtifactError, ConfigurationError)
    if evaluation is None:
        return
    assert 0 <= evaluation.success_rate <= 1
    assert json.dumps(evaluation.to_json())
    assert len(evaluation.returns(0.1)) == len(evaluation.outcomes)
    assert evaluation.milliseconds is not None


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "model.json"
    save_agent(toy_model("ppo"), path)
    return path


@given(data=st.data())
def test_cards_of_agents(agent: Path, tmp_path: Path, data: st.DataObject) -> None:
    content, weights = agent.read_bytes(), agent.with_suffix(".safetensors").read_bytes()
    (tmp_path / "model.json").write_bytes(data.draw(json_files(json.loads(content))))
    (tmp_path / "model.safetensors").write_bytes(weights)
    loaded, refusal = outcome(lambda: load_agent(tmp_path), ArtifactError)
    assert "model" in refusal if loaded is None else len(actions_of(loaded)) > 0


@given(data=st.data())
def test_weights_of_agents(agent: Path, tmp_path: Path, data: st.DataObject) -> None:
    weights = agent.with_suffix(".safetensors").read_bytes()
    damage = data.draw(damaged(weights))
    (tmp_path / "model.json").write_bytes(agent.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(damage)
    if damage == weights:
        return
    with pytest.raises(ArtifactError, match="model"):
        load_agent(tmp_path)


TEXTS = st.one_of(st.text(max_size=20), JSON_JUNK.map(json.dumps), st.just("[" * 5000), st.just("9" * 5000))


@given(text=TEXTS)
@example(text='{"num_glimpses": 1e400}')
@example(text='{"seed": NaN}')
def test_data_set_options_as_text(text: str) -> None:
    """Digits take any seed and number of glimpses."""
    source, _ = outcome(lambda: source_of("GlimpseDigits-v0", dataset_options=text), ConfigurationError)
    assert source is None or len(source.fingerprint) == 16


@given(text=TEXTS)
def test_hyperparameters_as_text(text: str) -> None:
    content, refusal = outcome(lambda: json_object("--hyperparameters", text), ConfigurationError)
    assert "--hyperparameters" in refusal if content is None else isinstance(content, dict)
