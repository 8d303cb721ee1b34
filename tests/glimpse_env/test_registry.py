"""Names stand for what was added, ours and others', imported when asked for."""

import sys
from pathlib import Path

import pytest

from glimpse_env.errors import ConfigurationError
from glimpse_env.registry import Registry


def test_entries_are_found_in_order_and_text_is_imported_when_asked_for() -> None:
    found: Registry[object] = Registry("shape", {"pi": "math:pi", "one": 1})
    assert list(found) == ["pi", "one"]
    assert found["pi"] == pytest.approx(3.14159, abs=1e-5)
    assert found["one"] == 1
    assert "pi" in found
    assert "two" not in found


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    found: Registry[int] = Registry("shape", {"one": 1})
    for asked in ("two", None, 3):
        with pytest.raises(ConfigurationError, match=f"shape={asked!r} must be one of one"):
            found[asked]  # type: ignore[index]


def test_a_name_can_be_added_once_and_the_same_again() -> None:
    found: Registry[int] = Registry("shape")
    found.add("one", 1)
    found.add("one", 1)
    with pytest.raises(ConfigurationError, match="'one' is taken"):
        found.add("one", 2)
    for name in ("", "a b", "a:b"):
        with pytest.raises(ConfigurationError, match="cannot be a name"):
            found.add(name, 1)


def test_the_module_before_a_colon_is_imported_so_that_it_can_add_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Registry[int] = Registry("shape")
    (tmp_path / "outsider.py").write_text("import tests.glimpse_env.test_registry as t\nt.SHARED.add('theirs', 7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert SHARED["outsider:theirs"] == 7
    assert SHARED["theirs"] == 7
    with pytest.raises(ConfigurationError, match="No module named 'no_such_module'"):
        found["no_such_module:theirs"]
    monkeypatch.delitem(sys.modules, "outsider")


SHARED: Registry[int] = Registry("shape")
