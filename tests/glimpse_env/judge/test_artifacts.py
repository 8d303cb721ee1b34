"""Artefacts: a card that fits its weights, or none; damage of any kind is one named exception."""

import contextlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glimpse_env.datasets.digits import Digits
from glimpse_env.errors import ArtifactError, JudgeNotFoundError, OracleNotFoundError
from glimpse_env.files import file_digest
from glimpse_env.judge.judge import JUDGES, Judge, find_judge, judge_path
from oracles.amortised.oracle import AmortisedOracle, find_oracle, oracle_path
from oracles.presets import PRESETS, Preset
from oracles.training.judge import ensure_judge
from oracles.training.posterior import NetworkTrainer
from tests.support.toy import toy_judge, toy_oracle


def edit(path: Path, **changes: Any) -> None:
    """Changes entries of a card; None removes one."""
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) | changes
    card = {name: value for name, value in card.items() if value is not ...}
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a toy judge."""
    toy_judge().save(tmp_path / "judge.safetensors")
    return tmp_path / "judge.safetensors"


CARDS: list[dict[str, Any]] = [
    {"num_glimpses": ...},
    {"surprise": 1},
    {"config": None},
    {"config": []},
    {"config": {"glimpse_size": 12}},
    {"image_size": "40"},
    {"image_size": 3},
    {"image_size": 10**400},
    {"scales": 0},
    {"scales": 3},
    {"num_glimpses": 0},
    {"num_glimpses": 5},
    {"num_networks": 0},
    {"num_networks": 1},
    {"num_networks": 10**9},
    {"num_networks": True},
    {"temperatures": [[1.0] * 5, [1.0] * 4]},
    {"temperatures": [[1.0] * 5]},
    {"temperatures": [1.0, 1.0]},
    {"temperatures": [[1.0, 1.0, 1.0, 1.0, 0.0], [1.0] * 5]},
    {"temperatures": [[1.0] * 5, [-1.0] * 5]},
    {"temperatures": [[1.0] * 5, [math.nan] * 5]},
    {"temperatures": [[1.0] * 5, [math.inf] * 5]},
    {"splits": ["train"]},
    {"scores": {"random_accuracy": "high"}},
    {"format": 2},
    {"weights_digest": "0" * 32},
]


@pytest.mark.parametrize("changes", CARDS, ids=lambda changes: json.dumps({k: str(v)[:20] for k, v in changes.items()}))
def test_wrong_cards_are_one_exception(path: Path, changes: dict[str, Any]) -> None:
    edit(path, **changes)
    with pytest.raises(ArtifactError, match=r"judge at .*judge\.safetensors"):
        Judge.load(path)


@pytest.mark.parametrize("value", [None, "x", 0, -1, math.nan, math.inf, 10**9, [], {}])
def test_wrong_shapes_of_networks_are_one_exception(path: Path, value: Any) -> None:
    config = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["config"]
    for name in config:
        if (name, value) != ("num_parts", 0):
            edit(path, config=config | {name: value})
            with pytest.raises(ArtifactError, match="judge at"):
                Judge.load(path)


@pytest.mark.parametrize("content", ["[]", "null", "", "{", "\ufeff{}", "\x00"])
def test_cards_that_are_none_are_one_exception(path: Path, content: str) -> None:
    path.with_suffix(".json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match="judge at"):
        Judge.load(path)


@pytest.mark.parametrize("damage", ["nan", "inf", "dtype", "shape", "missing", "more"])
@pytest.mark.parametrize("digest", [True, False])
def test_wrong_weights_are_one_exception(path: Path, damage: str, digest: bool) -> None:
    """Whether a card has their digest or not; one with the digest of damaged weights does not help either."""
    tensors = load_file(path)
    name = "1.head.1.weight"
    if damage in ("nan", "inf"):
        tensors[name][0, 0] = math.nan if damage == "nan" else math.inf
    elif damage == "dtype":
        tensors[name] = tensors[name].to(torch.int64)
    elif damage == "shape":
        tensors[name] = tensors[name][None].contiguous()
    elif damage == "missing":
        del tensors[name]
    else:
        tensors["2.head.1.weight"] = tensors[name].clone()
    save_file(tensors, path)
    edit(path, weights_digest=file_digest(path) if digest else ...)
    with pytest.raises(ArtifactError, match="cannot be read"):
        Judge.load(path)


def test_paths_that_cannot_be_read_are_named(path: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path / ("x" * 5000), tmp_path, Path(), Path("/"), Path("a\0b")):
        with pytest.raises((ArtifactError, JudgeNotFoundError), match="judge"):
            Judge.load(wrong)


def test_new_weights_never_have_an_old_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies at any rename leaves the old artefact, none, or the new one."""
    path = tmp_path / "judge.safetensors"
    old, new = toy_judge(seed=0), toy_judge(seed=1)
    seen, replace = set(), os.replace
    for dies_at in range(3):
        old.save(path)
        renamed: list[Path] = []

        def dying(source: Path, target: Path, dies_at: int = dies_at, renamed: list[Path] = renamed) -> None:
            if len(renamed) == dies_at:
                raise KeyboardInterrupt
            renamed.append(target)
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", dying)
            with contextlib.suppress(KeyboardInterrupt):
                new.save(path)
        try:
            seen.add({old.identity: "old", new.identity: "new"}[Judge.load(path).identity])
        except JudgeNotFoundError:
            seen.add("none")
    assert seen == {"none", "new"}


