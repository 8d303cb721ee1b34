"""The cache is listed and cleared: what is ours, and nothing else."""

import re
from pathlib import Path

import pytest

from glimpse_env.console.cache import ASKED_FOR, KINDS, clear, in_words, usage
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import only_process
from tests.scripts.test_scripts import call
from tests.support.commands import ROOT


@pytest.fixture
def cache(fresh_cache: Path) -> Path:
    """A cache with a file of 10 bytes of each kind, and a lock that nobody holds."""
    for kind in KINDS:
        (fresh_cache / kind / "birds").mkdir(parents=True)
        (fresh_cache / kind / "birds" / "file.npy").write_bytes(b"0123456789")
    with only_process([fresh_cache / "arrays" / "birds"]):
        pass
    return fresh_cache


def test_kinds_are_the_folders_that_the_code_names() -> None:
    named = set()
    for package in ("glimpse_env", "oracles", "agents"):
        for file in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r'cache_folder\(\)\s+/ "([\w-]+)"', file.read_text(encoding="utf-8")))
    kinds = re.findall(r'(?:"(judges)", \(|"(oracles)", \()', (ROOT / "glimpse_env/judge/judge.py").read_text())
    assert ("judges", "") in kinds
    assert named == KINDS.keys() - {"judges", "oracles"} | {"locks"}


def test_usage_counts_files_and_bytes(cache: Path) -> None:
    assert all((size.files, size.bytes) == (1, 10) for size in usage().values())


def test_an_empty_cache_has_nothing(fresh_cache: Path) -> None:
    assert all(size.files == 0 for size in usage().values())
    assert clear() == []
    assert not fresh_cache.exists()


def test_clear_leaves_what_takes_long(cache: Path) -> None:
    assert set(clear()) == KINDS.keys() - set(ASKED_FOR)
    assert {path.name for path in cache.iterdir()} == {*ASKED_FOR, "locks"}
    assert clear(["judges"]) == ["judges"]
    assert not (cache / "judges").exists()


@pytest.mark.parametrize(
    ("strange", "words"),
    [("notes.txt", "holds notes.txt, which is none of"), ("arrays/thesis.docx", "thesis.docx is none of")],
)
def test_another_folder_is_left_alone(cache: Path, strange: str, words: str) -> None:
    (cache / strange).write_text("mine")
    with pytest.raises(ConfigurationError, match=words):
        clear()
    assert usage()["features"].files == 1
    assert (cache / strange).read_text() == "mine"


def test_links_out_of_the_cache_are_left_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious.npy").touch()
    (cache / "features" / "birds" / "link").symlink_to(tmp_path / "elsewhere")
    clear(["features"])
    assert not (cache / "features").exists()
    (cache / "features").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="is a link"):
        clear(["features"])
    assert (tmp_path / "elsewhere" / "precious.npy").exists()


def test_nothing_is_cleared_while_something_is_made(cache: Path) -> None:
    with only_process([cache / "copies" / "x.npy"]), pytest.raises(ConfigurationError, match="is making something"):
        clear()
    assert usage()["features"].files == 1


def test_the_command_asks(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="say --yes"):
        call("cache", "clear", "features", "copies")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, left in (("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        call("cache", "clear", "features", "copies")
        assert usage()["features"].files == left
    call("cache", "clear", "embeddings", "--yes")
    assert usage()["embeddings"].files == 0
    call("cache", "list")
    printed = capsys.readouterr().out
    assert "Nothing was removed." in printed
    assert "Removed 20 B." in printed


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (999, "999 B"), (1.25e6, "1.2 MB"), (3e15, "3000.0 TB")])
def test_sizes_in_words(size: float, words: str) -> None:
    assert in_words(size) == words
