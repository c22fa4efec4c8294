"""States of random generators from a file: NumPy takes some that end the process at the next number."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["check_bits", "check_python", "check_random_state"]

#: From and to which number, per member of a state: ``pos`` is that of MT19937, ``buffer_pos`` of Philox.
_RANGES = MappingProxyType(
    {
        "pos": (0, 624),
        "buffer_pos": (0, 4),
        "has_uint32": (0, 1),
        "has_gauss": (0, 1),
        "uinteger": (0, 2**32 - 1),
    }
)


def check_bits(state: Any, own: Any) -> None:
    """Makes sure that a bit generator could go on from ``state``.

    Args:
        state: what is to become its state.
        own: its state now, which says what such a state is made of.

    Raises:
        TypeError: it is made of other things.
        ValueError: a number is outside of its range, or the generator could give nothing but zeros.
    """
    _like(state, own, "the state")
    kind, inner = own.get("bit_generator"), state.get("state")
    if state.get("bit_generator") != kind:
        raise ValueError(f"the state is that of {state['bit_generator']!r}, not of {kind!r}")
    for name, value in {**(inner if isinstance(inner, dict) else {}), **state}.items():
        if name in _RANGES and not _RANGES[name][0] <= value <= _RANGES[name][1]:
            raise ValueError(f"{name} of the random state is {value}: outside of {_RANGES[name]}")
    if kind == "MT19937":
        _not_all_zero(state["state"]["key"])
    if kind in ("PCG64", "PCG64DXSM"):
        if not all(0 <= state["state"][name] < 2**128 for name in ("state", "inc")):
            raise ValueError("state or inc of the random state has more than 128 bits")
        if state["state"]["inc"] % 2 == 0:
            raise ValueError("inc of the random state is even")


def check_random_state(state: Any, own: Any) -> None:
    """The same for a ``RandomState``, whose states are the dicts or the tuples of its ``get_state``."""
    state, own = _as_dict(state), _as_dict(own)
    check_bits(state, own)
    if not math.isfinite(state["gauss"]):
        raise ValueError(f"gauss of the random state is {state['gauss']}")


def check_python(state: Any, own: Any) -> None:
    """The same for ``random.Random``: version, the numbers and the position, and a number or None.

    Args:
        state: what is to become its state.
        own: its state now, the numbers as an array.

    Raises:
        TypeError: it is made of other things.
        ValueError: a number is outside of its range.
    """
    if not isinstance(state, tuple) or len(state) != 3:
        raise TypeError("the state of a random.Random is a tuple of three")
    version, numbers, gauss = state
    if version != own[0]:
        raise ValueError(f"the random state is of version {version!r}; this Python has {own[0]}")
    _like(numbers, own[1], "the numbers of the random state")
    if not 0 <= int(numbers[-1]) <= 624:
        raise ValueError(f"the position of the random state is {numbers[-1]}: outside of (0, 624)")
    _not_all_zero(numbers[:-1])
    if gauss is not None and not (isinstance(gauss, float) and math.isfinite(gauss)):
        raise ValueError(f"the last member of the random state is {gauss!r}: not a number or None")


def _as_dict(state: Any) -> Any:
    if not isinstance(state, tuple):
        return state
    if len(state) != 5:
        raise TypeError(f"the state of a RandomState is a tuple of five, not of {len(state)}")
    kind, key, pos, has_gauss, gauss = state
    return {
        "bit_generator": kind,
        "state": {"key": key, "pos": pos},
        "has_gauss": has_gauss,
        "gauss": gauss,
    }


def _like(value: Any, own: Any, where: str) -> None:
    """Whether a value is made of the same members as ``own``, at any depth."""
    if isinstance(own, dict):
        if not isinstance(value, dict) or value.keys() != own.keys():
            raise TypeError(f"{where} does not have the members {', '.join(map(str, own))}")
        for name, member in own.items():
            _like(value[name], member, f"{name} of {where}")
    elif isinstance(own, np.ndarray):
        if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (own.shape, own.dtype):
            raise TypeError(f"{where} is not an array of {own.dtype}{list(own.shape)}")
    else:
        kinds = (bool, int, np.integer) if isinstance(own, (int, np.integer)) else (type(own),)
        if not isinstance(value, kinds):
            raise TypeError(f"{where} is a {type(value).__name__}, not a {type(own).__name__}")


def _not_all_zero(numbers: Any) -> None:
    # Of the first word the Mersenne Twister uses one bit (Matsumoto and Nishimura 1998).
    if not (numbers[0] & 0x80000000 or numbers[1:].any()):
        raise ValueError("the random state is all zeros, so the generator would only return the same number")
