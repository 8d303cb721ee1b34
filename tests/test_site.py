"""The documentation site, as far as it can be checked without MkDocs; `make docs` builds it strictly."""

import ast
import posixpath
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import tyro

from docs.site.datasets import NOTES
from docs.site.environments import EnvironmentPage, blank_source, navigation, pages, specs
from docs.site.links import ROOT_PAGES, included, links_of, outside_files, relinked, section, slug, source_page
from docs.site.measured import DOCS
from docs.site.text import arguments_of, without_roles
from glimpse_env import CLASSIFY_IDS, ENV_IDS
from glimpse_env.console.main import find_commands
from glimpse_env.datasets import make_source
from glimpse_env.datasets.registry import DATASETS
from glimpse_env.presets import PRESETS
from tests.scripts.test_scripts import load
from tests.support.tiny_data import write_tiny_folder
from tests.support.toy import write_toy_judge

ROOT = Path(__file__).parents[1]
WRITTEN = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
"""Pages that lie in docs."""
BLOCKS_ELSEWHERE = ("recipes.md", "fine_grid.md", "oracle_scale.md")
"""Pages whose Python other tests run, or that need data that are not here."""


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages of the environments."""
    return dict(pages())


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    """mkdocs.yml; its tags for MkDocs are None."""
    yaml = pytest.importorskip(
        "yaml", reason="PyYAML comes with rl_zoo3 and with mkdocs, neither of which is installed"
    )

    Loader: Any = type("Loader", (yaml.SafeLoader,), {})
    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def leaves(entry: Any) -> Iterator[str]:
    """Paths of pages in a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from leaves(part)


def text_of(path: str) -> str:
    return (DOCS / path).read_text(encoding="utf-8")


def test_all_pages_are_in_the_navigation_once(site: dict[str, Any], made: dict[str, str]) -> None:
    entries = list(leaves(site["nav"]))
    entries.remove("environments/")
    entries += leaves(navigation())
    assert len(entries) == len(set(entries))
    roots = {path for path in ROOT_PAGES.values() if path != "index.md"}
    assert set(entries) == {*WRITTEN, *made, *roots}


def test_there_is_a_page_for_every_id_of_the_registry(made: dict[str, str]) -> None:
    registered = {one for one in gym.registry if one in ENV_IDS or one in CLASSIFY_IDS}
    assert len(registered) >= 14
    assert registered <= set(specs())
    for env_id in specs():
        page = made[f"environments/{env_id}.md"]
        assert f"]({env_id}.md)" in made["environments/index.md"]
        assert f'gym.make("{env_id}"' in page
        for heading in (
            "Action space",
            "Observation space",
            "Reward and end",
            "Arguments",
            "Measured",
            "Data and licence",
        ):
            assert f"\n## {heading}\n" in page


@pytest.mark.parametrize("name", ["birds", "digits"])
def test_pages_have_the_spaces_of_the_environments(name: str, made: dict[str, str]) -> None:
    source, blank = make_source(name), blank_source(DATASETS[name], NOTES[name])
    assert (blank.geometry, blank.image_shape, blank.class_names) == (
        source.geometry,
        source.image_shape,
        source.class_names,
    )


def test_a_page_has_the_spaces_that_gymnasium_makes(made: dict[str, str]) -> None:
    for env_id in ("GlimpseDigits-v0", "GlimpseDigitsClassify-v0"):
        page = made[f"environments/{env_id}.md"]
        for options in ({}, {"observation": "glimpse"}, {"observation": "canvas"}, {"action": "continuous"}):
            env = gym.make(env_id, **options)
            shown = env.observation_space
            for space in [env.action_space, *(shown.values() if isinstance(shown, gym.spaces.Dict) else [shown])]:
                assert f"`{' '.join(str(space).split())}`" in page


def test_pages_of_anytime_ids_tell_all_windows_and_the_stop(made: dict[str, str]) -> None:
    page, plain = (made[f"environments/GlimpseBirds{kind}-v0.md"] for kind in ("Anytime", ""))
    windows = (
        "| locations | 195, a grid of 13 x 13, 5 x 5 of windows 2 times as wide, 1 x 1 of windows 4 times as wide |"
    )
    assert windows in page
    assert "| steps of an episode | at most 5 |" in page
    assert "| locations | 169, a grid of 13 x 13 |" in plain
    assert "| steps of an episode | 5 |" in plain


def test_pages_show_episodes_and_measured_tables(made: dict[str, str]) -> None:
    for name in ("Birds", "Digits"):
        page = made[f"environments/Glimpse{name}-v0.md"]
        assert page.count(".gif)") == 2
        assert re.search(r"\| \*\*non-myopic oracle\*\* \| 9\d\.\d % \(", page)
        assert "python scripts/compare_policies.py --env GlimpseBirds-v0 GlimpseDigits-v0" in page
    for name in ("Signpost", "Needle", "Memory"):
        assert made[f"environments/Glimpse{name}-v0.md"].count(".gif)") == 2
    assert re.search(r"\| agent, fine-tuned \| 94\.\d %", made["environments/GlimpseBirds-v0.md"])
    assert "| PS-NOGS |" in made["environments/GlimpseBirdsClassify-v0.md"]
    assert "### The judge trained from scratch" in made["environments/GlimpseCUB-v0.md"]
    assert "No policy was measured" in made["environments/GlimpseCelebAHQ-v0.md"]


