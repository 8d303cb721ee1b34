"""The README does what it says: its Python runs as printed, its commands exist with the flags it names."""

import importlib.util
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tyro

from glimpse_env.console.main import find_commands
from glimpse_env.datasets.birds.source import SIZE, draw_many
from glimpse_env.errors import DatasetFallbackWarning

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def few_drawn_again_and_again(
    seed: int, start: int, count: int, workers: int | None = None, size: int = SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """In place of ``draw_chunks``: the first 48 birds over and over, since drawing all of them takes half a minute."""
    few = draw_many(seed, start, min(count, 48), size)
    for done in range(0, count, 48):
        images, species, parts = few
        yield images[: count - done], species[: count - done], parts[: count - done]


@pytest.mark.usefixtures("fresh_cache")
def test_python_blocks_run_as_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glimpse_env.datasets.birds.source.draw_chunks", few_drawn_again_and_again)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetFallbackWarning)
        for block in blocks("python"):
            exec(block, namespace)
    printed = capsys.readouterr().out
    assert printed.count("glimpse at location") == 5
    assert printed.splitlines()[-1] in ("right", "wrong")


@pytest.mark.parametrize(
    "command", [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
)
def test_commands_exist_with_their_flags(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[0] in ("python", "glimpse"):
        file = ROOT / words[1] if words[0] == "python" else find_commands()[words[1]]
        spec = importlib.util.spec_from_file_location("script", file)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        tyro.cli(script.Args, args=words[2:])
    else:
        assert words[:2] == ["pip", "install"]
        assert (ROOT / words[words.index("-c") + 1]).is_file()


def test_every_script_is_in_the_table_of_commands() -> None:
    table = (ROOT / "docs/howto/commands.md").read_text(encoding="utf-8")
    for name in find_commands():
        assert f"| `glimpse {name}` |" in table, name


@pytest.mark.parametrize(
    "page", ["tutorial.md", *(f"howto/{path.name}" for path in (ROOT / "docs/howto").glob("*.md"))]
)
def test_how_tos_name_commands_that_a_wheel_has(page: str) -> None:
    """Each script's other name is told once, on the pages of installation and of commands."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text.count("python scripts/") == (page in ("howto/install.md", "howto/commands.md"))


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_are_there(page: Path) -> None:
    for name in re.findall(
        r"`((?:glimpse_env|oracles|agents|tests|docs)/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_linked_files_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        made = link.removeprefix("../").startswith("environments/")  # tests/test_site.py follows these
        assert made or link.startswith("http") or (page.parent / link).is_file(), link
