"""The default dtype of layers, metrics and initializers."""

from __future__ import annotations

__all__ = ["floatx", "set_floatx"]

_names = ("float16", "float32", "float64")
# Process-wide, as set_floatx() promises.
_now = ["float32"]


def floatx() -> str:
    """The default dtype: "float16", "float32" or "float64"."""
    return _now[0]


def set_floatx(value: str) -> None:
    """Sets the default dtype of new variables. All replicas must set the same.

    Raises:
        ValueError: the dtype is not float16, float32 or float64.
    """
    name = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    if name not in _names:
        raise ValueError(f"Unknown floatx type: {value!r}. Use one of: {', '.join(_names)}")
    _now[0] = name
