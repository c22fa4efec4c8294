"""The states of the global random generators of Python, NumPy and PyTorch (CPU, if the program imported it).

If several replicas are threads of one process, each has its own states, which are swapped when the replicas
switch.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random.mtrand import get_bit_generator, set_bit_generator

__all__ = ["save_states", "seed_from_entropy", "set_states"]


def save_states() -> dict[str, Any]:
    """Copies of the generators' states by library; ``torch`` only where the program has imported it."""
    # Includes NumPy's bit generator, because a program may replace it.
    states = {
        "numpy": (get_bit_generator(), np.random.get_state(legacy=False)),
        "random": random.getstate(),
    }
    torch = _torch()
    return states if torch is None else states | {"torch": torch.get_rng_state()}


def set_states(states: Mapping[str, Any]) -> None:
    """Sets the generators' states to what :func:`save_states` returned.

    If PyTorch has been imported since then, its generator is seeded from the system's entropy, as at its
    import.
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


def _torch() -> Any:
    """PyTorch, if the program has imported it."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "default_generator") else None
