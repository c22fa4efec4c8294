"""The global random generators: of Python, NumPy and, in a program that has imported it, PyTorch (CPU).

They belong to the process. Where several replicas share a process, each has states of its own, which are
swapped with the turn.
"""

from __future__ import annotations

import operator
import random
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

__all__ = ["differences", "save_states", "seed_from_entropy", "set_states"]


def save_states() -> dict[str, Any]:
    """Copies of the generators' states by library; ``torch`` only where the program has imported it."""
    # A program may give NumPy another bit generator, which then is its own too.
    states = {
        "numpy": (get_bit_generator(), np.random.get_state(legacy=False)),
        "random": random.getstate(),
    }
    torch = _torch()
    return states if torch is None else states | {"torch": torch.get_rng_state()}


def set_states(states: Mapping[str, Any]) -> None:
    """Sets the generators' states to what :func:`save_states` returned.

    If PyTorch has been imported since, its generator is seeded from the system's entropy, as by an import.
    """
    bits, state = states["numpy"]
    if get_bit_generator() is not bits:
        set_bit_generator(bits)
    np.random.set_state(state)
    random.setstate(states["random"])
    torch = _torch()
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
    elif torch is not None:
        torch.default_generator.seed()


def seed_from_entropy() -> None:
    """Seeds the generators as in a process that has just started."""
    set_bit_generator(np.random.MT19937())
    random.seed()
    torch = _torch()
    if torch is not None:
        torch.default_generator.seed()


def differences(states: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``states`` that are not the same in ``others``."""
    return {
        library: state
        for library, state in states.items()
        if library not in others or not _EQUAL[library](state, others[library])
    }


def _equal_numpy(one: Any, other: Any) -> bool:
    (bits, state), (other_bits, other_state) = one, other
    return bits is other_bits and _flat(state) == _flat(other_state)


def _flat(state: Any) -> Any:
    """The members of a state at any depth, arrays as bytes."""
    if isinstance(state, dict):
        return {name: _flat(member) for name, member in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _equal_torch(one: Any, other: Any) -> bool:
    return bool(one.equal(other))


def _torch() -> Any:
    """PyTorch, if the program has imported it."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "default_generator") else None


_EQUAL: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"numpy": _equal_numpy, "random": operator.eq, "torch": _equal_torch}
)
