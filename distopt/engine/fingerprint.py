"""Fingerprints: the hashes in a step's header, and the descriptions in error messages if they differ."""

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

#: The most variables to name in messages.
_NAMED = 12


def of_variables(variables: Sequence[Variable]) -> int:
    """A hash of names, shapes, dtypes, and whether a variable has a constraint or is copied on write."""
    return digest("|".join(map(_kind, variables)))


def of_rules(variables: Sequence[Variable], rules: Sequence[AnyRule], which: Sequence[int]) -> int:
    """A hash of the variables and their rules, in order.

    Args:
        variables: the variables.
        rules: the rules.
        which: for each variable, the index of its rule.
    """
    return digest("|".join(f"{_kind(v)}{rules[k].name} {k}" for v, k in zip(variables, which, strict=True)))


def _kind(variable: Variable) -> str:
    viewed = " copied on write" if variable.storage.copy_on_write else ""
    return f"{variable.name}{variable.shape}{variable.dtype}{_constrained(variable)}{viewed}"


def _constrained(variable: Variable) -> str:
    return "" if variable.constraint is None else " with a constraint"


def of_changes(state: Sequence[Variable], assigned: Sequence[Variable], new: Sequence[Variable]) -> int:
    """A hash of changes since the last step, which must be the same on all replicas.

    Args:
        state: all variables and slots of the step.
        assigned: those that this replica has assigned; their names and values are hashed.
        new: those that are not in shared memory yet; their indices are hashed.
    """
    total = 0
    for v in assigned:
        # Chained, not combined by xor: swapping the values of two variables must change the hash.
        total = digest(f"{total}{v.name}{zlib.crc32(as_array(v).tobytes())}")
    found = {id(v) for v in new}
    return total ^ (digest(",".join(str(i) for i, v in enumerate(state) if id(v) in found)) if found else 0)


def of_coefficients(coefficients: Sequence[Sequence[Any]]) -> int:
    """A hash of the coefficients of all rules, which detects different hyperparameters."""
    total = 0
    for scalars in coefficients:
        numbers = scalars
        if scalars and isinstance(scalars[0], np.complexfloating):
            numbers = [part for scalar in scalars for part in (scalar.real, scalar.imag)]
        total = zlib.crc32(struct.pack(f"{len(numbers)}d", *numbers), total)
    return total


def of_gradients(pairs: Sequence[tuple[Any, Variable]]) -> list[tuple[str, Array]]:
    """The arrays of gradients for an audit, each with a name."""
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
    """A description of a step, for messages: variables, rules, coefficients and assigned values.

    Args:
        call: name of the call.
        variables: the variables of the step.
        rules: the rule of each kind of variable.
        which: for each variable, the index of its rule.
        coefficients: the coefficients of each rule.
        assigned: the variables and slots that this replica has assigned since the last step.
        new: those that are not in shared memory yet; empty if that is all of them.
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
