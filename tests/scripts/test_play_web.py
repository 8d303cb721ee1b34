"""scripts/play.py --web: from the address that it prints to the file of the games, and how it ends."""

import json
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from glimpse_env.datasets import make_source
from oracles.demonstrations import Demonstrations
from tests.scripts.test_scripts import call
from tests.support.toy import write_toy_judge

WORDS = ("--web", "--env", "GlimpseDigits-v0")


@pytest.fixture(autouse=True)
def _judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache with an untrained judge of the digits, in a folder of its own."""
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_toy_judge(make_source("digits"))


def test_two_images_and_ctrl_c_in_the_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    failed: list[BaseException] = []

    def play(address: str) -> None:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

        def ask(name: str, **values: object) -> dict:
            request = urllib.request.Request(
                f"{address}api/{name}", json.dumps(values).encode(), {"Content-Type": "application/json"}
            )
            return json.load(opener.open(request))["game"]

        try:
            page = opener.open(address).read().decode()
            for name in re.findall(r'(?:href|src)="([\w.]+)"', page):
                assert opener.open(f"{address}{name}").status == 200
            game = ask("begin", player="Zoë")
            for image in (1, 2):
                for step in range(game["steps"]):
                    game = ask("look", image=image, step=step, location=12 * step)
                ask("next", image=image, step=game["steps"])
            ask("look", image=3, step=0, location=3)
        except BaseException as error:
            failed.append(error)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(
        "agents.play.browser.show", lambda address: threading.Thread(target=play, args=[address]).start()
    )
    out, keep = tmp_path / "scores.json", tmp_path / "games" / "human-play.npz"
    call("play", *WORDS, "--split", "test", "--port", "0", "--keep", str(keep), "--out", str(out))
    assert failed == []
    printed = capsys.readouterr().out
    assert re.search(r"Play at http://127\.0\.0\.1:\d+/\n", printed)
    assert "Zoë:\n2 of 10 images played." in printed
    kept = Demonstrations.load(keep)
    assert kept.locations.tolist() == [[0, 12, 24, 36, 48, 60]] * 2
    assert kept.manifest["games"] == [{"player": "Zoë", "assisted": False}] * 2
    (game,) = json.loads(out.read_text())["games"]
    assert game["rounds"][0]["index"] == kept.indices[0]
    words = ["--env", "GlimpseDigits-v0", "--games", str(keep), "--policies", "random"]
    call("measure/players", *words, "--out", str(out), "--into", str(out.with_suffix(".md")))
    person = json.loads(out.read_text())["players"]["Zoë"]["person"]
    assert person["successes"] == game["score"]["all"]["person_successes"]
    rows = [line.split(" | ")[:2] for line in out.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert rows[2:] == [["| Zoë", "2"], ["| random", "2"]]


def test_a_port_that_is_taken_is_named() -> None:
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match=rf"--port {port}: nothing can listen there .*or 0 for any\.$"):
            call("play", *WORDS, "--port", port)
    with pytest.raises(SystemExit, match=r"port=99999 must be a whole number in 0"):
        call("play", *WORDS, "--port", "99999")


def test_a_missing_server_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit, match=r"DependencyNotInstalled: --web needs a server.*\[web\]"):
        call("play", *WORDS)


@pytest.mark.parametrize(("screen", "opened"), [({"DISPLAY": ":0"}, True), ({}, False)])
def test_a_browser_is_opened_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, screen: dict[str, str], opened: bool
) -> None:
    from agents.play.browser import show

    done = threading.Event()
    monkeypatch.setattr("webbrowser.open", lambda address: done.set())
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in screen.items():
        monkeypatch.setenv(name, value)
    show("http://127.0.0.1:8000/")
    assert done.wait(1 if opened else 0.05) == opened
