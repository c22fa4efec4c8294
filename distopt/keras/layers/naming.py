"""Names for layers that were not given one: dense, dense_1, dense_2, ..."""

from __future__ import annotations

import re
from collections import Counter

from distopt.distribute import get_replica_context

__all__ = ["snake_case", "unique_name"]

#: For layers made in cross-replica context, where they belong to all replicas.
_shared: Counter[str] = Counter()


def snake_case(name: str) -> str:
    """A class's name in snake case.

    >>> snake_case("MaxPooling2D"), snake_case("LayerNormalization")
    ('max_pooling2d', 'layer_normalization')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return spaced.lower().lstrip("_")


def unique_name(class_name: str) -> str:
    """The snake case name, numbered from the second on.

    Counted a replica: replicas that are threads of one process must give their layers the same names.
    """
    context = get_replica_context()
    seen = _shared if context is None else context.attached.setdefault("layer names", Counter())
    base = snake_case(class_name)
    count = seen[base]
    seen[base] += 1
    return base if count == 0 else f"{base}_{count}"
