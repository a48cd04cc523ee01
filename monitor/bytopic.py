"""Declarations that are found by name, in files of which each is imported when one of its names is
asked for: most starts need two or three of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

D = TypeVar("D")


class ByTopic(Mapping[str, D], Generic[D]):
    """``names`` has what each topic (a file of ``package``) declares, in order. Each declaration
    calls ``declare``, or is in what ``declared`` gives after the import.

    Names cost nothing, nor does asking whether there is one; a value may cost its file's import.
    """

    def __init__(
        self,
        package: str,
        names: Mapping[str, tuple[str, ...]],
        declared: Callable[[], Mapping[str, D]] = dict,
    ) -> None:
        self._package = package
        self._topics: dict[str, str | None] = {
            name: topic for topic in names for name in names[topic]
        }
        self._declared = declared
        self._found: dict[str, D] = {}

    def declare(self, name: str, value: D) -> None:
        """Raises ValueError when the name has been declared."""
        if name in self._found:
            raise ValueError(f"{name!r} is declared twice")
        self._topics.setdefault(name, None)
        self._found[name] = value

    def __getitem__(self, name: str) -> D:
        if name not in self._found:
            import_module(f"{self._package}.{self._topics[name]}")
            self._found |= self._declared()
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._topics

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._topics))  # looking at one may declare another

    def __len__(self) -> int:
        return len(self._topics)
