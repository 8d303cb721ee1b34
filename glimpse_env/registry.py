"""What can be chosen by name: one kind of registry for ours and for what other packages add."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from glimpse_env.errors import ConfigurationError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for, in the order they were added.

    An entry that is text, ``"module:attribute"``, is imported when it is first asked for. A name may be asked for as
    ``"module:name"``, as in ``gymnasium.make``: the module is imported first, so that it can add the name.
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
        """The name in ``asked``, ``"name"`` or ``"module:name"``, once its module is imported.

        Raises:
            ConfigurationError: if the module cannot be imported or there is no such name.
        """
        module, _, name = asked.rpartition(":") if isinstance(asked, str) else ("", "", asked)
        if module:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise ConfigurationError(f"{self.what}={asked!r} cannot be had: {error}.") from error
        if not isinstance(name, str) or name not in self._entries:
            raise ConfigurationError(f"{self.what}={asked!r} must be one of {', '.join(self._entries)}.")
        return name

    def __getitem__(self, asked: str) -> T:
        """The entry called ``asked``; raises ConfigurationError as :meth:`name_of` does."""
        name = self.name_of(asked)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
