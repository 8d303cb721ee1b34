"""What hypothesis makes of files: JSON with wrong values, bytes that are cut or changed, and values of every kind."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
NUMBERS = (0, 1, -1, 2, 3, 5, 10**9, 10**400, -(10**30), 0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"))
TEXTS = ("", "1", "nan", "x" * 5000, "\0", "../up", "~nobody", "<b>", "{}", "\ud800", "é", "os:system", "nowhere:name")
_ONE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
)
_LISTS = st.lists(_ONE, max_size=3)
JSON_JUNK = st.one_of(
    _ONE, _LISTS, st.lists(_LISTS, max_size=3), st.dictionaries(st.text(max_size=3), _ONE, max_size=2)
)
"""Values that a JSON file can hold, those that are none of JSON's (NaN, infinity) among them."""


@st.composite
def edited(draw: st.DrawFn, content: Any) -> Any:
    """``content`` with up to three values changed, removed, added or swapped for others of its own."""
    holder = {"all": deepcopy(content)}
    for _ in range(draw(st.integers(1, 3))):
        within: Any = holder
        key: Any = "all"
        while isinstance(within[key], dict | list) and within[key] and draw(st.integers(0, 9)):
            within = within[key]
            key = draw(st.sampled_from(sorted(within) if isinstance(within, dict) else range(len(within))))
        kind = draw(st.sampled_from(["junk", "junk", "remove", "add", "copy"]))
        if kind == "remove" and within is not holder:
            del within[key]
        elif kind == "add" and isinstance(within, dict) and within is not holder:
            within[draw(st.text(max_size=4))] = draw(JSON_JUNK)
        elif kind == "add" and isinstance(within, list):
            within.append(draw(JSON_JUNK) if draw(st.booleans()) else deepcopy(within[0]))
        elif kind == "copy" and isinstance(within, dict):
            within[key] = deepcopy(within[draw(st.sampled_from(sorted(within)))])
        else:
            within[key] = draw(JSON_JUNK)
    return holder["all"]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with bytes changed, cut off, left out or put in."""
    kind = draw(st.sampled_from(["change", "cut", "leave out", "put in", "other"]))
    if kind == "other":
        return draw(st.binary(max_size=200))
    at = draw(st.integers(0, max(0, len(content) - 1)))
    if kind == "cut":
        return content[:at]
    if kind == "leave out":
        return content[:at] + content[at + draw(st.integers(1, 40)) :]
    if kind == "put in":
        return content[:at] + draw(st.binary(min_size=1, max_size=9)) + content[at:]
    changed = bytearray(content)
    for place in draw(st.lists(st.integers(0, max(0, len(content) - 1)), min_size=1, max_size=8)):
        changed[place] = draw(st.integers(0, 255))
    return bytes(changed)


def outcome(make: Callable[[], T], *errors: type[Exception]) -> tuple[T | None, str]:
    """What ``make`` returns, and the message of the named error that it raises in its place."""
    try:
        return make(), ""
    except errors as error:
        return None, str(error)


def json_bytes(content: Any) -> bytes:
    """The file that holds ``content``, as our commands write it."""
    return json.dumps(content, indent=2).encode()


def json_files(content: Any) -> st.SearchStrategy[bytes]:
    """Files of JSON that was :func:`edited`, or :func:`damaged` as bytes."""
    return st.one_of(edited(content).map(json_bytes), damaged(json_bytes(content)))
