"""Pictures of a run: its learning curve, and example episodes of several policies side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont
from scipy.optimize import isotonic_regression

from agents.evaluation.evaluate import TITLES, Evaluation
from agents.evaluation.recordings import Recording, episode_frames, load_recordings
from agents.experiments.run_folder import read_metrics, read_run, title_of
from agents.presets import Args
from agents.reports.style import POLICY_COLOURS, dress, entitle, new_figure, save, thousands
from glimpse_env.checks import conforms
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import whole_file
from glimpse_env.rendering.frames import Window

BANNER = 56
"""Height of the title over the episodes in pixels."""
BANDS = ("random", "fixed", "oracle", "clairvoyant")
"""Policies whose success stands in the learning curve as a line with its interval."""


def learning_curve(
    path: Path,
    curve: Sequence[tuple[int, float]],
    evaluations: Mapping[str, Evaluation],
    *,
    selected: int | None,
    validation_images: int,
    title: str,
) -> None:
    """Draws validation success against environment steps among the reference policies.

    Args:
        curve: (environment steps, success rate on validation images); the first point is where fine-tuning began.
        evaluations: on test images; references among them become horizontal lines with their 95 % intervals.
        selected: environment steps of the weights that were kept; None leaves the mark out.
        validation_images: number of images behind each point of the curve.
    """
    steps = np.array([point[0] for point in curve], dtype=np.float64)
    success = 100 * np.array([point[1] for point in curve])
    figure = new_figure(8.6, 5.0)
    axes, blue = figure.subplots(), POLICY_COLOURS["agent"]
    right = max(float(steps[-1]), 1.0)
    labels: list[tuple[float, str, str]] = []
    for name in BANDS:
        if name not in evaluations:
            continue
        evaluation, colour = evaluations[name], POLICY_COLOURS[name]
        low, high = evaluation.interval()
        axes.axhspan(100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(100 * evaluation.success_rate, color=colour, linewidth=1.4, linestyle=(0, (6, 2)))
        labels.append((100 * evaluation.success_rate, f"{TITLES[name]}  {evaluation.success_rate:.1%}", colour))
    axes.plot(steps, success, color=blue, linewidth=2.2, marker="o", markersize=5, zorder=4)
    if "agent_cloned" in evaluations:
        axes.plot(
            steps[:1],
            success[:1],
            "D",
            color=POLICY_COLOURS["agent_cloned"],
            markeredgecolor="white",
            markersize=10,
            zorder=5,
        )
        if selected != steps[0]:
            _remark(axes, "after cloning", (steps[0], success[0]), (8, -14))
    if selected is not None and len(steps) > 1:
        kept_success = success[np.flatnonzero(steps == selected)[0]]
        axes.plot([selected], [kept_success], "o", markersize=13, fillstyle="none", color=blue, zorder=5)
    labels.append((float(success[-1]), f"agent, validation  {success[-1]:.1f}%", blue))
    if "agent" in evaluations and selected is not None:
        tested = 100 * evaluations["agent"].success_rate
        low, high = evaluations["agent"].interval()
        axes.errorbar(
            [selected],
            [tested],
            [[tested - 100 * low], [100 * high - tested]],
            fmt="*",
            markersize=13,
            color=blue,
            ecolor=POLICY_COLOURS["agent_cloned"],
            elinewidth=2,
            zorder=3,
        )
        kept = "cloned, and kept" if selected == steps[0] else "kept"
        place = (selected, min(tested, success[np.flatnonzero(steps == selected)[0]]))
        near_the_first = 0 < selected - steps[0] < 0.2 * right
        _remark(axes, f"{kept}; on test images {tested:.1f}%", place, (8, -46 if near_the_first else -24))
    axes.set_xlim(-0.03 * right, 1.02 * right)
    labels.sort()
    bottom, top = max(0.0, min(float(success.min()), labels[0][0]) - 8), 101.5
    axes.set_ylim(bottom, top)
    heights = spread([height for height, _, _ in labels], 0.05 * (top - bottom), bottom, top)
    for (_, text, colour), height in zip(labels, heights, strict=True):
        style: dict[str, Any] = {"color": colour, "fontsize": 9.5, "va": "center", "annotation_clip": False}
        axes.annotate(text, (1.015, height), xycoords=("axes fraction", "data"), **style)
    dress(axes, title=title)
    thousands(axes)
    axes.set(xlabel="environment steps (glimpses) of training", ylabel="judged right after the last glimpse (%)")
    note = f"Curve: {validation_images} validation images."
    if evaluations:
        count = len(next(iter(evaluations.values())).outcomes)
        note += f" Lines and star: {count} test images, with 95 % intervals."
    entitle(figure, "", note)
    save(figure, path)


def _remark(axes: Axes, text: str, place: tuple[float, float], offset: tuple[int, int]) -> None:
    """Writes text beside a point of the curve, ``offset`` in points."""
    axes.annotate(
        text, place, xytext=offset, textcoords="offset points", color=POLICY_COLOURS["agent"], fontsize=9, zorder=6
    )


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves ascending heights apart by at least ``gap`` inside [low, high], as little as can be, and returns them.

    The moved heights minimise the sum of squared moves: an isotonic regression, once the gaps are taken off.
    """
    offsets = gap * np.arange(len(heights))
    moved = isotonic_regression(np.asarray(heights) - offsets).x
    return list(np.clip(moved, low, max(low, high - offsets[-1])) + offsets)


