"""Tables about the oracle: published sequences beside ours, and how well its judge is calibrated."""

from collections.abc import Mapping

import numpy as np

from agents.evaluation.calibration import Calibration
from agents.evaluation.evaluate import TITLES
from agents.evaluation.published import MEASURES, NAMES, OURS, Judged, differences, mean_estimate, success_interval
from agents.evaluation.statistics import Estimate
from agents.reports.tables import format_estimate, markdown_table


def calibration_table(calibrations: Mapping[str, list[Calibration]]) -> str:
    """Returns a Markdown table with a row for each policy and number of glimpses.

    Args:
        calibrations: T for each policy.
    """
    head = ["policy", "glimpses", "ECE (95 % interval)", "of a perfect judge", "confidence", "accuracy"]
    rows = [[*head, "over-confidence"]]
    for name, steps in calibrations.items():
        for t, step in enumerate(steps, start=1):
            rows.append(
                [
                    TITLES.get(name, name),
                    str(t),
                    _percent(step.error),
                    _percent(step.perfect),
                    f"{100 * step.mean_confidence:.1f} %",
                    f"{100 * step.accuracy:.1f} %",
                    f"{100 * step.over_confidence:+.1f} %",
                ]
            )
    return markdown_table(rows)


def success_table(judged_by_origin: Mapping[str, Judged]) -> str:
    """Returns a Markdown table of the figures after the last glimpse and their differences to ours, by origin."""
    rows = [["sequences", "success", "less ours", "log-loss, nats", "less ours", "entropy, nats", "less ours"]]
    for name, judged in judged_by_origin.items():
        less = {measure: steps[-1] for measure, steps in differences(judged, judged_by_origin[OURS]).items()}
        rows.append(
            [
                NAMES.get(name, name),
                _percent(success_interval(judged)),
                "–" if name == OURS else _percent(less["success"], signed=True),
                format_estimate(mean_estimate(judged.log_loss[:, -1]), 2),
                "–" if name == OURS else format_estimate(less["log_loss"], 2, signed=True),
                format_estimate(mean_estimate(judged.entropy[:, -1]), 2),
                "–" if name == OURS else format_estimate(less["entropy"], 2, signed=True),
            ]
        )
    return markdown_table(rows)


def steps_table(judged_by_origin: Mapping[str, Judged], measure: str) -> str:
    """Returns a Markdown table of ``log_loss`` or ``entropy`` after each glimpse, with intervals."""
    steps = judged_by_origin[OURS].entropy.shape[1]
    rows = [[f"{measure.replace('_', '-')}, nats, after", *(str(t + 1) for t in range(steps))]]
    for name, judged in judged_by_origin.items():
        rows.append(
            [
                NAMES.get(name, name),
                *(format_estimate(mean_estimate(column), 2) for column in getattr(judged, measure).T),
            ]
        )
    return markdown_table(rows)


def last_differences(by_measure: Mapping[str, list[Estimate]]) -> str:
    """Returns :func:`agents.evaluation.published.differences` after the last glimpse in words."""
    success, log_loss, entropy = (by_measure[name][-1] for name in MEASURES)
    return (
        f"success {_percent(success, signed=True)}, log-loss {format_estimate(log_loss, 2, signed=True)}, "
        f"entropy {format_estimate(entropy, 2, signed=True)} nats"
    )


def reach_table(reached: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Returns a Markdown table of :func:`agents.evaluation.published.reach`, by origin of the sequences."""
    rows = [["sequences", "of the image seen", "of its visible parts seen"]]
    for name, measured in reached.items():
        rows.append(
            [
                NAMES.get(name, name),
                *(_percent(mean_estimate(measured[what])) for what in ("pixels", "parts")),
            ]
        )
    return markdown_table(rows)


def percentile_table(own: np.ndarray, others: np.ndarray) -> str:
    """Returns a Markdown table of percentiles (N, T) on our maps, of published choices for the image and for others."""
    steps = own.shape[1]
    rows = [["percentile on our map of glimpse", *(str(t + 1) for t in range(steps))]]
    for title, values, sign in (
        ("published for this image", own, False),
        ("published for other images", others, False),
        ("difference", own - others, True),
    ):
        rows.append([title, *(format_estimate(mean_estimate(column), 1, signed=sign) for column in values.T)])
    return markdown_table(rows)


def _percent(estimate: Estimate, *, signed: bool = False) -> str:
    return format_estimate(estimate, 1, scale=100, signed=signed, unit=" %")
