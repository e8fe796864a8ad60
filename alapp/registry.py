"""Backends by name, loaded on first use.

A registry names each backend as "module:Class", so that listing them imports nothing. A backend class
has the class attributes `title` (a few words) and `suits` (one sentence); see the protocols in each
stage's `base.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from alapp.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """An ordered mapping of names to backend classes. `kind` is used in messages ("click method")."""

    def __init__(self, kind: str, targets: Mapping[str, str]):
        self.kind = kind
        self._targets = dict(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def load(self, name: str) -> type[T]:
        """The class called `name`. Raises `InputError` for a name that is not registered."""
        if name not in self._targets:
            raise InputError(f"There is no {self.kind} called {name!r}. Choose one of: {', '.join(self._targets)}.")
        module, _, attribute = self._targets[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def create(self, name: str, **options: object) -> T:
        """A new instance of the backend called `name`."""
        return self.load(name)(**options)
