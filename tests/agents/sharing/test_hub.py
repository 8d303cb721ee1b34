"""What is pushed comes back from a hub on the loopback, and nothing of others is fetched, read or run that could do
harm."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import agents
from agents.saving import save_agent
from agents.sharing.bundle import open_bundle, without_folders, write_bundle
from agents.sharing.hub import is_pulled, pull, push
from agents.shipped import shipped_agent
from glimpse_env.datasets import make_source
from glimpse_env.errors import ArtifactError, ConfigurationError, GlimpseError, HubError, UntrustedFileError
from glimpse_env.files import read_json, write_json
from glimpse_env.judge.judge import Judge, judge_path
from oracles.amortised.oracle import AmortisedOracle, oracle_path
from oracles.demonstrations import Demonstrations, generate
from tests.agents.test_saving import Payload
from tests.support.commands import glimpse
from tests.support.toy import write_toy_judge
from tests.support.toy_agents import toy_model
from tests.support.toy_hub import TOKEN, ToyHub, toy_hub, use_hub

huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install -c constraints.txt -e '.[hub]'")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own uploads
REPO = "me/looks"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ToyHub]:
    """An empty hub, a token for it, and an empty folder to work in."""
    with toy_hub() as hub:
        use_hub(hub, monkeypatch, tmp_path / "hub")
        monkeypatch.chdir(tmp_path)
        yield hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with an agent, its settings with folders of this machine in them, and figures."""
    folder = tmp_path / "home" / "run"
    save_agent(toy_model(), folder / "model.zip")
    card = read_json(shipped_agent("GlimpseDigits-v0") / "metrics.json")
    write_json(folder / "metrics.json", card | {"command": "python scripts/train_agent.py --root /home/me/photos"})
    config = read_json(shipped_agent("GlimpseDigits-v0") / "config.json")
    config["args"] |= {"root": "/home/me/photos", "demos": "/home/me/demos.npz"}
    write_json(folder / "config.json", config)
    (folder / "episodes.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_an_agent_goes_there_and_back(hub: ToyHub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    glimpse("push", str(run), REPO)
    assert capsys.readouterr().out == f"{hub.url}/{REPO}\n"
    files = hub.repos[f"models/{REPO}"].files
    names = {"README.md", "config.json", "episodes.png", "metrics.json", "model.json", "model.safetensors"}
    assert files.keys() == names
    assert not re.search(b"/home|photos/|me/demos", b"".join(files.values()))
    page = files["README.md"].decode()
    assert page.startswith("---\ntags:\n- glimpse-env\n")
    assert "| **agent, fine-tuned** | 94.4 % (92.9 to 95.7) |" in page
    for told in ("ebcdcb2177029993", "7b7aa6e6d64ac7fb", "--root photos", "![Episodes", "One seed, 0."):
        assert told in page
    glimpse("pull", REPO)
    assert capsys.readouterr().out == "agent: runs/looks\n"
    assert {path.name for path in (tmp_path / "runs" / "looks").iterdir()} == names
    before, after = (agents.load_agent(folder).policy.state_dict() for folder in (run, tmp_path / "runs" / "looks"))
    assert all((before[name] == after[name]).all() for name in before)
    with pytest.raises(SystemExit, match="ConfigurationError: --out runs/looks is there already"):
        glimpse("pull", REPO)
    push(run, REPO, message="again")  # into the repository that is there
    assert hub.repos[f"models/{REPO}"].messages[-1:] in (["again"], ["Agent of glimpse-env"])


def test_judges_oracles_and_demonstrations_go_there_and_back(
    hub: ToyHub, tmp_path: Path, fresh_cache: Path, capsys: pytest.CaptureFixture
) -> None:
    source = make_source("digits")
    path = write_toy_judge(source)
    judge = Judge.load(path)
    generate("random", source, judge, 5, out=tmp_path / "demos.npz")
    scored = oracle_path(source, judge, "next")
    for kind, file in (("judge", judge_path(source)), ("oracle", scored), ("demonstrations", tmp_path / "demos.npz")):
        push(file, f"me/{kind}", private=True)
        bundle, left_out = pull(f"me/{kind}", tmp_path / kind)
        assert (bundle.kind, left_out) == (kind, [])
        assert bundle.main.read_bytes() == file.read_bytes()
    assert Judge.load(tmp_path / "judge" / "judge.safetensors").identity == judge.identity
    oracle = AmortisedOracle.load(tmp_path / "oracle" / "oracle.safetensors")
    assert oracle.identity == AmortisedOracle.load(scored).identity
    assert len(Demonstrations.load(tmp_path / "demonstrations" / "demonstrations.npz")) == 5
    assert set(hub.repos) == {"models/me/judge", "models/me/oracle", "datasets/me/demonstrations"}
    assert all(repo.private for repo in hub.repos.values())
    page = (tmp_path / "judge" / "README.md").read_text()
    assert 'gym.make("GlimpseDigits-v0", judge="runs/judge/judge.safetensors")' in page
    assert f"| judge | {judge.identity} |" in (tmp_path / "oracle" / "README.md").read_text()
    glimpse("push", str(path), REPO, "--out", "kept")
    assert capsys.readouterr().out == "kept\n"
    assert {file.name for file in Path("kept").iterdir()} == {"README.md", "judge.json", "judge.safetensors"}
    assert f"models/{REPO}" not in hub.repos


THERE_AND_BACK = """
import sys
from agents.sharing.hub import pull, push
from pathlib import Path

push(sys.argv[1], "me/looks")
print(pull("me/looks", Path("pulled"))[0].kind)
"""


def test_files_go_by_the_store_that_the_hub_has(hub: ToyHub, run: Path, tmp_path: Path) -> None:
    """By hf_xet, which huggingface_hub uploads with where it is installed, in a process of its own for its threads."""
    pytest.importorskip("hf_xet")
    variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", THERE_AND_BACK, str(run)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "agent\n"
    repo = hub.repos[f"models/{REPO}"]
    assert repo.stored.keys() == {"model.safetensors", "episodes.png"}
    for name, digest in repo.stored.items():
        assert hashlib.sha256((tmp_path / "pulled" / name).read_bytes()).hexdigest() == digest
    assert hub.objects == {}


HOSTILE = (
    "model.zip",
    "model.pkl",
    "code.py",
    ".hidden.json",
    "deep/model.json",
    "../outside.json",
    "/outside.json",
    "..\\outside.json",
    "a b.json",
    "lone.npz/../x.json",
)


def test_files_that_could_do_harm_are_not_fetched(hub: ToyHub, run: Path, tmp_path: Path) -> None:
    push(run, REPO)
    payload = pickle.dumps(Payload(tmp_path / "marker"))
    hub.repos[f"models/{REPO}"].files |= dict.fromkeys(HOSTILE, payload)
    bundle, left_out = pull(REPO, tmp_path / "in" / "pulled")
    assert left_out == sorted(HOSTILE)
    assert not set(hub.fetched) & set(HOSTILE)
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"pulled"}
    agents.load_agent(bundle.main)
    assert not (tmp_path / "marker").exists()
    assert not any(map(is_pulled, HOSTILE))


