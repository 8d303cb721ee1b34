"""The report of a finished training run as one page: curve, where success is lost, episodes beside the oracle."""

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agents.evaluation.comparison import difference
from agents.evaluation.evaluate import TITLES, Evaluation, choose_images
from agents.evaluation.recordings import Recording, episode_frames, load_recordings, record
from agents.evaluation.statistics import Estimate
from agents.experiments.run_folder import read_run, title_of
from agents.presets import Args
from agents.recording import load_run_agent
from agents.reports.episodes import beside, curve_of_run, finished_run, tile
from agents.reports.pages import NOTHING_YET, Picture, ReportContext, Section, Table, html_template
from agents.reports.style import POLICY_COLOURS, dress, entitle, new_figure, save_both
from agents.reports.tables import MISSING, format_estimate, percent
from glimpse_env.datasets.base import DataSource, GlimpseDataset
from glimpse_env.errors import ArtifactError, GlimpseError
from glimpse_env.files import digest, whole_file
from glimpse_env.judge.judge import find_judge
from oracles.registry import make_policy, priced

CLASSES = 12
"""Classes in the table of those on which the agent is behind the oracle."""
COLOURS = 128
"""Colours of a picture of episodes."""
STEPS_WIDTH = 1920
"""Width of a picture of episodes in pixels, at most."""
BESIDE = ("agent", "oracle", "random")
"""Policies whose log-loss is drawn."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    title: str
    metrics: dict[str, Any]
    """Content of ``metrics.json``."""
    evaluations: dict[str, Evaluation]
    """By policy, on the same test images; ``agent`` and ``oracle`` are among them."""
    source: DataSource
    test: GlimpseDataset
    images: np.ndarray
    """(N,) int64, the test images."""

    @property
    def agent(self) -> Evaluation:
        return self.evaluations["agent"]

    @property
    def oracle(self) -> Evaluation:
        return self.evaluations["oracle"]

    @property
    def lost(self) -> np.ndarray:
        """(N,) bool: on which images the oracle was right and the agent was not."""
        return self.oracle.outcomes & ~self.agent.outcomes


def write_run_page(
    folder: Path, out: Path, *, root: str | None = None, lost: int = 3, trust: bool = False, device: Any = "cpu"
) -> None:
    """Writes the page of a training run.

    Args:
        folder: of the run.
        out: the page (.html).
        root: folder of the data set, where it has moved.
        lost: images to show at most on which the oracle was right and the agent was not; they are played again, where
            agent and judge can be read.
        trust: see :func:`agents.saving.load_agent`.
        device: that plays them.

    Raises:
        ArtifactError: if the run is not finished or damaged, or its test images are others now.
        ConfigurationError: if Jinja is missing.
    """
    template = html_template()
    args, source, command = read_run(folder, Args(resume=folder, root=root, trust=trust))
    metrics, evaluations = finished_run(folder)
    test = source.load("test")
    missing = {"agent", "oracle"} - evaluations.keys()
    if missing:
        raise ArtifactError(f"{folder}/metrics.json has no {' and '.join(sorted(missing))}; train the agent again.")
    images = choose_images(test, len(evaluations["agent"].outcomes))
    if digest(images) != evaluations["agent"].images:
        raise ArtifactError(f"{folder} was evaluated on test images that {source.name} does not have; train it again.")
    run = Run(title_of(args, source), metrics, evaluations, source, test, images)
    with tempfile.TemporaryDirectory() as temporary:
        plots = Path(temporary)
        again, note = _played_again(run, folder, lost, trust, device)
        try:
            sections = [
                _curve(run, plots),
                _policies(run),
                _by_step(run, plots),
                _by_class(run),
                _by_image(run, again, note, plots),
                _episodes(run, load_recordings(folder / "recordings.npz"), plots),
                _protocol(run),
            ]
            context = ReportContext(run.title, command, versions=metrics["versions"])
            text = template.render(context=context, summary=_summary(run), sections=sections, nothing=NOTHING_YET)
        except GlimpseError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{folder} holds figures or episodes that are damaged or of other images ({error!r}); train it again."
            ) from error
    with whole_file(out) as page:
        page.write_text(text, encoding="utf-8")


def _summary(run: Run) -> list[str]:
    less, closed = difference(run.agent, run.oracle), run.metrics["gap_closed"]
    sentences = [
        f"The agent is right on {percent(run.agent.success_rate, run.agent.interval())} of {len(run.images)} test "
        f"images, the oracle on {percent(run.oracle.success_rate, run.oracle.interval())}.",
        f"The agent less the oracle, image by image: success {_points(less.success)}, log-loss "
        f"{format_estimate(less.log_loss, 3, signed=True)} nats.",
        f"Of the way from random to the oracle it has come {percent(closed['value'], closed['interval'], 0)}.",
    ]
    if run.metrics.get("glimpse_cost") is not None:
        sentences.append(
            f"It takes {run.agent.mean_glimpses:.1f} glimpses an image, the oracle {run.oracle.mean_glimpses:.1f}; "
            f"each costs {run.metrics['glimpse_cost']:g} of a success."
        )
    return sentences


def _points(estimate: Estimate) -> str:
    return format_estimate(estimate, 1, scale=100, signed=True, unit=" points")


def _curve(run: Run, plots: Path) -> Section:
    path = plots / "learning-curve.png"
    curve_of_run(path, run.metrics, run.evaluations, run.title)
    caption = "Success on validation images over the steps of training, among the policies on test images"
    text = f"The weights that were kept are those of {run.metrics['selection']['env_steps']:,} environment steps: "
    return Section(
        "curve", "Learning curve", text + run.metrics["selection"]["rule"] + ".", pictures=[Picture(caption, path)]
    )


def _policies(run: Run) -> Section:
    cost = run.metrics.get("glimpse_cost")
    rows = [["policy", "success", "log-loss, nats", "entropy, nats", "agent less this"]]
    rows[0] += ["glimpses", "return"] if cost is not None else []
    for name, one in run.evaluations.items():
        less = MISSING if name == "agent" else _points(difference(run.agent, one).success)
        cells = [percent(one.success_rate, one.interval()), f"{one.log_loss[-1]:.3f}", f"{one.entropy[-1]:.3f}", less]
        cells += [f"{one.mean_glimpses:.1f}", f"{one.returns(cost).mean():.3f}"] if cost is not None else []
        rows.append([TITLES.get(name, name), *cells])
    text = (
        "On test images after the last glimpse, with 95 % intervals: Wilson's; bootstrap over images for differences."
    )
    return Section("policies", "The agent among policies", text, tables=[Table("", rows)])


def _by_step(run: Run, plots: Path) -> Section:
    shown = {name: run.evaluations[name] for name in BESIDE if name in run.evaluations}
    figure = new_figure(8.6, 4.0)
    axes, steps = figure.subplots(), np.arange(1, len(run.agent.log_loss) + 1)
    for name, one in shown.items():
        axes.plot(steps, one.log_loss, color=POLICY_COLOURS[name], marker="o", markersize=5, label=TITLES[name])
    axes.set(xlabel="glimpses taken", ylabel="log-loss, nats", xticks=steps)
    axes.legend(frameon=False)
    dress(axes, title="Log-loss of the class after each glimpse")
    entitle(figure, "", f"Means over {len(run.images)} test images; an episode that stopped counts as at its end.")
    _, svg = save_both(figure, plots / "by-step")
    gaps = run.agent.log_loss - run.oracle.log_loss
    lost = np.diff(gaps, prepend=0.0)
    rows = [["glimpse", *(f"{TITLES[name]}, log-loss" for name in shown), "agent less oracle", "grown at this glimpse"]]
    for t, step in enumerate(steps):
        losses = [f"{one.log_loss[t]:.3f}" for one in shown.values()]
        rows.append([str(step), *losses, f"{gaps[t]:+.3f}", f"{lost[t]:+.3f}"])
    text = (
        f"The agent falls behind the oracle most at glimpse {steps[lost.argmax()]}, by {lost.max():.3f} nats."
        if lost.max() > 0
        else "The agent is at no glimpse behind the oracle."
    )
    picture = Picture("Log-loss of agent, oracle and random glimpses after each glimpse", svg)
    return Section("steps", "Where success is lost: by step", text, tables=[Table("", rows)], pictures=[picture])


def _by_class(run: Run) -> Section:
    labels = np.asarray(run.test.labels[run.images])
    names, count = run.test.class_names, len(run.test.class_names)
    total = np.bincount(labels, minlength=count)
    agent, oracle = (np.bincount(labels, one.outcomes, count).astype(int) for one in (run.agent, run.oracle))
    losses = np.bincount(labels, run.lost, count).astype(int)
    behind = [k for k in np.lexsort((np.arange(count), agent - oracle)) if agent[k] < oracle[k]]
    rows = [["class", "images", "agent right", "oracle right", "agent less oracle", "oracle right, agent wrong"]]
    for k in behind[:CLASSES]:
        cells = (total[k], agent[k], oracle[k])
        rows.append([names[k], *map(str, cells), f"{agent[k] - oracle[k]:+d}", str(losses[k])])
    text = f"The agent is behind the oracle on {len(behind)} of {np.count_nonzero(total)} classes"
    text += f"; the {CLASSES} on which it is so most:" if len(behind) > CLASSES else "."
    return Section("classes", "Where success is lost: by class", text, tables=[Table("", rows)])


def _by_image(run: Run, again: Mapping[str, Recording], note: str, plots: Path) -> Section:
    agent, oracle = run.agent.outcomes, run.oracle.outcomes
    rows = [["images", "oracle right", "oracle wrong"]]
    for title, mine in (("agent right", agent), ("agent wrong", ~agent)):
        rows.append([title, str(np.count_nonzero(mine & oracle)), str(np.count_nonzero(mine & ~oracle))])
    pictures = []
    for row in range(len(again["agent"].indices) if again else 0):
        path = plots / f"lost-{row}.png"
        frames = [episode_frames(one, row, run.test, name=name)[-1] for name, one in again.items()]
        pictures.append(_save(path, np.concatenate(frames, axis=1), _caption(run, again, row)))
    return Section("images", "Where success is lost: image by image", note, tables=[Table("", rows)], pictures=pictures)


def _episodes(run: Run, recordings: Mapping[str, Recording], plots: Path) -> Section:
    both = {name: recordings[name] for name in ("agent", "oracle") if name in recordings}
    pictures = []
    for row in range(len(next(iter(both.values())).indices) if both else 0):
        frames = beside([episode_frames(one, row, run.test, name=name) for name, one in both.items()])
        chosen = frames if row == 0 else frames[-1:]
        columns = 1 if row else max(1, STEPS_WIDTH // frames[0].shape[1])
        blank = [np.full_like(chosen[0], chosen[0][0, 0])] * (-len(chosen) % columns)
        picture = tile([*chosen, *blank], columns)
        caption = _caption(run, both, row) + (" All steps, with the oracle's maps." if row == 0 else "")
        pictures.append(_save(plots / f"episode-{row}.png", picture, caption))
    text = (
        "The same test images, taken at even distances: the agent at the left, the oracle with its maps at the right."
    )
    return Section("episodes", "Episodes", text, pictures=pictures)


def _caption(run: Run, recordings: Mapping[str, Recording], row: int) -> str:
    """Returns which image episodes are on, and what the judge took it for after each."""
    names, index = run.test.class_names, int(next(iter(recordings.values())).indices[row])
    answers = [
        f"{TITLES[name] if name != 'agent' else 'agent'}: {names[int(one.probabilities[row, -1].argmax())]}"
        for name, one in recordings.items()
    ]
    return f"Test image {index}, {names[int(run.test.labels[index])]}. Judged by the glimpses of {'; '.join(answers)}."


def _protocol(run: Run) -> Section:
    metrics = run.metrics
    taught, data = metrics.get("demonstrations"), metrics["dataset"]
    rows = [
        ["setting", "value"],
        ["environment", metrics["env"]],
        ["data set", f"{data['name']}, fingerprint {data['fingerprint']}, {data['classes']} classes"],
        ["judge", metrics["judge"]["identity"]],
        ["algorithm", f"{metrics['algorithm']}, {metrics['architecture'] or 'its own network'}"],
        ["demonstrations", f"{taught['num']} of {taught['policy']}" if taught else "none"],
        ["seed", str(metrics["seed"])],
    ]
    times = [["stage", "seconds"], *([stage, f"{s:.1f}"] for stage, s in metrics["wall_time_s"].items())]
    versions = [["package", "version"], *([name, str(version)] for name, version in metrics["versions"].items())]
    tables = [Table("Settings", rows, words=2), Table("Time", times), Table("Versions", versions, words=2)]
    return Section("protocol", "How it was made", "", tables=tables)


def _played_again(run: Run, folder: Path, count: int, trust: bool, device: Any) -> tuple[dict[str, Recording], str]:
    """Plays agent and oracle on some images that the agent lost.

    Returns:
        The recordings, none where that cannot be, and a sentence on them.
    """
    rows = np.flatnonzero(run.lost)
    if len(rows) == 0 or count == 0:
        return {}, ""
    chosen = run.images[rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]]
    try:
        judge = find_judge(run.source).to(device)
        if judge.identity != run.metrics["judge"]["identity"]:
            return {}, "The judge is another now, so that no image that was lost is played again."
        agent, settings = load_run_agent(folder, trust=trust, device=device)
        name, config = priced("oracle", run.source, run.metrics.get("glimpse_cost"))
        recordings = {
            "agent": record(agent, run.test, judge, chosen, observation=settings["observation"] or "history"),
            "oracle": record(make_policy(name, run.source, judge, config=config), run.test, judge, chosen),
        }
    except GlimpseError as error:
        return {}, f"No image that was lost is played again: {error}"
    return recordings, "Some of those on which the oracle was right and the agent was not:"


def _save(path: Path, picture: np.ndarray, caption: str) -> Picture:
    """Writes a picture with few colours, which is a fraction of the bytes."""
    image = Image.fromarray(picture)
    image.thumbnail((STEPS_WIDTH, image.height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    path.write_bytes(file.getvalue())
    return Picture(caption, path)
