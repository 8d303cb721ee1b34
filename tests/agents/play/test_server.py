"""What the server of the game answers: games of several players, junk, and nothing that a player must not know."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.play.game import Game
from oracles.boed.oracle import BOEDOracle
from tests.agents.play.test_game import noise_game, solved_game
from tests.support import toy
from tests.support.toy_problem import IMAGES

pytest.importorskip("starlette")
pytest.importorskip("httpx2", reason="the client of the tests needs it")

from starlette.testclient import TestClient

from agents.play import table as tables
from agents.play.server import MAX_BODY, application, known_hosts
from agents.play.table import Table

OURS = "http://127.0.0.1:8000"
HOSTS = known_hosts("127.0.0.1")


def table_of(*games: Game) -> Table:
    """A table that hands out these games in turn, and keeps rounds in its ``kept``."""
    stock = list(games)
    kept: list[tuple[str, int]] = []

    def keep(game: Game, player: str) -> None:
        kept.extend((player, played.index) for played in game.rounds[game.kept :])
        game.kept = len(game.rounds)

    table = Table("Toy-v0", "player", lambda player: stock.pop(0), keep)
    table.kept = kept  # type: ignore[attr-defined]
    return table


def client_of(table: Table, address: str = OURS, **options: Any) -> TestClient:
    return TestClient(application(table, hosts=HOSTS), base_url=address, **options)


def begin(client: TestClient, player: str = "Ann") -> dict[str, Any]:
    return client.post("/api/begin", json={"player": player}).json()["game"]


def move(client: TestClient, name: str, **values: Any) -> Any:
    """A move of the game as it stands."""
    game = client.get("/api/game").json()["game"]
    return client.post(f"/api/{name}", json={"image": game["image"], "step": len(game["glimpses"]), **values})


def pixels(address: str) -> np.ndarray:
    """The pixels of a picture in an answer."""
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_a_whole_game() -> None:
    table = table_of(solved_game(2, 5))
    client = client_of(table)
    assert client.get("/api/game").json() == {"title": "Toy-v0", "player": "player", "game": None}
    game = begin(client)
    assert (game["image"], game["images"], game["steps"], game["size"]) == (1, 2, 2, 3)
    assert game["levels"] == [{"first": 0, "window": 1, "corners": [0, 1, 2]}]
    assert move(client, "map", shown=True).json()["game"]["map"]["choice"] == 0
    assert move(client, "map", shown=True).json()["game"]["map"] is not None  # asked for twice is shown once
    assert move(client, "map", shown=False).json()["game"]["map"] is None
    assert move(client, "look", location=0).json()["game"]["taken"] == [0]
    game = move(client, "look", location=1).json()["game"]
    assert (game["over"], game["seen"], game["verdict"]["class"]) == (True, None, "b")
    assert game["verdict"]["person"]["classes"][0] == {"name": "b", "probability": 1.0, "true": True}
    assert game["score"]["person"]["successes"] == game["score"]["oracle"]["successes"] == 1
    np.testing.assert_array_equal(pixels(game["verdict"]["picture"])[..., :1], IMAGES[2])
    assert table.kept == [("Ann", 2)]  # type: ignore[attr-defined]
    game = move(client, "next").json()["game"]
    assert (game["image"], game["over"], game["assisted"], game["glimpses"]) == (2, False, False, [])
    move(client, "look", location=7)
    move(client, "look", location=8)
    game = move(client, "next").json()["game"]
    assert game["finished"]
    assert [(one["class"], one["person"], one["assisted"]) for one in game["rounds"]] == [
        ("b", True, True),
        ("d", False, False),
    ]
    assert game["score"]["assisted"] == 1
    assert move(client, "next").status_code == 409


def test_nothing_but_the_glimpses_is_told_before_the_end() -> None:
    """All answers are the same for two images of other classes that agree where the player looks, and only there."""
    locations = (0, 12, 43, 62)
    first, second = toy.toy_twins(locations)
    judge = toy.toy_judge()
    bank = toy.toy_dataset(seed=5)
    clients = [
        client_of(table_of(Game(dataset, judge, BOEDOracle(bank, judge), np.array([4, 9]))))
        for dataset in (first, second)
    ]

    def same(answers: list[Any]) -> dict[str, Any]:
        assert answers[0].content == answers[1].content
        return answers[0].json()["game"]

    same([client.post("/api/begin", json={"player": "Ann"}) for client in clients])
    seen = np.zeros((40, 40), bool)
    for t, location in enumerate(locations):
        same([client.get("/api/game") for client in clients])
        game = same([move(client, "map", shown=True) for client in clients])
        shown = pixels(game["seen"])
        assert ((shown[..., 3] > 0) == seen).all()
        assert not shown[~seen].any(), "also where it is transparent"
        assert (shown[seen][:, :1] == first.images[4][seen]).all()
        same([move(client, "map", shown=False) for client in clients])
        assert "class" not in json.dumps(game)
        if t < 3:
            same([move(client, "look", location=location) for client in clients])
        row, col = judge.grid.corners[location]
        seen[row : row + 12, col : col + 12] = True
    ends = [move(client, "look", location=62).json()["game"] for client in clients]
    assert ends[0]["verdict"]["class"] != ends[1]["verdict"]["class"]
    assert ends[0]["verdict"]["picture"] != ends[1]["verdict"]["picture"]


def test_players_do_not_mix() -> None:
    table = table_of(noise_game(), noise_game(), noise_game())
    ann, bob, nobody = (client_of(table) for _ in range(3))
    begin(ann, "Ann")
    begin(bob, "Bob")
    move(ann, "look", location=5)
    move(bob, "look", location=40)
    move(bob, "look", location=41)
    assert ann.get("/api/game").json()["game"]["taken"] == [5]
    assert bob.get("/api/game").json()["game"]["taken"] == [40, 41]
    assert bob.get("/api/game").json()["player"] == "Bob"
    assert nobody.get("/api/game").json()["game"] is None
    assert nobody.post("/api/look", json={"image": 1, "step": 1, "location": 3}).status_code == 409
    nobody.cookies.set("glimpse", "guessed", domain="127.0.0.1")
    assert nobody.get("/api/game").json()["game"] is None
    begin(nobody)
    assert "guessed" not in table.seats, "players do not choose their tokens"
    again = TestClient(ann.app, base_url=OURS, cookies={"glimpse": ann.cookies["glimpse"]})  # a reload
    assert again.get("/api/game").json() == ann.get("/api/game").json()


def test_the_cookie_is_for_this_site_alone() -> None:
    answer = client_of(table_of(noise_game())).post("/api/begin", json={"player": "Ann"})
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]


JUNK: list[tuple[int, dict[str, Any]]] = [
    (400, {"content": b"{"}),
    (400, {"content": b""}),
    (400, {"content": b"\xff\xfe"}),
    (400, {"content": b"[" * 3000}),
    (422, {"json": []}),
    (422, {"json": {"image": 1, "step": 1}}),
    (422, {"json": {"image": 1, "step": 1, "location": 3, "more": 1}}),
    (422, {"json": {"image": 1, "step": 1, "location": "3"}}),
    (422, {"json": {"image": 1, "step": 1, "location": True}}),
    (422, {"json": {"image": 1, "step": 1, "location": 3.0}}),
    (422, {"json": {"image": 1, "step": 1, "location": None}}),
    (422, {"json": {"image": 1, "step": 1, "location": -1}}),
    (422, {"json": {"image": 1, "step": 1, "location": 64}}),
    (422, {"json": {"image": 1, "step": 1, "location": 10**200}}),
    (409, {"json": {"image": 1, "step": 1, "location": 5}}),  # looked at before
    (409, {"json": {"image": 1, "step": 0, "location": 3}}),
    (409, {"json": {"image": 2, "step": 1, "location": 3}}),
    (413, {"content": b" " * (MAX_BODY + 1)}),
    (415, {"json": {"image": 1, "step": 1, "location": 3}, "headers": {"Content-Type": "text/plain"}}),
    (403, {"json": {"image": 1, "step": 1, "location": 3}, "headers": {"Origin": "http://evil.example"}}),
    (403, {"json": {"image": 1, "step": 1, "location": 3}, "headers": {"Origin": "null"}}),
    (403, {"json": {"image": 1, "step": 1, "location": 3}, "headers": {"Host": "evil.example:8000"}}),
    (403, {"json": {"image": 1, "step": 1, "location": 3}, "headers": {"Host": ""}}),
]


@pytest.fixture(scope="module")
def started() -> TestClient:
    """The client of a game of which one glimpse was taken; the tests must leave it as it is."""
    client = client_of(table_of(noise_game()))
    begin(client)
    move(client, "look", location=5)
    return client


@pytest.mark.parametrize(("status", "request_"), JUNK)
def test_junk_is_refused_and_changes_nothing(started: TestClient, status: int, request_: dict[str, Any]) -> None:
    before = started.get("/api/game").json()
    headers = {"Content-Type": "application/json", **request_.get("headers", {})}
    answer = started.post("/api/look", **request_ | {"headers": headers})
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].endswith(".")
    assert started.get("/api/game").json() == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/look", 405),
        ("POST", "/", 405),
        ("DELETE", "/api/game", 405),
        ("OPTIONS", "/api/begin", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/../game.py", 404),
        ("GET", "/play.js/../../game.py", 404),
        ("POST", "/api/cheat", 404),
        ("POST", "/api/stop", 409),
        ("POST", "/api/next", 409),
    ],
)
def test_other_addresses_and_methods_are_refused(started: TestClient, method: str, path: str, status: int) -> None:
    before = started.get("/api/game").json()
    body = {"json": {"image": 1, "step": 1}} if method == "POST" else {}
    answer = started.request(method, path, **body)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")
    assert started.get("/api/game").json() == before


@pytest.mark.parametrize("player", ["", " ", "x" * 41, "a\nb", 3, None])
def test_a_name_is_needed(player: Any) -> None:
    table = table_of(noise_game())
    answer = client_of(table).post("/api/begin", json={"player": player})
    assert answer.status_code == 422
    assert not table.seats


def test_addresses_by_which_the_server_may_be_called() -> None:
    def status(asked: str, host: str) -> int:
        client = TestClient(application(table_of(), hosts=known_hosts(asked)), base_url=OURS)
        return client.get("/api/game", headers={"Host": host}).status_code

    for asked in ("127.0.0.1", "localhost", "::1"):
        for host in ("127.0.0.1:80", "localhost", "LOCALHOST:9", "[::1]:8000"):
            assert status(asked, host) == 200
        for host in ("evil.example", "localhost.evil.example", "192.168.0.2", "[::1].evil.example", "127.0.0.1.evil"):
            assert status(asked, host) == 403
    assert status("0.0.0.0", "192.168.0.2:8000") == 200
    assert status("0.0.0.0", "evil.example") == 403  # nobody's numbers can be bound to another name
    assert status("games.example", "games.example:8000") == 200
    assert status("games.example", "evil.example") == 403


def test_every_answer_forbids_what_the_page_does_not_need(started: TestClient) -> None:
    answers = [started.get(path) for path in ("/", "/play.js", "/play.css", "/api/game", "/nowhere")]
    answers.append(started.get("/", headers={"Host": "evil.example"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    for answer in answers[:3]:
        assert "http:" not in answer.text.replace("http://www.w3.org/2000/svg", ""), "nothing comes from elsewhere"
        assert "https:" not in answer.text


def test_only_idle_games_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_GAMES", 2)
    table = table_of(*(noise_game() for _ in range(4)))
    clients = [client_of(table) for _ in range(3)]
    for client in clients[:2]:
        begin(client)
    refused = clients[2].post("/api/begin", json={"player": "Eve"})
    assert (refused.status_code, refused.json()["error"]) == (429, "2 games are being played; come back later.")
    assert begin(clients[0])["glimpses"] == []  # in place of one's own
    next(iter(table.seats.values())).used -= tables.IDLE + 1
    assert begin(clients[2])["glimpses"] == []
    assert len(table.seats) == 2


def test_stopping_and_zooms() -> None:
    from dataclasses import replace

    geometry = replace(toy.GEOMETRY, zooms=(1, 2, 3))
    dataset, judge = toy.toy_dataset(split="test", geometry=geometry), toy.toy_judge(geometry)
    oracle = BOEDOracle(toy.toy_dataset(seed=1, geometry=geometry), judge)
    client = client_of(table_of(Game(dataset, judge, oracle, np.array([4, 9]), glimpse_cost=0.1)))
    game = begin(client)
    assert [level["window"] for level in game["levels"]] == [12, 24, 36]
    assert (game["stops"], game["cost"]) == (True, 0.1)
    wide = game["levels"][1]
    game = move(client, "map", shown=True).json()["game"]
    assert (len(game["map"]["pictures"]), len(game["map"]["values"])) == (3, len(geometry.grid))
    game = move(client, "look", location=wide["first"] + 1).json()["game"]
    assert game["glimpses"] == [[wide["corners"][0], wide["corners"][1], 24]]
    game = move(client, "stop").json()["game"]
    assert game["over"]
    assert len(game["verdict"]["person"]["glimpses"]) == 1
    assert game["score"]["person"]["return"] == pytest.approx(game["score"]["person"]["successes"] - 0.1)
    assert move(client, "stop").status_code == 409
    move(client, "next")
    assert move(client, "stop").json()["game"]["verdict"]["person"]["glimpses"] == []
