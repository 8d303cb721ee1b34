"""What pages take out of docstrings."""

import inspect
import re
from collections.abc import Callable
from typing import Any


def without_roles(text: str) -> str:
    """Returns a docstring's text as Markdown: Sphinx's roles become code.

    >>> without_roles("see :func:`glimpse_env.datasets.make_source` and ``T``")
    'see `make_source` and `T`'
    """
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def sections_of(kind: type) -> dict[str, str]:
    """Returns the parts of a class's docstring below its ``## `` headings, as Markdown."""
    _, *parts = re.split(r"^## (.*)\n", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    return {title: without_roles(text.strip()) for title, text in zip(parts[::2], parts[1::2], strict=True)}


def arguments_of(function: Callable[..., Any]) -> list[tuple[str, str, str]]:
    """Returns name, default (empty where it has none) and meaning of each argument that a docstring's ``Args:`` names.

    A class that adds nothing has those of the class it is made from.
    """
    lines: list[str] = []
    for one in inspect.getmro(function) if inspect.isclass(function) else (function,):
        _, found, rest = inspect.cleandoc(one.__doc__ or "").partition("\nArgs:\n")
        if found:
            lines = re.split(r"\n\S", rest)[0].splitlines()
            break
    signature = inspect.signature(function).parameters
    rows: list[tuple[str, str, str]] = []
    for line in lines:
        named = re.match(r"    (\w+): (.*)", line)
        if named:
            parameter = signature.get(named[1])
            default = "" if parameter is None or parameter.default is parameter.empty else repr(parameter.default)
            rows.append((named[1], default, without_roles(named[2])))
        elif rows and line.strip():
            name, default, text = rows[-1]
            rows[-1] = (name, default, f"{text} {without_roles(line.strip())}")
    return [(name, default, text.replace("|", r"\|")) for name, default, text in rows]
