"""Pictures of a training run."""

import numpy as np
import pytest

from agents.reports.episodes import beside, show_episode, spread


def test_labels_are_moved_apart_as_little_as_can_be():
    assert spread([10.0, 50.0], 5, 0, 100) == [10.0, 50.0]
    assert spread([10.0, 10.0, 50.0], 4, 0, 100) == pytest.approx([8.0, 12.0, 50.0])
    assert spread([99.0, 99.5, 100.0], 5, 0, 100) == pytest.approx([90.0, 95.0, 100.0])
    assert spread([0.0, 0.0], 5, 0, 100) == pytest.approx([0.0, 5.0])


def test_pictures_of_episodes_wait_for_each_other_and_are_shown_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    short, long = ([np.full((20, 30, 3), shade, np.uint8) for shade in shades] for shades in ((1, 2), (3, 4, 5)))
    pictures = beside([short, long])
    assert [picture.shape for picture in pictures] == [(20, 60, 3)] * 3
    assert [(picture[0, 0, 0], picture[0, -1, 0]) for picture in pictures] == [(1, 3), (2, 4), (2, 5)]
    shown = []
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(pygame.time, "wait", lambda _: shown.append(pygame.display.get_surface().get_size()))
    show_episode(pictures, title="an episode", width=30)
    assert shown == [(30, 10)] * 5  # the last one for three
    assert not pygame.display.get_init()
