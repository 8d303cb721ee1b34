"""The page of the game in a real browser, against the real server, and the colours that it is drawn in."""

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.play.game import Game
from oracles.boed.oracle import BOEDOracle
from tests.agents.play.test_game import noise_game
from tests.support import toy

pytest.importorskip("uvicorn")

from agents.play.browser import listening_at
from agents.play.table import Table

STYLE = (Path(__file__).parents[3] / "agents" / "play" / "page" / "play.css").read_text(encoding="utf-8")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as the system has it."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


class Served:
    """A server in a thread, whose games are handed out in turn."""

    def __init__(self, listening: Any, address: str, games: list[Game]):
        import uvicorn

        from agents.play.server import application, known_hosts

        self.address = address
        self.table = Table("Toy-v0", "player", lambda player: games.pop(0), lambda game, player: None)
        app = application(self.table, hosts=known_hosts("127.0.0.1"))
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.table.close()


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with listening_at("127.0.0.1", 0) as (listening, address):
        running = Served(listening, address, [make() for make in request.param])
        try:
            yield running
        finally:
            running.stop()


def zoomed_game() -> Game:
    geometry = replace(toy.GEOMETRY, zooms=(1, 2, 3))
    dataset, judge = toy.toy_dataset(split="test", geometry=geometry), toy.toy_judge(geometry)
    oracle = BOEDOracle(toy.toy_dataset(seed=1, geometry=geometry), judge)
    return Game(dataset, judge, oracle, np.array([4]), glimpse_cost=0.1)


class Player:
    """One who plays in a browser of their own.

    Args:
        browser: what Playwright gives.
        address: of the server.
        name: of the player.
        options: of the browser's window.
    """

    def __init__(self, browser: Any, address: str, name: str, **options: Any):
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.page.fill("#player", name)
        self.page.click("#begin button")
        self.says("#where", "Image 1 of")

    def says(self, selector: str, text: str) -> None:
        """Waits until an element has a text."""
        arguments = [selector, text]
        script = "([selector, text]) => document.querySelector(selector).textContent.includes(text)"
        self.page.wait_for_function(script, arg=arguments)

    def at(self, row: float, col: float) -> tuple[float, float]:
        """Where a place of the image is, in its sides."""
        box = self.page.locator("#board").bounding_box()
        return box["x"] + col * box["width"], box["y"] + row * box["height"]

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def pinch(self, *distances: float) -> None:
        """Puts two fingers on the image, so far from each other in its sides, and takes them away."""
        session = self.page.context.new_cdp_session(self.page)
        for kind, distance in zip(("touchStart", *["touchMove"] * len(distances)), distances, strict=False):
            places = [self.at(0.5, 0.5 + side * distance / 2) for side in (-1, 1)]
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    @property
    def fits(self) -> bool:
        """Whether nothing has to be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.mark.parametrize("served", [[noise_game, noise_game]], indirect=True)
def test_two_whole_games_at_once_one_of_them_reloaded(browser: Any, served: Served) -> None:
    ann = Player(browser, served.address, "Ann", viewport={"width": 1280, "height": 800})
    bob = Player(browser, served.address, "Bob", viewport={"width": 390, "height": 844}, has_touch=True)
    (_, anns), (_, bobs) = ((seat.player, seat.game) for seat in served.table.seats.values())
    ann.page.mouse.click(*ann.at(0.15, 0.15))
    ann.says("#count", "1 of 4")
    bob.page.touchscreen.tap(*bob.at(0.85, 0.85))
    bob.says("#count", "1 of 4")
    assert (anns.grid.nearest(anns.corners).tolist(), bobs.grid.nearest(bobs.corners).tolist()) == ([0], [63])
    ann.page.reload()
    ann.says("#count", "1 of 4")
    seen = ann.page.get_attribute("#seen", "alt")
    assert seen == "The hidden image, 1 of 4 glimpses seen"
    ann.page.focus("#board")
    ann.press("m")
    ann.says("#choice", "The oracle would look")
    ann.says("#where", "assisted")
    ann.press("m")
    ann.page.wait_for_selector("#legend", state="hidden")
    ann.press("ArrowUp", "ArrowLeft", "ArrowLeft", "Space")
    ann.says("#count", "2 of 4")
    assert anns.grid.nearest(anns.corners).tolist() == [0, 2 * 8 + 1], "from row 4, column 4, in the middle"
    ann.press("Space")  # in vain
    ann.says("#message", "You have looked there already.")
    for count, key in ((3, "ArrowDown"), (4, "ArrowDown")):
        ann.press(key, "Space")
        ann.says("#count", f"{count} of 4")
    ann.page.wait_for_selector("#verdict")
    ann.says("#class", "class 1")
    assert ann.page.locator("#answers .result").count() == 2
    assert ann.page.get_attribute("#seen", "alt") == "The image: class 1"
    ann.press("Enter")  # the button for the next image has the focus
    ann.says("#where", "Image 2 of 2")
    assert len(bobs.corners) == 1
    for k in range(4):
        ann.press("ArrowRight", "Space")
        ann.says("#count", f"{k + 1} of 4")
    ann.page.click("#next")
    ann.says("#end-title", "2 images played")
    assert ann.page.locator("#rounds img[alt^='A class']").count() == 2
    assert "right" in ann.page.text_content("#rounds") or "wrong" in ann.page.text_content("#rounds")
    assert ann.page.locator("#totals th:empty").count() == 0, "an empty header is read aloud as one"
    assert anns.finished
    for player in (ann, bob):
        assert player.fits
        assert player.complaints == []
        player.page.context.close()


@pytest.mark.parametrize("served", [[zoomed_game]], indirect=True)
def test_zooming_and_stopping(browser: Any, served: Served) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    ann = Player(browser, served.address, "Ann", **phone)
    (seat,) = served.table.seats.values()
    ann.page.mouse.move(*ann.at(0.5, 0.5))
    ann.page.mouse.wheel(0, 120)
    ann.says("#zoom", "2 times as wide")
    ann.press("+", "-", "-")
    ann.says("#zoom", "3 times as wide")
    ann.pinch(0.2, 0.3, 0.45)
    ann.says("#zoom", "as close as it goes")
    ann.pinch(0.4, 0.28, 0.2, 0.1)
    ann.says("#zoom", "3 times as wide")
    ann.says("#count", "0 of 4")
    ann.press("Space")
    ann.says("#count", "1 of 4")
    assert seat.game.corners[0, 2] == 3
    assert ann.page.is_enabled("#closer")
    assert not ann.page.is_enabled("#wider")
    ann.press("Enter")
    ann.says("#answers", "1 glimpse, log-loss")
    assert seat.game.over
    ann.press("Space")
    ann.says("#totals", "less the glimpses' price")
    assert ann.fits
    assert ann.complaints == []
    ann.page.context.close()


def colours(scheme: str) -> dict[str, str]:
    """The variables of the style, in light or dark."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_contrast(scheme: str) -> None:
    shown = colours(scheme)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for text, ground in (
        ("ink", "page"), ("faint", "page"), ("ink", "shade"), ("on-accent", "accent"), ("alert", "alert-shade"),
    ):  # fmt: skip
        assert contrast(shown[text], shown[ground]) >= 4.5, (text, ground)
    for mark, ground in (("person", "dark"), ("oracle", "dark"), ("bar", "shade"), ("accent", "page")):
        assert contrast(shown[mark], shown[ground]) >= 3, (mark, ground)