def test_an_old_card_has_no_digest_and_is_taken(path: Path) -> None:
    edit(path, weights_digest=...)
    assert Judge.load(path).identity == toy_judge().identity


def digits_judge(seed: int = 0) -> Judge:
    source = Digits()
    return toy_judge(
        source.geometry, num_classes=10, num_networks=source.num_folds, fingerprint=source.fingerprint, seed=seed
    )


@pytest.mark.parametrize("damage", ["no card", "no weights", "other weights", "cut", "image size", "list"])
def test_what_does_not_fit_in_the_cache_counts_as_none(
    damage: str, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the judge is trained again; the one that ships with the package is for other options."""
    source = Digits()
    path = judge_path(source)
    digits_judge().save(path)
    monkeypatch.setitem(PRESETS, "digits", Preset())
    monkeypatch.setattr(NetworkTrainer, "run", lambda *_: None)
    monkeypatch.setattr("oracles.training.judge.calibrated", lambda *_: digits_judge(5))
    monkeypatch.setattr("glimpse_env.judge.judge.JUDGES", type(JUDGES)(**{**vars(JUDGES), "shipped": ("oracles", "x")}))
    if damage == "no card":
        path.with_suffix(".json").unlink()
    elif damage == "no weights":
        path.unlink()
    elif damage == "other weights":
        digits_judge(1).save(path.with_name("other.safetensors"))
        shutil.copy(path.with_name("other.safetensors"), path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "image size":
        edit(path, image_size=32)
    else:
        path.with_suffix(".json").write_text("[]", encoding="utf-8")
    with pytest.raises(JudgeNotFoundError, match=r"train_judge\.py"):
        find_judge(source)
    if damage != "no weights":
        assert "counts as none" in caplog.text
        assert str(path) in caplog.text
    if damage in ("no card", "cut"):
        assert ensure_judge(source).identity == digits_judge(5).identity == find_judge(source).identity


def test_a_cache_that_is_a_file_has_no_judge(fresh_cache: Path) -> None:
    fresh_cache.write_text("a file")
    with pytest.raises(JudgeNotFoundError, match=r"train_judge\.py"):
        find_judge(Digits(seed=5))
    assert find_judge(Digits()).card.dataset == "digits", "one comes with the package"


def test_a_damaged_shipped_judge_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Digits()
    (tmp_path / "broken" / "judges").mkdir(parents=True)
    (tmp_path / "broken" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "broken" / "judges" / "digits-x1.safetensors"
    digits_judge().save(path)
    path.write_bytes(b"")
    monkeypatch.setattr(
        "glimpse_env.judge.judge.JUDGES", type(JUDGES)(**{**vars(JUDGES), "shipped": ("broken", "judges")})
    )
    with pytest.raises(ArtifactError, match="cannot be read"):
        find_judge(source)


def test_amortised_oracles_alike(fresh_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, judge = Digits(), digits_judge()
    path = oracle_path(source, judge, "next")
    for changes in ({"relative": -1}, {"relative": 10**9}, {"horizon": "soon"}, {"plan": 3}, {"num_glimpses": 2}):
        toy_oracle(judge).save(path)
        edit(path, **changes)
        with pytest.raises(ArtifactError, match="amortised oracle at"):
            AmortisedOracle.load(path)
        with pytest.raises(OracleNotFoundError):
            find_oracle(source, judge, "next")
        assert str(path) in caplog.text
        caplog.clear()
    toy_oracle(judge).save(path)
    assert find_oracle(source, judge, "next").card.horizon == "next"
    shutil.copy(path, oracle_path(source, judge, "last"))
    shutil.copy(path.with_suffix(".json"), oracle_path(source, judge, "last").with_suffix(".json"))
    with pytest.raises(OracleNotFoundError):
        find_oracle(source, judge, "last")
