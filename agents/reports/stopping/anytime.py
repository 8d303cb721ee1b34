"""Tables and picture of success by glimpses, for rules that stop the same episodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation import anytime
from agents.evaluation.anytime import Family
from agents.evaluation.statistics import Estimate, mean_of, percentile_estimates
from agents.reports.style import BLUE, GREEN, GREY, ORANGE, PINK, dress, entitle, new_figure, save
from agents.reports.tables import MISSING, format_percent, markdown_table
from glimpse_env.sensing.geometry import LocationGrid
from oracles.induction import Recorded

TITLES = {
    "fixed": "the same number for every image",
    "entropy": "entropy",
    "confidence": "confidence",
    "induction": "backward induction",
    "clairvoyant": "best in hindsight (peeks)",
}
"""Families of rules, in the order of tables."""
COLOURS = {"fixed": GREY, "entropy": BLUE, "confidence": GREEN, "induction": ORANGE, "clairvoyant": PINK}
RIVALS = ("fixed", "entropy", "confidence")
"""Families that the induction is compared with."""


@dataclass(frozen=True)
class Compared:
    """Families of rules on the same images."""

    images: int
    budgets: np.ndarray
    """(M,) float64: mean glimpses, from 1 to T."""
    cost: float
    """Cost of a glimpse that returns are of."""
    full: float
    """Success after all T glimpses."""
    curves: Mapping[str, np.ndarray]
    """(1 + R, M) by family: success at these budgets, see :func:`agents.evaluation.anytime.curve`."""
    at_cost: Mapping[str, tuple[float, float, Estimate, Estimate]]
    """By family, with the rule that validation images have chosen for the cost: its setting, mean glimpses, success
    and return."""

    def difference(self, rival: str) -> np.ndarray:
        """Returns the induction's success less a rival's (1 + R, M)."""
        return np.asarray(self.curves["induction"] - self.curves[rival])

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        families: dict[str, Any] = {}
        for name, samples in self.curves.items():
            setting, glimpses, success, worth = self.at_cost[name]
            families[name] = {
                "area": anytime.area(samples, self.budgets).to_json(),
                "least_glimpses": anytime.least_glimpses(samples, self.budgets, self.full),
                "at_cost": {
                    "setting": setting,
                    "mean_glimpses": glimpses,
                    "success": success.to_json(),
                    "return": worth.to_json(),
                },
                "curve": [round(float(value), 4) for value in samples[0]],
            }
        differences = {}
        for rival in RIVALS:
            value, low, high = percentile_estimates(self.difference(rival))
            differences[rival] = {
                "area": anytime.area(self.difference(rival), self.budgets).to_json(),
                **{
                    key: [round(float(x), 4) for x in xs]
                    for key, xs in (("value", value), ("low", low), ("high", high))
                },
            }
        return {
            "success_of_all_glimpses": self.full,
            "budgets": self.budgets.tolist(),
            "families": families,
            "induction_less": differences,
        }

    def to_markdown(self) -> str:
        """Returns a table of the families, and one of the induction's differences to its rivals."""
        head = ["stops by", "area, %", "glimpses within half a point of all"]
        rows = [[*head, f"glimpses at cost {self.cost:g}", "success, %", "return, %"]]
        for name in TITLES:
            _, glimpses, success, worth = self.at_cost[name]
            least = anytime.least_glimpses(self.curves[name], self.budgets, self.full)
            cells = [format_percent(anytime.area(self.curves[name], self.budgets))]
            cells += [MISSING if least is None else f"{least:.2f}", f"{glimpses:.2f}"]
            rows.append([TITLES[name], *cells, format_percent(success), format_percent(worth)])
        further = [["backward induction less", "area, points", "mean glimpses where below", "where above"]]
        for rival in RIVALS:
            _, low, high = percentile_estimates(self.difference(rival))
            area = format_percent(anytime.area(self.difference(rival), self.budgets), signed=True)
            further.append([TITLES[rival], area, self._span(high < -1e-9), self._span(low > 1e-9)])
        return f"{markdown_table(rows, 'lr')}\n\n{markdown_table(further, 'lr')}"

    def _span(self, where: np.ndarray) -> str:
        """Returns the budgets, where they are, as text: the runs of them."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(int), [0]])))
        runs = [(self.budgets[a], self.budgets[b - 1]) for a, b in edges.reshape(-1, 2)]
        return ", ".join(f"{a:.2f} to {b:.2f}" if b > a else f"{a:.2f}" for a, b in runs) or "nowhere"


def compare(fitted_to: Recorded, chosen_on: Recorded, played: Recorded, cost: float) -> Compared:
    """Returns the families of rules on episodes ``played``.

    Args:
        fitted_to: training episodes, which the induction is fitted to.
        chosen_on: validation episodes, which choose among rules and thresholds.
        played: the episodes reported.
        cost: cost of a glimpse that returns are of.
    """
    costs = sorted({*anytime.COSTS, cost})

    def families(episodes: Recorded) -> dict[str, Family]:
        return {
            "fixed": anytime.fixed_lengths(episodes),
            "entropy": anytime.thresholds("entropy", chosen_on, episodes),
            "confidence": anytime.thresholds("confidence", chosen_on, episodes),
            "induction": anytime.induction(fitted_to, episodes, costs),
            "clairvoyant": anytime.clairvoyant(episodes, costs),
        }

    steps = played.locations.shape[1]
    budgets = np.linspace(1, steps, 20 * (steps - 1) + 1)
    curves, at_cost = {}, {}
    validated = families(chosen_on)
    for name, family in families(played).items():
        kept = anytime.frontier(anytime.outcomes(validated[name], chosen_on), validated[name].used)
        curves[name] = anytime.curve(anytime.outcomes(family, played)[kept], family.used[kept], budgets)
        if name in ("induction", "clairvoyant"):  # made for the cost
            k = costs.index(cost)
        else:
            k = anytime.best_setting(validated[name], chosen_on, cost)
        at_cost[name] = (
            float(family.settings[k]),
            float(family.used[k].mean()),
            mean_of(anytime.outcomes(family, played)[k]),
            mean_of(anytime.returns(family, played, cost)[k]),
        )
    full = float(1.0 - played.errors[:, -1].mean())
    return Compared(len(played.labels), budgets, cost, full, curves, at_cost)


def looks(played: Recorded, grid: LocationGrid) -> list[dict[str, Any]]:
    """Returns, by step, how often each zoom is chosen and the most frequent places, as JSON values."""
    rows = []
    for t in range(played.locations.shape[1]):
        places, counts = np.unique(played.locations[:, t], return_counts=True)
        shares = counts / counts.sum()
        zooms: dict[str, float] = {}
        for place, share in zip(places, shares, strict=True):
            corner = grid.corners[place]
            zoom = str(int(corner[2]) if len(corner) > 2 else 1)
            zooms[zoom] = round(zooms.get(zoom, 0.0) + float(share), 4)
        top = np.argsort(-shares, kind="stable")[:3]
        often = [{"corner": grid.corners[places[k]].tolist(), "share": round(float(shares[k]), 4)} for k in top]
        rows.append({"step": t + 1, "zooms": zooms, "most_frequent": often})
    return rows


def draw(path: Path, compared: Compared, *, title: str, note: str) -> None:
    """Draws success against mean glimpses, with 95 % bands.

    Args:
        path: path of the PNG.
        compared: see :class:`Compared`.
        title: names the environment.
        note: what was played, below the axes.
    """
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    for name, samples in compared.curves.items():
        value, low, high = percentile_estimates(samples)
        if name != "clairvoyant":
            axes.fill_between(compared.budgets, 100 * low, 100 * high, color=COLOURS[name], alpha=0.12, linewidth=0)
        axes.plot(compared.budgets, 100 * value, color=COLOURS[name], linewidth=2.0, label=TITLES[name])
    axes.set_xlabel("glimpses, mean over images")
    axes.set_ylabel("right when stopped (%)")
    dress(axes, title=title)
    axes.legend(loc="lower right", frameon=False, title="stops by")
    entitle(figure, "", note)
    save(figure, path)
