"""Custom classes and functions, found by name when a config is turned back into an object."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = [
    "custom_object_scope",
    "find_object",
    "get_custom_objects",
]

# Process-wide, as in Keras: programs register their classes here once, for all threads.
_global: dict[str, Any] = {}


class _Scopes(threading.local):
    def __init__(self) -> None:
        self.stack: list[dict[str, Any]] = []


# Thread-local: replicas that are threads enter and leave their scopes in turns.
_scopes = _Scopes()


def get_custom_objects() -> dict[str, Any]:
    """The process-wide dict of custom objects, to be read and changed in place."""
    return _global


@contextmanager
def custom_object_scope(*objects: Mapping[str, Any]) -> Iterator[None]:
    """Within it, the names in ``objects`` are known to every ``deserialize`` of this thread.

    Args:
        objects: dicts from name to class or function; the last one wins.
    """
    merged: dict[str, Any] = {}
    for mapping in objects:
        merged.update(mapping)
    _scopes.stack.append(merged)
    try:
        yield
    finally:
        _scopes.stack.remove(merged)


def find_object(name: str, custom_objects: Mapping[str, Any] | None = None) -> Any | None:
    """The custom object of that name, or None: from ``custom_objects``, the scopes, the global dict."""
    for mapping in (custom_objects or {}, *reversed(_scopes.stack), _global):
        if name in mapping:
            return mapping[name]
    return None
