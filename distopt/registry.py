"""From a name, a config or an object to the object: the one way that plugins are found.

Built-ins take the same way as plugins: they stand in entry-point groups of the package's metadata,
or are registered by their module.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["Registry"]


class Registry:
    """Named objects of one kind, from ``register`` calls and one entry-point group.

    Args:
        kind: what the objects are, for error texts ("aggregator").
        group: the entry-point group that plugins stand in ("distopt.aggregators").
        normalize: applied to names before they are looked up, e.g. ``str.lower``.
    """

    def __init__(self, kind: str, group: str | None = None, normalize: Callable[[str], str] = str) -> None:
        self.kind = kind
        self.group = group
        self._normalize = normalize
        self._known: dict[str, Any] = {}

    def register(self, name: str, obj: Any) -> Any:
        """Adds ``obj`` under ``name`` and returns it."""
        self._known[self._normalize(name)] = obj
        return obj

    def names(self) -> list[str]:
        """All known names, sorted."""
        return sorted({*self._known, *self._plugins()})

    def lookup(self, name: str) -> Any:
        """The object of that name.

        Raises:
            ValueError: unknown; the text lists the known names and the nearest one.
            ImportError: a plugin that cannot be imported; the text names the package it comes with.
        """
        key = self._normalize(name)
        if key in self._known:
            return self._known[key]
        plugins = self._plugins()
        if key in plugins:
            return self.register(key, self._load(plugins[key]))
        known = self.names()
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown {self.kind}: {name[:200]}.{hint} Known: {', '.join(known)}")

    def _load(self, plugin: EntryPoint) -> Any:
        try:
            return plugin.load()
        except (ImportError, AttributeError) as error:
            package = f"package {plugin.dist.name!r}" if plugin.dist is not None else "a package"
            raise ImportError(
                f"the {self.kind} {plugin.name!r} cannot be imported: {package} says that it is "
                f"{plugin.value!r} ({type(error).__name__}: {error})"
            ) from error

    def _plugins(self) -> dict[str, EntryPoint]:
        if self.group is None:
            return {}
        return {self._normalize(e.name): e for e in entry_points(group=self.group)}