def pickled(marker: Path) -> bytes:
    """A NumPy archive with an object in it, which NumPy unpickles only where it is allowed to."""
    file = io.BytesIO()
    np.savez(file, indices=np.array([Payload(marker)], dtype=object))
    return file.getvalue()


def test_what_is_damaged_or_pickled_leaves_nothing(hub: ToyHub, run: Path, tmp_path: Path) -> None:
    push(run, REPO)
    repo = hub.repos[f"models/{REPO}"]
    honest = dict(repo.files)
    marker = tmp_path / "marker"
    for name, content in {
        "recordings.npz": pickled(marker),
        "model.safetensors": pickle.dumps(Payload(marker)),
        "model.json": b"{}",
        "metrics.json": b"[",
        "judge.safetensors": honest["model.safetensors"],
    }.items():
        repo.files = {**honest, name: content}
        with pytest.raises(ArtifactError):
            pull(REPO, tmp_path / "in" / "pulled")
        assert list((tmp_path / "in").iterdir()) == []
    repo.files = {"README.md": b"nothing"}
    with pytest.raises(ArtifactError, match=r"^the repository me/looks holds nothing where one of model\.json"):
        pull(REPO, tmp_path / "in" / "pulled")
    assert not marker.exists()
    card = json.loads(honest["model.json"]) | {"algo": "evil_module:algo"}
    repo.files = {**honest, "model.json": json.dumps(card).encode()}
    bundle, _ = pull(REPO, tmp_path / "in" / "pulled")  # nothing is looked up to check it
    with pytest.raises(UntrustedFileError):
        agents.load_agent(bundle.main)


def test_mistakes_are_named(hub: ToyHub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="there is no repository me/nothing"):
        pull("me/nothing", tmp_path / "x")
    for repo in ("nothing", "a/b/c", "../x", "a/..", "a b/c", "https://x/y", "me/.x"):
        with pytest.raises(ConfigurationError, match="is no name of a repository"):
            pull(repo, tmp_path / "x")
    with pytest.raises(ConfigurationError, match="there is nothing at nowhere"):
        push("nowhere", REPO)
    shutil.copy(run / "model.zip", tmp_path / "alone.zip")
    with pytest.raises(ConfigurationError, match="in a zip alone is not passed on"):
        push(tmp_path / "alone.zip", REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match="log in with `hf auth login` or set HF_TOKEN"):
        push(run, REPO)
    assert hub.repos == {}


def test_a_hub_that_cannot_be_reached_is_named(hub: ToyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="the Hub did not do it"):
        pull(REPO, tmp_path / "x")


def test_a_bundle_is_one_thing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    bundle = write_bundle(run, tmp_path / "out", pictures=False)
    assert bundle.pictures == []
    bundle.check()
    assert "outcomes" in bundle.read("metrics.json")["policies"]["agent"]
    assert "outcomes" not in bundle.read("metrics.json")["policies"]["oracle"]
    (tmp_path / "out" / "demonstrations.npz").write_bytes(b"")
    with pytest.raises(GlimpseError, match="holds agent and demonstrations"):
        open_bundle(tmp_path / "out")
    assert without_folders("a --root /x/y z '~/a b'") == "a --root y z 'a b'"
