"""Pages of the environments, made from Gymnasium's registry: one for each id, whatever ids there are."""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

import glimpse_env
from docs.site.datasets import NOTES, DatasetNote
from docs.site.measured import agents_table, classifiers_tables, policies_tables
from docs.site.text import arguments_of, sections_of, without_roles
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.datasets.registry import DATASETS
from glimpse_env.errors import GlimpseError
from glimpse_env.presets import PRESETS
from glimpse_env.sensing.geometry import Geometry
from glimpse_env.sensing.observations import OBSERVATIONS

ENTRY_POINT = "glimpse_env.registration:make_env"
"""What Gymnasium calls for our ids; the registry holds other packages' too."""
EPISODES = Path(__file__).parents[1] / "images" / "episodes"
"""Folder of the animated episodes, ``<id>-<policy>.gif``."""
FROM_TABLES = {
    "embedding": ("embeddings", "T * D numbers: what the judge makes of each glimpse and its place, from a table"),
    "features": ("features", "T * W numbers: what the frozen encoder makes of each glimpse, from a table"),
}
"""Observations whose width depends on a network: the key in the place of ``glimpses``, and what it holds."""


def specs() -> dict[str, EnvSpec]:
    """Returns the specs of this package's environments by id, those of a data set together, in the order of presets."""
    ours = [spec for spec in gym.registry.values() if spec.entry_point == ENTRY_POINT]
    ours = [spec for spec in ours if ":" not in spec.kwargs["dataset"]]  # other packages' data sets have a module
    order = list(dict.fromkeys([*NOTES, *PRESETS]))
    return {spec.id: spec for spec in sorted(ours, key=lambda spec: order.index(spec.kwargs["dataset"]))}


