"""Anytime curves: by hand on a few recorded episodes, and their report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.evaluation import anytime
from agents.evaluation.anytime import Family
from agents.reports.stopping import looks as looks_by_step
from agents.reports.stopping.anytime import compare, draw, looks
from glimpse_env.sensing.geometry import LocationGrid, ZoomGrid
from oracles.induction import Recorded

TOLD_AFTER = np.array([0, 1, 2, 3])
"""Glimpses after which the judge is right and sure, of four images."""


def recorded(copies: int = 1) -> Recorded:
    """Episodes of three glimpses: of two classes the judge names the wrong one, with 0.6, until it is sure."""
    after = np.tile(TOLD_AFTER, copies)
    right = np.where(np.arange(4) >= after[:, None], 1.0, 0.4)
    unknown = np.full((len(after), 3), np.nan, dtype=np.float32)
    return Recorded(
        labels=np.zeros(len(after), dtype=np.int64),
        locations=np.tile(np.arange(3), (len(after), 1)),
        probabilities=np.stack([right, 1 - right], axis=-1).astype(np.float32),
        present=unknown,
        following=unknown,
    )


def test_where_each_family_stops() -> None:
    played = recorded()
    assert anytime.fixed_lengths(played).used.tolist() == [[t] * 4 for t in range(4)]
    for rule in ("entropy", "confidence"):
        used = anytime.thresholds(rule, played, played).used
        assert {tuple(row) for row in used.tolist()} == {(0, 0, 0, 0), (0, 1, 2, 3), (3, 3, 3, 3)}, rule
    # in hindsight the fourth image is given up where three glimpses cost more than they are worth
    assert anytime.clairvoyant(played, (0.01, 0.4)).used.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    many = recorded(200)
    fitted = anytime.induction(many, many, (0.01, 5.0)).used
    assert fitted.reshape(2, 200, 4)[:, 0].tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]


def test_outcomes_returns_and_the_choice_of_a_rule_by_hand() -> None:
    played, family = recorded(), anytime.fixed_lengths(recorded())
    assert anytime.outcomes(family, played).mean(axis=1).tolist() == [0.25, 0.5, 0.75, 1.0]
    assert anytime.returns(family, played, 0.1).mean(axis=1) == pytest.approx([0.25, 0.4, 0.55, 0.7])
    assert anytime.best_setting(family, played, 0.1) == 3
    assert anytime.best_setting(family, played, 0.3) == 0


def test_what_another_rule_or_a_coin_beats_is_left_out() -> None:
    outcomes, spent = np.array([[0.5], [0.4], [0.6], [0.9], [0.9]]), np.array([[1], [2], [2], [3], [4]])
    assert anytime.frontier(outcomes, spent).tolist() == [0, 3]  # 0.6 is less than 0.7, half way
    outcomes[2] = 0.8
    assert anytime.frontier(outcomes, spent).tolist() == [0, 2, 3]


def test_curve_area_and_least_glimpses_by_hand() -> None:
    played, family = recorded(), anytime.fixed_lengths(recorded())
    budgets = np.linspace(1, 3, 5)
    curves = anytime.curve(anytime.outcomes(family, played), family.used, budgets, resamples=50)
    assert curves.shape == (51, 5)
    assert curves[0] == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0])
    area = anytime.area(curves, budgets)
    assert area.value == pytest.approx(0.75)
    assert area.low is not None
    assert area.high is not None
    assert area.low < 0.75 < area.high
    assert anytime.least_glimpses(curves, budgets, 1.0, 0.25) == 2.0
    assert anytime.least_glimpses(curves, budgets, 1.1, 0.01) is None
    again = anytime.curve(anytime.outcomes(family, played), family.used, budgets, resamples=50)
    assert anytime.estimate((curves - again)[:, 0]).to_json() == {"value": 0.0, "interval": [0.0, 0.0]}


def test_operations_in_place_of_glimpses() -> None:
    family = Family(np.arange(2.0), np.array([[1, 1], [3, 3]]))
    curves = anytime.curve(np.array([[0.0, 0.0], [1.0, 1.0]]), 10 * family.used, np.array([10.0, 20.0, 30.0]))
    assert curves[0].tolist() == [0.0, 0.5, 1.0]


def test_report_of_rules_on_the_same_episodes(tmp_path: Path) -> None:
    many = recorded(100)
    compared = compare(many, many, many, 0.02)
    entry = compared.to_json()
    assert entry["families"]["induction"]["at_cost"]["mean_glimpses"] == 1.5
    assert entry["families"]["induction"]["at_cost"]["return"]["value"] == pytest.approx(0.97)
    assert entry["families"]["fixed"]["at_cost"]["return"]["value"] == pytest.approx(0.94)
    # it is right about all images with 1.5 glimpses, where a fixed number comes to 0.625
    at = int(np.argmin(np.abs(compared.budgets - 1.5)))
    assert entry["induction_less"]["fixed"]["value"][at] == pytest.approx(0.375)
    assert max(np.abs(entry["induction_less"]["entropy"]["value"])) < 1e-6
    text = compared.to_markdown()
    assert "| backward induction | " in text
    assert "| nowhere | 1.00 to 2.95 |" in text
    draw(tmp_path / "curve.png", compared, title="t", note="n")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_looks_by_step() -> None:
    played = recorded()
    rows = looks(played, LocationGrid(8, 4, 2))
    assert [row["zooms"] for row in rows] == [{"1": 1.0}] * 3
    assert rows[1]["most_frequent"] == [{"corner": [0, 2], "share": 1.0}]
    grid = ZoomGrid(16, 4, 4, (1, 2))
    wide = np.array([[len(grid) - 1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert looks(replace(played, locations=wide), grid)[0]["zooms"] == {"1": 0.75, "2": 0.25}


def test_where_how_closely_and_until_when_by_hand(tmp_path: Path) -> None:
    grid = ZoomGrid(60, 12, 4, (1, 2, 4))  # 169 + 25 + 1 places
    locations = np.array([[194, 0, 168], [194, 169, -1], [0, -1, -1], [194, 193, 3]])
    expected = [[0.25, 0, 0.75, 0], [0.25, 0.5, 0, 0.25], [0.5, 0, 0, 0.5]]
    assert np.allclose(looks_by_step.shares(locations, grid), expected)
    looks_by_step.draw(tmp_path / "looks.png", locations, grid, title="toy", note="four episodes")
    assert (tmp_path / "looks.png").stat().st_size > 5000
