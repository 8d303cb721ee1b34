"""Tables about the oracle: published sequences beside ours, and how well its judge is calibrated."""

from collections.abc import Mapping

import numpy as np

from agents.evaluation.calibration import Calibration
from agents.evaluation.evaluate import TITLES
from agents.evaluation.published import (
    MEASURES,
    NAMES,
    OURS,
    Judged,
    differences,
    mean_estimate,
    mean_estimates,
    success_interval,
)
from agents.evaluation.statistics import Estimate
from agents.reports.tables import MISSING, format_estimate, format_percent, markdown_table


def calibration_table(calibrations: Mapping[str, list[Calibration]]) -> str:
    """Returns a Markdown table with a row for each policy and number of glimpses (1..T)."""
    head = ["policy", "glimpses", "ECE (95 % interval)", "of a perfect judge", "confidence", "accuracy"]
    rows = [[*head, "over-confidence"]]
    for name, steps in calibrations.items():
        for t, step in enumerate(steps, start=1):
            shares = f"{100 * step.mean_confidence:.1f} %", f"{100 * step.accuracy:.1f} %"
            errors = format_percent(step.error), format_percent(step.perfect)
            rows.append([TITLES.get(name, name), str(t), *errors, *shares, f"{100 * step.over_confidence:+.1f} %"])
    return markdown_table(rows)


def success_table(judged_by_origin: Mapping[str, Judged]) -> str:
    """Returns a Markdown table of the figures after the last glimpse and their differences to ours, by origin."""
    rows = [["sequences", "success", "less ours", "log-loss, nats", "less ours", "entropy, nats", "less ours"]]
    for name, judged in judged_by_origin.items():
        row = [NAMES.get(name, name)]
        for measure, less in differences(judged, judged_by_origin[OURS]).items():
            write = format_percent if measure == "success" else _nats
            last = success_interval(judged) if measure == "success" else mean_estimates(getattr(judged, measure))[-1]
            row += [write(last), MISSING if name == OURS else write(less[-1], signed=True)]
        rows.append(row)
    return markdown_table(rows)


def steps_table(judged_by_origin: Mapping[str, Judged], measure: str) -> str:
    """Returns a Markdown table of ``log_loss`` or ``entropy`` after each glimpse, with intervals."""
    steps = judged_by_origin[OURS].entropy.shape[1]
    rows = [[f"{measure.replace('_', '-')}, nats, after", *(str(t + 1) for t in range(steps))]]
    for name, judged in judged_by_origin.items():
        estimates = mean_estimates(getattr(judged, measure))
        rows.append([NAMES.get(name, name), *(format_estimate(estimate, 2) for estimate in estimates)])
    return markdown_table(rows)


def last_differences(by_measure: Mapping[str, list[Estimate]]) -> str:
    """Returns :func:`agents.evaluation.published.differences` after the last glimpse in words."""
    success, log_loss, entropy = (by_measure[name][-1] for name in MEASURES)
    return (
        f"success {format_percent(success, signed=True)}, log-loss {_nats(log_loss, signed=True)}, "
        f"entropy {_nats(entropy, signed=True)} nats"
    )


def reach_table(reached: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Returns a Markdown table of :func:`agents.evaluation.published.reach`, by origin of the sequences."""
    rows = [["sequences", "of the image seen", "of its visible parts seen"]]
    for name, measured in reached.items():
        shares = (format_percent(mean_estimate(measured[what])) for what in ("pixels", "parts"))
        rows.append([NAMES.get(name, name), *shares])
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
        rows.append([title, *(format_estimate(estimate, 1, signed=sign) for estimate in mean_estimates(values))])
    return markdown_table(rows)


def _nats(estimate: Estimate, *, signed: bool = False) -> str:
    return format_estimate(estimate, 2, signed=signed)
