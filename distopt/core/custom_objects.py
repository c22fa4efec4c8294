"""Classes and functions of the user's own, found by name when a config is turned back into an object."""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distopt.core.checks import as_config, shown

__all__ = [
    "custom_object_scope",
    "deserialize_object",
    "find_object",
    "get_custom_objects",
    "serialize_object",
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


def serialize_object(obj: Any) -> Any:
    """``{"class_name", "config"}`` of an object with ``get_config``, a function's name, None for None.

    Raises:
        ValueError: ``obj`` has neither.
    """
    if obj is None:
        return None
    if hasattr(obj, "get_config"):
        return {"class_name": type(obj).__name__, "config": obj.get_config()}
    if hasattr(obj, "__name__"):
        return obj.__name__
    raise ValueError(f"Cannot serialize {obj!r}: it has neither get_config() nor a name")


def deserialize_object(
    config: Any, known: Mapping[str, Any], kind: str, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """The object that ``config`` tells of.

    Args:
        config: what :func:`serialize_object` gave: a dict, or the name of a function or class. A function
            is returned as it is, a class is made with its default arguments.
        known: the names that need no custom object.
        kind: what it is, for error texts ("loss function").
        custom_objects: names that win over all others.

    Raises:
        TypeError: the arguments in the config are no dict, or not those of the class.
        ValueError: the config is malformed, or the name is unknown; the text names the nearest one.
    """
    if isinstance(config, str):
        found = _lookup(config, known, kind, custom_objects)
        return found() if isinstance(found, type) else found
    if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
        raise ValueError(
            f"Improper config format for a {kind}: expected a dict with 'class_name' and 'config', "
            f"got {shown(config)}"
        )
    cls = _lookup(config["class_name"], known, kind, custom_objects)
    arguments = as_config(config["config"], f"{kind} {config['class_name']}")
    if not hasattr(cls, "from_config"):
        return cls(**arguments)
    if "custom_objects" in inspect.signature(cls.from_config).parameters:
        return cls.from_config(arguments, custom_objects=dict(custom_objects or {}))
    return cls.from_config(arguments)


def _lookup(name: Any, known: Mapping[str, Any], kind: str, custom_objects: Mapping[str, Any] | None) -> Any:
    if not isinstance(name, str):
        raise ValueError(f"Unknown {kind}: {shown(name)}. A name is a text")
    found = find_object(name, custom_objects)
    if found is None:
        found = known.get(name)
    if found is None:
        near = _nearest(name, known)
        hint = f"Did you mean {near!r}? " if near else ""
        raise ValueError(
            f"Unknown {kind}: {name[:200]}. {hint}Pass your own by custom_objects or custom_object_scope."
        )
    return found


def _nearest(name: str, known: Mapping[str, Any]) -> str | None:
    """The known name that is most like ``name``; one that differs in case and underscores only is."""
    plain = {_plain(other): other for other in known}
    near = difflib.get_close_matches(name, known, n=1)
    if _plain(name) in plain or not near:
        near = [plain[other] for other in difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)]
    return near[0] if near else None


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