@dataclass(frozen=True)
class EnvironmentPage:
    """The page of one id."""

    spec: EnvSpec

    @property
    def path(self) -> str:
        """Path below ``docs``."""
        return f"environments/{self.spec.id}.md"

    @cached_property
    def kind(self) -> type[DataSource]:
        """Class of the data set; where the id takes the first of several that is there, of the first."""
        return DATASETS[self._dataset]

    @property
    def _dataset(self) -> str:
        name = self.spec.kwargs["dataset"]
        return next(iter(PRESETS[name].first_of), name)

    @cached_property
    def note(self) -> DatasetNote:
        """Words about the data set; of one without, its docstring's."""
        first = without_roles((inspect.getdoc(self.kind) or self._dataset).split("\n\n")[0])
        unknown = DatasetNote(self._dataset, first, "Not recorded here.", "See the arguments below.")
        return NOTES.get(self.spec.kwargs["dataset"], unknown)

    @cached_property
    def env(self) -> gym.Env[Any, Any]:
        """The environment on a blank image of each class: its spaces are those of the data set."""
        return self._make()

    @property
    def judged(self) -> bool:
        """Whether a judge names the class."""
        return self.env.unwrapped.batch.judge is not None  # type: ignore[attr-defined]

    def text(self) -> str:
        """Returns the page as Markdown."""
        parts = [
            f"---\ndescription: {_plain(self._sentence)}\n---\n\n# {self.spec.id}",
            f"{self.note.images} {self._sentence}",
            self._episodes(),
            self._facts(),
            "## Make it\n\n" + self._code(),
            "## Action space\n\n" + self._actions(),
            "## Observation space\n\n" + self._observations(),
            "## Reward and end\n\n" + self._rewards(),
            "## Arguments\n\n" + self._arguments(),
            "## Measured\n\n" + self._measured(),
            "## Data and licence\n\n" + self._data(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def card(self) -> str:
        """Returns a paragraph of the overview, as Markdown."""
        geometry = self._geometry
        return (
            f"[**{self.spec.id}**]({self.spec.id}.md)\n\n{self._sentence}\n\n"
            f"{geometry.image_size} x {geometry.image_size}, glimpses of {geometry.glimpse_size} x "
            f"{geometry.glimpse_size}, T = {geometry.num_glimpses}, {len(geometry.grid)} locations"
        )

    @property
    def _geometry(self) -> Geometry:
        return self.env.unwrapped.dataset.geometry  # type: ignore[attr-defined]

    @property
    def _sentence(self) -> str:
        who = "A judge names the class" if self.judged else "The agent looks and names the class itself"
        extra = {key: value for key, value in self.spec.kwargs.items() if key not in ("dataset", "task")}
        options = ", ".join(f"`{key}={value!r}`" for key, value in extra.items())
        task = self.spec.kwargs.get("task", "look")
        named = "" if task in ("look", "classify") else f" (`task={task!r}`)"
        return f"{who}{named}.{f' By default {options}.' if options else ''}"

    def _episodes(self) -> str:
        """Returns the animated episodes of the id, else those of the data set's first id."""
        first = PRESETS[self.spec.kwargs["dataset"]].env_id or self.spec.id
        for name in dict.fromkeys((self.spec.id, first)):
            pictures = [(policy, EPISODES / f"{name}-{policy}.gif") for policy in ("oracle", "random")]
            if all(path.is_file() for _, path in pictures):
                figures = "\n".join(self._figure(name, policy, path) for policy, path in pictures)
                return f'<div class="episodes" markdown>\n{figures}\n</div>'
        if self.spec.kwargs["dataset"] == "auto":
            return (
                "![Glimpses of the oracle and of a random policy at a photograph of an albatross, of which the rest is "
                "hidden: the oracle finds the head](../images/cub_episode.gif)"
            )
        return (
            "No picture of these images is passed on here. With the data at hand this draws an episode:\n\n```bash\n"
            f"glimpse render-episode --env {self.spec.id if self._stops else first} --policies oracle random "
            "--out episode.gif\n```"
        )

    @property
    def _stops(self) -> bool:
        """Whether agents stop when they will."""
        return bool(self.spec.kwargs.get("stop"))

    def _figure(self, name: str, policy: str, path: Path) -> str:
        geometry = self._geometry
        where = "" if name == self.spec.id else f" on {name}"  # the id that was drawn
        glimpses = f"{geometry.num_glimpses} glimpses"
        if name == self.spec.id and self._stops:
            glimpses = f"at most {glimpses}, of windows as wide as it likes, until it stops"
        what = {
            "oracle": f"The oracle{where}: {glimpses}, its map of where looking helps, and the judge's posterior after "
            "each.",
            "random": "A random policy on the same image.",
        }[policy]
        return (
            f"<figure markdown>\n![An episode of the {policy} policy on {name}, glimpse by glimpse]"
            f"(../images/episodes/{path.name})\n<figcaption>{what}</figcaption>\n</figure>"
        )

    def _facts(self) -> str:
        geometry = self._geometry
        shape = self.env.unwrapped.dataset.images.shape[1:]  # type: ignore[attr-defined]
        classes = len(self.env.unwrapped.dataset.class_names)  # type: ignore[attr-defined]
        most = "at most " if self._stops else ""
        rows = [
            ("images", f"{shape[0]} x {shape[1]}, {'RGB' if shape[2] == 3 else 'grey'}"),
            (
                "glimpses",
                f"{most}T = {geometry.num_glimpses} of {geometry.glimpse_size} x {geometry.glimpse_size} pixels",
            ),
            ("locations", _places(geometry)),
            ("windows of a glimpse", f"{geometry.scales}"),
            ("classes", f"as many as you have; {classes} on this page" if self.note.classes_vary else str(classes)),
            ("action", _code(self.env.action_space)),
            ("observation", _keys(self.env.observation_space)),
            ("steps of an episode", most + str(self.env.unwrapped.batch.num_steps)),  # type: ignore[attr-defined]
        ]
        others = [one for one, spec in specs().items() if spec.kwargs["dataset"] == self.spec.kwargs["dataset"]]
        twins = ", ".join(f"[{one}]({one}.md)" for one in others if one != self.spec.id)
        rows += [("same images", twins)] if twins else []
        return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows)

    def _code(self) -> str:
        root = 'root="photos", ' if self._dataset == "folder" else ""
        given = f", {root.rstrip(', ')}" if root else ""
        return (
            "```python\nimport gymnasium as gym\nimport glimpse_env  # registers the ids\n\n"
            f'env = gym.make("{self.spec.id}"{given})\n'
            f'envs = gym.make_vec("{self.spec.id}", {root}num_envs=64)  # one batch: many times as fast\n```'
        )

    def _actions(self) -> str:
        lines = []
        for action in ("discrete", "continuous"):
            env = self._try(action=action)
            if env is not None:
                lines.append(f'- `action="{action}"`: {_code(env.action_space)}')
        words = sections_of(glimpse_env.GlimpseEnv)["Action Space"]
        return "\n".join(lines) + "\n\n" + words

    def _observations(self) -> str:
        rows = ["| `observation=` | key | space |", "|---|---|---|"]
        for name in OBSERVATIONS:
            if name in FROM_TABLES:
                key, meaning = FROM_TABLES[name]
                if name == "features" or self.judged:
                    rows.append(f'| `"{name}"` | `{key}` | {meaning}; the rest as in `"history"` |')
                continue
            env = self._try(observation=name)
            if env is not None:
                for key, space in _parts(env.observation_space):
                    rows.append(f'| `"{name}"` | {f"`{key}`" if key else "–"} | {_code(space)} |')
        words = sections_of(glimpse_env.GlimpseEnv)["Observation Space"]
        return "\n".join(rows) + '\n\n??? note "What they mean"\n\n' + _indented(words)

    def _rewards(self) -> str:
        sections = sections_of(glimpse_env.GlimpseEnv)
        return "\n\n".join(sections[name] for name in ("Rewards", "Starting State", "Episode End"))

    def _arguments(self) -> str:
        words = sections_of(glimpse_env.GlimpseEnv)["Arguments"].split("\n\n", 1)[-1]
        items = [
            '- `split="train"`: or `"val"`, `"test"`.',
            "- `root=None`: folder of the data set; default `GLIMPSE_DATA`.",
            "- `judge=None`: path of a judge's weights; default the one that fits.",
            f"- `scales={self._geometry.scales}`: concentric windows of a glimpse.",
            *(item for item in re.split(r"\n(?=- )", words) if not item.startswith("- `dataset`")),
        ]
        text = "Of every environment:\n\n" + "\n".join(items)
        own = [row for row in arguments_of(self.kind) if row[0] != "root"]
        if not own:
            return text
        flat = PRESETS[self.spec.kwargs["dataset"]].flat
        where = f'as arguments of `gym.make("{self.spec.id}", ...)`' if flat else "in `dataset_options={...}`"
        rows = [f"| `{name}` | {f'`{default}`' if default else '–'} | {meaning} |" for name, default, meaning in own]
        table = "\n".join(["| argument | default | meaning |", "|---|---|---|", *rows])
        return f"{text}\n\nOf the data set, {where}:\n\n{table}"

    def _measured(self) -> str:
        agents = agents_table(self.spec.id)
        tables = [*policies_tables(self.spec.id), *([agents] if agents else []), *classifiers_tables(self.spec.id)]
        if tables:
            return "\n\n".join(tables)
        if not self.judged:
            return "No network that looks and classifies was trained here yet: [the paper's experiment](../paper.md)."
        command = f"glimpse compare-policies --env {self.spec.id}"
        return f"No policy was measured here yet. This makes a table of all:\n\n```bash\n{command}\n```"

    def _data(self) -> str:
        more = ", ".join(re.sub(r"\]\((?!http)", "](../", page) for page in self.note.pages)
        rows = [f"**Licence.** {self.note.licence}", f"**Get it.** {self.note.get}"]
        rows += [f"**More.** {more}."] if more else []
        return re.sub(r"\]\((?!http|\.\./)", "](../", "\n\n".join(rows))

    def _try(self, **options: Any) -> gym.Env[Any, Any] | None:
        """Returns the environment with other arguments; None where it does not take them."""
        try:
            return self._make(**options)
        except GlimpseError:
            return None

    def _make(self, **options: Any) -> gym.Env[Any, Any]:
        with (
            patch("glimpse_env.registration.make_source", lambda *_, **__: blank_source(self.kind, self.note)),
            patch("glimpse_env.registration.find_judge", lambda source, *_: _BlankJudge(len(source.class_names))),
        ):
            return gym.make(self.spec.id, disable_env_checker=True, **options)


def overview() -> str:
    """Returns the page that lists all ids, as Markdown."""
    pages = {one: EnvironmentPage(spec) for one, spec in specs().items()}
    parts = [
        "---\ntitle: Environments\n---\n\n# Environments",
        "An image is hidden; an action is where to look next; after T glimpses the reward says whether the class was "
        "told. Each id below has a page with its spaces, arguments, data and measured policies; `gym.make(id)` and "
        "`gym.make_vec(id, num_envs=N)` take all of them.",
    ]
    groups: dict[str, list[EnvironmentPage]] = {}
    for page in pages.values():
        groups.setdefault(page.note.title, []).append(page)
    for title, group in groups.items():
        cards = "\n\n".join(f"<div markdown>\n\n{page.card()}\n\n</div>" for page in group)
        parts.append(f'## {title}\n\n{group[0].note.images}\n\n<div class="cards" markdown>\n\n{cards}\n\n</div>')
    return "\n\n".join(parts) + "\n"


def navigation() -> list[Any]:
    """Returns the entries of the navigation: the overview, and the ids by data set."""
    groups: dict[str, list[Any]] = {}
    for page in map(EnvironmentPage, specs().values()):
        groups.setdefault(page.note.title, []).append({page.spec.id: page.path})
    return ["environments/index.md", *({title: pages} for title, pages in groups.items())]


def pages() -> Iterator[tuple[str, str]]:
    """Yields path and Markdown of each page."""
    yield "environments/index.md", overview()
    for page in map(EnvironmentPage, specs().values()):
        yield page.path, page.text()


class _BlankJudge:
    """Stands for a judge where nothing is judged."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.frozen = None

    def probabilities(self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray) -> Any:
        return np.full((len(counts), self.num_classes), 1 / self.num_classes, np.float32)


def blank_source(kind: type[DataSource], note: DatasetNote) -> DataSource:
    """Returns a source of a data set whose files need not be there: a black image of each class."""

    def load(self: DataSource, split: Any) -> GlimpseDataset:
        count = len(self.class_names)
        return GlimpseDataset(
            images=np.zeros((count, *self.image_shape), np.uint8),
            labels=np.arange(count),
            folds=np.full(count, -1),
            parts=np.zeros((count, len(self.part_names), 3), np.float32),
            name=self.name,
            split=split,
            class_names=self.class_names,
            part_names=self.part_names,
            fingerprint="blank",
            geometry=self.geometry,
        )

    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    content: dict[str, Any] = {"__init__": lambda self: None, "load": load, "fingerprint": "blank"}
    if not hasattr(kind, "geometry"):
        try:
            made = kind()
            content |= {"geometry": made.geometry, "image_shape": made.image_shape}
        except GlimpseError:
            names = ("size", "glimpse_size", "stride", "num_glimpses")
            content["geometry"] = Geometry(*(defaults[name] for name in names))
            content["image_shape"] = (defaults["size"], defaults["size"], 3)
    if not hasattr(kind, "class_names"):
        content["class_names"] = tuple(f"class {k}" for k in range(note.classes))
    return type(f"Blank{kind.__name__}", (kind,), content)()


def _parts(space: spaces.Space[Any]) -> Sequence[tuple[str, spaces.Space[Any]]]:
    return list(space.spaces.items()) if isinstance(space, spaces.Dict) else [("", space)]


def _places(geometry: Geometry) -> str:
    """Returns the grid of locations in words, of each zoom."""
    levels = [f"{level.side} x {level.side}" for level in geometry.grid.levels]
    wider = [f", {side} of windows {zoom} times as wide" for side, zoom in zip(levels, geometry.zooms, strict=True)]
    return f"{len(geometry.grid)}, a grid of {levels[0]}" + "".join(wider[1:])


def _keys(space: spaces.Space[Any]) -> str:
    """Returns a space in one line, of a dictionary its keys."""
    if isinstance(space, spaces.Dict):
        return "`Dict` of " + ", ".join(f"`{key}`" for key in space.spaces)
    return _code(space)


def _code(space: spaces.Space[Any]) -> str:
    return f"`{' '.join(str(space).split())}`"


def _plain(text: str) -> str:
    return text.replace("`", "").replace(":", ",")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
