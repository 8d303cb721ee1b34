"""Pictures of a training run."""

import pytest

from agents.reports.episodes import spread


def test_labels_are_moved_apart_as_little_as_can_be():
    assert spread([10.0, 50.0], 5, 0, 100) == [10.0, 50.0]
    assert spread([10.0, 10.0, 50.0], 4, 0, 100) == pytest.approx([8.0, 12.0, 50.0])
    assert spread([99.0, 99.5, 100.0], 5, 0, 100) == pytest.approx([90.0, 95.0, 100.0])
    assert spread([0.0, 0.0], 5, 0, 100) == pytest.approx([0.0, 5.0])