def tile(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Joins pictures (h, w, 3) uint8 of one height, row by row, edge to edge; all rows must be of one width."""
    rows = [np.concatenate(pictures[start : start + columns], axis=1) for start in range(0, len(pictures), columns)]
    missing = rows[0].shape[1] - rows[-1].shape[1]
    rows[-1] = np.pad(rows[-1], ((0, 0), (0, missing), (0, 0)), mode="edge")
    return np.concatenate(rows)


def episodes(path: Path, recordings: Mapping[str, Recording], dataset: GlimpseDataset, *, title: str) -> None:
    """Draws finished episodes, images from top to bottom and policies from left to right.

    Args:
        recordings: episodes on the same images of ``dataset``, by policy.
    """
    count = len(next(iter(recordings.values())).indices)
    pictures = [
        episode_frames(recording, row, dataset, name=name)[-1]
        for row in range(count)
        for name, recording in recordings.items()
    ]
    grid = Image.fromarray(tile(pictures, len(recordings)))
    picture = Image.new("RGB", (grid.width, grid.height + BANNER), grid.getpixel((0, 0)))
    picture.paste(grid, (0, BANNER))
    font = ImageFont.load_default(26)
    ImageDraw.Draw(picture).text((24, BANNER // 2 + 6), title, "white", font, anchor="lm")
    with whole_file(path) as temporary:
        picture.save(temporary)


def animate(path: Path, pictures: Sequence[np.ndarray], *, width: int, seconds: float) -> None:
    """Writes pictures, (h, w, 3) uint8 of one size, as an endless GIF of at most ``width`` pixels.

    Each stays for ``seconds``, the last one three times as long.
    """
    height, full_width = pictures[0].shape[:2]
    share = min(1.0, width / full_width)
    size = (round(full_width * share), round(height * share))
    frames = [
        Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS).quantize(256, kmeans=2) for picture in pictures
    ]
    stays = [round(1000 * seconds)] * (len(frames) - 1) + [round(3000 * seconds)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=stays, loop=0, optimize=True)


def beside(columns: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Joins the pictures of episodes, a list each, step by step from left to right; those that are over earlier wait
    for the others."""
    most = max(map(len, columns))
    waiting = [[*column, *[column[-1]] * (most - len(column))] for column in columns]
    return [np.concatenate(step, axis=1) for step in zip(*waiting, strict=True)]


def save_episode(
    path: Path, pictures: Sequence[np.ndarray], *, columns: int, width: int = 1000, seconds: float = 1.0
) -> None:
    """Writes the pictures of an episode, (h, w, 3) uint8 of one size, as an animation or all in one.

    Args:
        path: ``.gif`` for an animation, see :func:`animate`, or ``.png``.
        pictures: one a step.
        columns: pictures in a row of a PNG.
        width, seconds: of an animation.

    Raises:
        ConfigurationError: if the suffix is another.
    """
    check_picture(path)
    with whole_file(path) as temporary:
        if path.suffix == ".png":
            Image.fromarray(tile(pictures, columns)).save(temporary)
        else:
            animate(temporary, pictures, width=width, seconds=seconds)


def check_picture(path: Path) -> None:
    """Checks that an episode can be drawn at ``path``, before long work; raises ConfigurationError."""
    if path.suffix not in (".png", ".gif"):
        raise ConfigurationError(f"--out {path} must end in .png or .gif.")


def show_episode(pictures: Sequence[np.ndarray], *, title: str, width: int) -> None:
    """Shows the pictures of an episode in a window of at most ``width`` pixels, a second each, the last one for three.

    Raises:
        DependencyNotInstalled: if pygame is missing.
    """
    window = Window(title, fps=1)
    try:
        for picture in [*pictures, *[pictures[-1]] * 2]:
            image = Image.fromarray(picture)
            image.thumbnail((width, width))
            window.show(np.asarray(image))
    finally:
        window.close()


def pictures_of(folder: Path) -> list[Path]:
    """Returns where the pictures of a run are: its learning curve and its episodes."""
    return [folder / "learning_curve.png", folder / "episodes.png"]


def draw_run(folder: Path) -> list[Path]:
    """Draws ``learning_curve.png`` and ``episodes.png`` from a run's ``metrics.json`` and ``recordings.npz``.

    Returns:
        The paths of the pictures.

    Raises:
        ArtifactError: if the run is not finished or its files cannot be read.
    """
    args, source, _ = read_run(folder, Args(resume=folder))
    metrics, evaluations = finished_run(folder)
    paths, title = pictures_of(folder), title_of(args, source)
    curve_of_run(paths[0], metrics, evaluations, title)
    recordings = load_recordings(folder / "recordings.npz")
    episodes(paths[1], recordings, source.load("test"), title=title)
    return paths


def finished_run(folder: Path) -> tuple[dict[str, Any], dict[str, Evaluation]]:
    """Returns the metrics of a run, and its evaluations by policy.

    Raises:
        ArtifactError: if the run is not finished or ``metrics.json`` cannot be read.
    """
    metrics = read_metrics(folder)
    try:
        if not conforms(metrics["curve"], list[dict[str, Any]]) or not conforms(metrics["selection"], dict[str, Any]):
            raise ArtifactError("its curve or its selection is of another kind")
        numbers = [point[name] for point in metrics["curve"] for name in ("env_steps", "success")]
        numbers += [metrics["selection"][name] for name in ("env_steps", "validation_images")]
        if not conforms(numbers, list[float]):
            raise ArtifactError("its curve or its selection holds what is no number")
        return metrics, {name: Evaluation.from_json(entry) for name, entry in metrics["policies"].items()}
    except (ArtifactError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no finished run ({error!r}); go on with it first.") from error


def curve_of_run(path: Path, metrics: Mapping[str, Any], evaluations: Mapping[str, Evaluation], title: str) -> None:
    """Draws the learning curve of a finished run, see :func:`learning_curve`."""
    learning_curve(
        path,
        [(point["env_steps"], point["success"]) for point in metrics["curve"]],
        evaluations,
        selected=metrics["selection"]["env_steps"],
        validation_images=metrics["selection"]["validation_images"],
        title=title,
    )
