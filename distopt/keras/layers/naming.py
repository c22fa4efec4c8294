"""Names of layers: dense, dense_1, dense_2, ... where none was given."""

from __future__ import annotations

from collections import Counter

from distopt.core.registry import snake_case
from distopt.distribute import get_replica_context
from distopt.keras.global_state import session

__all__ = ["reset_names", "unique_name"]


def unique_name(class_name: str) -> str:
    """The snake case name, numbered from the second on.

    Counted a replica, after those that were made for all: replicas that are threads of one process must give
    their layers the same names.
    """
    context = get_replica_context()
    shared = session.layer_names
    seen = shared if context is None else context.attached.setdefault("layer names", Counter(shared))
    base = snake_case(class_name)
    count = seen[base]
    seen[base] += 1
    return base if count == 0 else f"{base}_{count}"


def reset_names() -> None:
    """Resets the numbers of names."""
    context = get_replica_context()
    if context is None:
        session.layer_names.clear()
    else:
        context.attached["layer names"] = Counter()
