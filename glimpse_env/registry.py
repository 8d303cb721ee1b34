"""What can be chosen by name: one kind of registry for ours and for what other packages add."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from glimpse_env.errors import ConfigurationError

T = TypeVar("T")


def import_name(what: str, asked: str) -> str:
    """Returns the name in ``asked``, ``"name"`` or ``"module:name"``, after importing its module.

    Raises:
        ConfigurationError: naming the argument ``what``, if the module cannot be imported.
    """
    module, _, name = asked.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigurationError(
                f"{what}={asked!r}: the module {module!r} cannot be imported ({error})."
            ) from error
    return name


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a ``__getattr__`` for a package's ``__init__``: it imports each name when it is first asked for.

    Args:
        package: its ``__name__``.
        modules: the module of each name that it hands on.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = sys.modules[package].__dict__[name] = getattr(importlib.import_module(modules[name]), name)
        return value

    return find


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for, in the order they were added.

    An entry that is text, ``"module:attribute"``, is imported when it is first asked for. A name may be asked for as
    ``"module:name"``, as in ``gymnasium.make``: the module is imported first, so that it can add the name.

    >>> shapes = Registry("shape", {"tau": "math:tau"})
    >>> shapes.add("square", 4)
    >>> shapes["tau"], shapes["square"], list(shapes)
    (6.283185307179586, 4, ['tau', 'square'])
    """

    def __init__(self, what: str, entries: Mapping[str, T | str] | None = None):
        """
        Args:
            what: the argument that takes the names, for messages: ``"algo"``.
            entries: the first ones.
        """
        self.what = what
        self._entries: dict[str, Any] = dict(entries or {})

    def add(self, name: str, entry: T | str) -> None:
        """Adds an entry.

        Raises:
            ConfigurationError: if the name is taken by another entry or is not a word that a command line can take.
        """
        if not name or ":" in name or any(letter.isspace() for letter in name):
            raise ConfigurationError(f"{self.what}={name!r} cannot be a name: leave out white space and colons.")
        if self._entries.get(name, entry) != entry:
            raise ConfigurationError(f"{self.what}={name!r} is taken; choose another name.")
        self._entries[name] = entry

    def name_of(self, asked: str) -> str:
        """Returns the name in ``asked``, ``"name"`` or ``"module:name"``, after importing its module.

        Raises:
            ConfigurationError: if the module cannot be imported or there is no such name.
        """
        name = import_name(self.what, asked) if isinstance(asked, str) else None
        if name is None or name not in self._entries:
            raise ConfigurationError(f"{self.what}={asked!r} must be one of {', '.join(self._entries)}.")
        return name

    def __getitem__(self, asked: str) -> T:
        """Returns the entry called ``asked``, imported if it is the text ``"module:attribute"``.

        Raises:
            ConfigurationError: as :meth:`name_of`.
        """
        entry = self._entries[self.name_of(asked)]
        if isinstance(entry, str) and ":" in entry:
            module, _, attribute = entry.partition(":")
            entry = getattr(importlib.import_module(module), attribute)
        return cast(T, entry)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
