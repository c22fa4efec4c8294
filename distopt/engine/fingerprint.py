"""Fingerprints: hashes in the header of a step that replicas compare, and what they say if they differ."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.collectives import digest
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.trust_ratio import AnyRule
from distopt.typing import Array

__all__ = [
    "describe",
    "of_changes",
    "of_coefficients",
    "of_gradients",
    "of_rules",
    "of_variables",
    "sentence",
    "step_sentence",
]

#: So many variables are named in messages.
_NAMED = 12


def of_variables(variables: Sequence[Variable]) -> int:
    """A hash of names, shapes, dtypes, and who has a constraint or is copied on write, in order."""
    return digest("|".join(map(_kind, variables)))


def of_rules(variables: Sequence[Variable], rules: Sequence[AnyRule], which: Sequence[int]) -> int:
    """A hash of what has to be alike on all replicas: variables, in order, and what they are updated by.

    Args:
        variables: the variables.
        rules: the rules.
        which: for each variable the place of its rule, and so of its coefficients.
    """
    return digest("|".join(f"{_kind(v)}{rules[k].name} {k}" for v, k in zip(variables, which, strict=True)))


def _kind(variable: Variable) -> str:
    viewed = " copied on write" if variable.storage.copy_on_write else ""
    return f"{variable.name}{variable.shape}{variable.dtype}{_constrained(variable)}{viewed}"


def _constrained(variable: Variable) -> str:
    return "" if variable.constraint is None else " with a constraint"


def of_changes(state: Sequence[Variable], assigned: Sequence[Variable], new: Sequence[Variable]) -> int:
    """A hash of what has become of variables and slots since the last step, alike on all replicas.

    Args:
        state: all of them.
        assigned: those that this replica has assigned: all must have assigned the same.
        new: those that have no shared memory yet.
    """
    total = 0
    for v in assigned:
        # Chained, not combined by xor: values swapped between two variables have to differ.
        total = digest(f"{total}{v.name}{zlib.crc32(as_array(v).tobytes())}")
    found = {id(v) for v in new}
    return total ^ (digest(",".join(str(i) for i, v in enumerate(state) if id(v) in found)) if found else 0)


def of_coefficients(coefficients: Sequence[Sequence[Any]]) -> int:
    """A hash of the coefficients: all replicas must step with the same hyperparameters."""
    total = 0
    for scalars in coefficients:
        numbers = scalars
        if scalars and isinstance(scalars[0], np.complexfloating):
            numbers = [part for scalar in scalars for part in (scalar.real, scalar.imag)]
        total = zlib.crc32(struct.pack(f"{len(numbers)}d", *numbers), total)
    return total


def of_gradients(pairs: Sequence[tuple[Any, Variable]]) -> list[tuple[str, Array]]:
    """The arrays of gradients, each with a name."""
    named = []
    for gradient, v in pairs:
        sparse = isinstance(gradient, IndexedSlices)
        if sparse:
            named.append((f"the gradient's indices of {v.name!r}", as_array(gradient.indices)))
        named.append((f"the gradient of {v.name!r}", as_array(gradient.values if sparse else gradient)))
    return named


def sentence(call: str, variables: Sequence[Variable], settings: str = "") -> str:
    """A description of the call, its variables and its settings."""
    on = f" on {describe(variables)}" if variables else ""
    return f"{call}{on}{f'; {settings}' if settings else ''}"


def step_sentence(
    call: str,
    variables: Sequence[Variable],
    rules: Sequence[AnyRule],
    which: Sequence[int],
    coefficients: Sequence[Sequence[Any]],
    assigned: Sequence[Variable] = (),
    new: Sequence[Variable] = (),
) -> str:
    """A description of a step: variables, rules, coefficients, what this replica has done to variables.

    Args:
        call: who asks.
        variables: what is updated.
        rules: one for each kind of variable.
        which: for each variable the place of its rule.
        coefficients: those of the rules.
        assigned: what this replica has assigned since the last step.
        new: what is met for the first time, if that is not everything.
    """
    parts = [sentence(call, variables)]
    for k, (rule, values) in enumerate(zip(rules, coefficients, strict=True)):
        names = [v.name for v, kind in zip(variables, which, strict=True) if kind == k]
        more = " and others" if len(names) > _NAMED else ""
        whose = f" of {' and '.join(names[:_NAMED])}{more}" if len(rules) > 1 else ""
        pairs = zip(rule.coefficients, values, strict=True)
        parts.append(f"{rule.name}{whose}: " + ", ".join(f"{name}={value:.9g}" for name, value in pairs))
    for v in assigned[:_NAMED]:
        crc = zlib.crc32(as_array(v).tobytes())
        parts.append(f"{v.name} assigned since the last step (checksum {crc:08x})")
    if len(assigned) > _NAMED:
        parts.append(f"... ({len(assigned)} variables assigned)")
    if new:
        parts.append(f"first met here: {', '.join(v.name for v in new)}")
    return "; ".join(parts)


def describe(variables: Sequence[Variable]) -> str:
    """A description of the variables, for messages."""
    shown = ", ".join(f"{v.name} {v.dtype.name}{list(v.shape)}{_constrained(v)}" for v in variables[:_NAMED])
    more = f", ... ({len(variables)} variables)" if len(variables) > _NAMED else ""
    return shown + more
