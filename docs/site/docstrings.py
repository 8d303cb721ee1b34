"""Reads docstrings for the reference: Sphinx's roles become links, and examples become code."""

import contextlib
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod|exc):`(~?)([\w.]+)`")
INDICES = re.compile(r"(\[\w+\])(\[\w+\])")
EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    """Changes the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self._walk(pkg)

    def _walk(self, item: Any) -> None:
        if item.docstring:
            text = EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", item.docstring.value)
            text = INDICES.sub(r"`\1\2`", text)  # no link, as Markdown has it
            item.docstring.value = ROLE.sub(lambda match: self._link(item, match[2]), text)
        for member in item.members.values():
            if not member.is_alias:
                self._walk(member)

    @staticmethod
    def _link(item: Any, name: str) -> str:
        """Returns a link to what ``name`` means in an object's scope; only its name where that is no public object."""
        try:
            path = item.resolve(name.partition(".")[0])
        except (griffe.NameResolutionError, griffe.AliasResolutionError):
            path = name.partition(".")[0]
        _, dot, rest = name.partition(".")
        shown = name.rpartition(".")[2] if dot else name
        identifier = f"{path}{dot}{rest}"
        with contextlib.suppress(KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
            identifier = item.modules_collection[identifier].canonical_path
        return f'<autoref identifier="{identifier}" optional><code>{shown}</code></autoref>'