def test_every_data_set_has_words_about_its_licence(made: dict[str, str]) -> None:
    for name, preset in PRESETS.items():
        if preset.env_id and ":" not in name:
            assert name in NOTES
    assert "CC BY 4.0" in made["environments/GlimpseDigits-v0.md"]


def test_an_id_without_words_has_a_page_too() -> None:
    spec = gym.spec("GlimpseDigits-v0")
    gym.register("GlimpseDigitsOther-v0", entry_point=spec.entry_point, kwargs={"dataset": "digits", "scales": 2})
    try:
        text = EnvironmentPage(specs()["GlimpseDigitsOther-v0"]).text()
    finally:
        del gym.registry["GlimpseDigitsOther-v0"]
    assert "`scales=2`" in text
    assert f"Box(0.0, 1.0, ({6 * 12 * 12 * 2},), float32)" in text
    assert "| agent, " not in text


def test_links_and_pictures_lead_to_pages_and_files(made: dict[str, str]) -> None:
    outside = {source_page(path) for path in outside_files()}
    content = {path: relinked(included(text_of(path), f"docs/{path}"), f"docs/{path}", path) for path in WRITTEN}
    content |= {
        path: relinked((ROOT / origin).read_text(encoding="utf-8"), origin, path)
        for origin, path in ROOT_PAGES.items()
        if path != "index.md"
    }
    content |= {path: relinked(text, f"docs/{path}", path) for path, text in made.items()}
    assert "source/agents/tuned.json.md" in outside
    for page, text in content.items():
        assert "<!-- include -->" not in text, page
        for link in links_of(text):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            assert path in content or path in outside or (DOCS / path).is_file(), f"{page}: {link}"


def test_all_pictures_say_what_they_show(made: dict[str, str]) -> None:
    for page, text in {**{path: text_of(path) for path in WRITTEN}, **made}.items():
        for alternative in re.findall(r"!\[(.*?)\]\(", text):
            assert len(alternative) > 10, page


def test_sections_are_found_by_their_anchor(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n## One, two\n\nfirst\n\n### Deep\n\n```bash\n## no heading\n```\n\n## Three\n\nlast\n")
    assert slug("One, two") == "one-two"
    assert section(page, "one-two") == "first\n\n### Deep\n\n```bash\n## no heading\n```"
    assert section(page, "three") == "last"
    with pytest.raises(ValueError, match="#four"):
        section(page, "four")


def test_links_are_bent_outside_of_code_only() -> None:
    text = "[a](docs/oracle.md#x) [b](agents/x.py) [c](https://d.e)\n\n```\n[f](docs/oracle.md)\n```\n"
    bent = relinked(text, "README.md", "howto/page.md")
    assert bent.startswith("[a](../oracle.md#x) [b](../source/agents/x.py.md) [c](https://d.e)\n")
    assert "[f](docs/oracle.md)" in bent


def test_arguments_are_read_off_docstrings() -> None:
    rows = {name: (default, meaning) for name, default, meaning in arguments_of(DATASETS["cub-full"])}
    assert rows["folds"] == ("3", "networks in the judge, at least 2.")
    assert without_roles("a :class:`~b.C` and ``d``") == "a `C` and `d`"


def test_the_reference_has_all_that_packages_hand_on(site: dict[str, Any]) -> None:
    documented = set()
    for path in WRITTEN:
        if path.startswith("reference/"):
            documented |= set(re.findall(r"^::: ([\w.]+)$", text_of(path), flags=re.MULTILINE))
    for name in documented:
        module = name if (ROOT / f"{name.replace('.', '/')}.py").is_file() else name.rpartition(".")[0]
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").is_file() or (file / "__init__.py").is_file(), name
    for package in ("glimpse_env", "oracles", "agents"):
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        imports = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        (names,) = (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        )
        for name in names:
            assert {imports[name], f"{imports[name]}.{name}"} & documented, f"{package}.{name}"


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize(
    "page", [path for path in WRITTEN if "```python" in text_of(path) and path not in BLOCKS_ELSEWHERE]
)
def test_python_on_pages_runs_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "howto/own_data.md":
        photos = write_tiny_folder(tmp_path / "photos")
        write_toy_judge(make_source("folder", root=str(photos), size=96, glimpse_size=24, stride=6))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text_of(page), flags=re.DOTALL):
        exec(block, names)
    if page == "tutorial.md":
        assert names["model"].num_timesteps >= 768
        assert (tmp_path / "runs" / "digits-demos.npz").is_file()
        assert len(names["result"].train_loss) == 8


COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for path in WRITTEN
        if path.startswith(("howto/", "concepts/", "tutorial", "index", "results"))
        for block in re.findall(r"```bash\n(.*?)```", text_of(path), flags=re.DOTALL)
        for line in block.splitlines()
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_on_pages_exist_with_their_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)
    (tmp_path / "runs").mkdir()
    for made in ("runs/demos.npz", "human-play.npz"):  # by the command before
        (tmp_path / made).touch()
    (tmp_path / "docs").symlink_to(DOCS)
    (tmp_path / "own_algorithm.py").symlink_to(DOCS / "own_algorithm.py")  # as its page shows it
    monkeypatch.chdir(tmp_path)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[0] in ("python", "glimpse"):
        script = words[1].removeprefix("scripts/").removesuffix(".py")
        if words[0] == "glimpse":
            script = find_commands()[words[1]].relative_to(ROOT / "scripts").with_suffix("").as_posix()
        tyro.cli(load(script).Args, args=words[2:])
    else:
        assert words[:2] == ["pip", "install"]
        assert (ROOT / words[words.index("-c") + 1]).is_file()
