"""Custom classes and functions by name, for creating objects from configs."""

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
    """The custom objects of the process, and the scopes of each thread, outermost first.

    Scopes are per thread, because replicas may be threads that take turns.

    Args:
        everywhere: the dict that all threads share. ``threading.local`` calls ``__init__`` in each thread
            with the same arguments.
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
    """Finds a custom object in ``custom_objects``, the scopes or the global dict, in this order.

    Else None.
    """
    for mapping in (custom_objects or {}, *reversed(_known.scopes), _known.everywhere):
        if name in mapping:
            return mapping[name]
    return None
