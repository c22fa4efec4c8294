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


class _CustomObjects(threading.local):
    """The names known to all threads, and each thread's own scopes, outermost first.

    Scopes are a thread's own because replicas that are threads enter and leave theirs in turns.

    Args:
        everywhere: one dict for all threads: each calls this with the same arguments.
    """

    def __init__(self, everywhere: dict[str, Any]) -> None:
        self.everywhere = everywhere
        self.scopes: list[dict[str, Any]] = []


# Process-wide, as get_custom_objects() promises.
_known = _CustomObjects({})


def get_custom_objects() -> dict[str, Any]:
    """The process-wide dict of custom objects, to be read and changed in place."""
    return _known.everywhere


@contextmanager
def custom_object_scope(*objects: Mapping[str, Any]) -> Iterator[None]:
    """Within it, the names in ``objects`` are known to every ``deserialize`` of this thread.

    Args:
        objects: dicts from name to class or function; the last one wins.
    """
    merged: dict[str, Any] = {}
    for mapping in objects:
        merged.update(mapping)
    _known.scopes.append(merged)
    try:
        yield
    finally:
        _known.scopes.remove(merged)


def find_object(name: str, custom_objects: Mapping[str, Any] | None = None) -> Any | None:
    """The custom object of that name, or None: from ``custom_objects``, the scopes, the global dict."""
    for mapping in (custom_objects or {}, *reversed(_known.scopes), _known.everywhere):
        if name in mapping:
            return mapping[name]
    return None
