"""What a step's header is about: hashes that replicas compare, and the words for when they differ."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distopt.collectives import digest
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.update import Update
from distopt.typing import Array

__all__ = [
    "checksum",
    "contents",
    "describe",
    "joined",
    "newcomers",
    "of_gradients",
    "of_updates",
    "of_variables",
    "words",
]


def of_variables(variables: Sequence[Variable]) -> int:
    """A hash of names, shapes, dtypes, and who has a constraint, in order."""
    return digest("|".join(map(_kind, variables)))


def of_updates(updates: Sequence[Update]) -> int:
    """A hash of what has to be alike on all replicas: that of the variables and rules, in order."""
    return digest("|".join(f"{_kind(u.variable)}{u.rule.name}" for u in updates))


def _kind(variable: Variable) -> str:
    constrained = "" if variable.constraint is None else " constrained"
    return f"{variable.name}{variable.shape}{variable.dtype}{constrained}"


def contents(assigned: Sequence[Variable]) -> int:
    """A hash of what this replica has assigned: all must have assigned the same."""
    total = 0
    for v in assigned:
        # Chained, not combined by xor: values swapped between two variables have to differ.
        total = digest(f"{total}{v.name}{zlib.crc32(v._array().tobytes())}")
    return total


def newcomers(state: Sequence[Variable], strangers: Sequence[Variable]) -> int:
    """A hash of which of the variables and slots have no home yet: all must bring the same ones there."""
    new = {id(v) for v in strangers}
    return digest(",".join(str(i) for i, v in enumerate(state) if id(v) in new)) if new else 0


def checksum(coefficients: Sequence[Sequence[Any]]) -> int:
    """A hash of the coefficients: all replicas must step with the same hyperparameters."""
    total = 0
    for scalars in coefficients:
        numbers = scalars
        if scalars and isinstance(scalars[0], np.complexfloating):
            numbers = [part for scalar in scalars for part in (scalar.real, scalar.imag)]
        total = zlib.crc32(struct.pack(f"{len(numbers)}d", *numbers), total)
    return total


def of_gradients(pairs: Sequence[tuple[Any, Variable]]) -> list[tuple[str, Array]]:
    """The arrays that gradients are, each with a name in words."""
    named = []
    for gradient, v in pairs:
        sparse = isinstance(gradient, IndexedSlices)
        if sparse:
            named.append((f"the gradient's indices of {v.name!r}", as_array(gradient.indices)))
        named.append((f"the gradient of {v.name!r}", as_array(gradient.values if sparse else gradient)))
    return named


def joined(call: str, variables: Sequence[Variable], settings: str = "") -> str:
    """The call, its variables and its settings in words."""
    return f"{call} on {describe(variables)}{f'; {settings}' if settings else ''}"


def words(
    call: str, updates: Sequence[Update], assigned: Sequence[Variable], strangers: Sequence[Variable]
) -> Callable[[], str]:
    """Tells the call in words, when replicas turn out to disagree."""

    def tell() -> str:
        parts = [f"{call} on {describe([u.variable for u in updates])}"]
        for u in {id(u.coefficients): u for u in updates}.values():
            pairs = zip(u.rule.coefficients, u.coefficients, strict=True)
            parts.append(f"{u.rule.name}: " + ", ".join(f"{name}={value:.9g}" for name, value in pairs))
        for v in assigned:
            crc = zlib.crc32(v._array().tobytes())
            parts.append(f"{v.name} assigned since the last step (checksum {crc:08x})")
        if 0 < len(strangers) < len({id(v) for u in updates for v in (u.variable, *u.slots)}):
            parts.append(f"first met here: {', '.join(v.name for v in strangers)}")
        return "; ".join(parts)

    return tell


def describe(variables: Sequence[Variable]) -> str:
    """The variables in words, for messages."""
    shown = ", ".join(
        f"{v.name} {v.dtype.name}{list(v.shape)}{'' if v.constraint is None else ' with a constraint'}"
        for v in variables[:12]
    )
    more = f", ... ({len(variables)} variables)" if len(variables) > 12 else ""
    return shown + more if variables else "no variables"
