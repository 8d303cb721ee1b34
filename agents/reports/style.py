"""How all pictures look: colours, axes, titles and notes, and how they are written."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from glimpse_env.files import whole_file
from glimpse_env.sensing.geometry import LocationGrid

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, OLIVE = PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#8C7A00",
)
"""Okabe and Ito's colours, safe for the colour-blind, with a darker yellow."""
WINE = "#882255"
"""Colour of people's gaze."""
INDIGO = "#332288"
"""Colour of the kernel oracle."""
GREY, NOTE_GREY, GRID_GREY = "#6B6B6B", "#555555", "#e6e6e6"
POLICY_COLOURS = {
    "agent": BLUE,
    "agent_cloned": SKY,
    "oracle": ORANGE,
    "kernel": INDIGO,
    "clairvoyant": PINK,
    "fixed": GREEN,
    "centre": OLIVE,
    "hgs": YELLOW,
    "human": WINE,
    "random": GREY,
}
"""Colours of an agent and the policies that it is compared with, by name."""


def new_figure(width: float, height: float, *, dpi: int = 150) -> Figure:
    """Returns an empty figure of ``width`` x ``height`` inches whose layout keeps labels apart."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def literal(text: str) -> str:
    """Returns a text as matplotlib shows it as it is: dollar signs begin no formula."""
    return text.replace("$", r"\$")


def dress(axes: Axes, grid: str = "y", *, title: str = "") -> None:
    """Gives axes a light grid (``"x"``, ``"y"`` or ``"both"``) behind what is drawn, no frame above and at the right,
    and a bold title at the left."""
    axes.grid(axis=grid, color=GRID_GREY, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(literal(title), loc="left", fontsize=12, fontweight="bold")


def entitle(figure: Figure, title: str, note: str = "") -> None:
    """Writes a bold title over the figure and a small grey note under it, both at the left."""
    if title:
        figure.suptitle(literal(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    if note:
        figure.supxlabel(literal(note), x=0.01, ha="left", fontsize=8.5, color=NOTE_GREY)


def thousands(axes: Axes) -> None:
    """Writes the numbers of the x-axis as 10,000."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def short_number(value: float) -> str:
    """Returns three digits of a number, in thousands or millions where large: 500, 20k, 1.5M."""
    for unit, sign in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{sign}"
    return f"{value:.3g}"


def name_glimpses(panels: np.ndarray, rows: Iterable[str]) -> None:
    """Names a grid of images, a column a glimpse, and takes their ticks away.

    Args:
        panels: (rows, T) axes.
        rows: names at the left.
    """
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    for t, axes in enumerate(panels[0]):
        axes.set_title(f"glimpse {t + 1}", fontsize=10)
    for axes, name in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=10)


def covered(locations: Sequence[int] | np.ndarray, grid: LocationGrid) -> np.ndarray:
    """Returns the share (H, W), float64, of glimpses at the grid locations ``locations`` (N,) that show each pixel."""
    shares = np.zeros((grid.image_size, grid.image_size))
    places, counts = np.unique(np.asarray(locations), return_counts=True)
    for (top, left, *zoom), count in zip(grid.corners[places], counts, strict=True):
        side = grid.glimpse_size * (zoom[0] if zoom else 1)
        shares[top : top + side, left : left + side] += count
    return shares / max(len(locations), 1)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG, whole or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def save_both(figure: Figure, stem: Path) -> list[Path]:
    """Writes a figure as ``stem``.png and ``stem``.svg and returns the paths.

    The SVG's ids depend on its name and content alone, and neither file holds a date.
    """
    written = []
    for suffix in (".png", ".svg"):
        path = stem.with_name(stem.name + suffix)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type") if suffix == ".svg" else ("Software",))
        with whole_file(path) as temporary, matplotlib.rc_context({"svg.hashsalt": stem.name}):
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        written.append(path)
    return written
