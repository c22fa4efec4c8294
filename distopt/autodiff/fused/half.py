"""float16 is for storage: sums overflow in it, and epsilons vanish, so they are computed in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["narrow", "wide"]


def wide(x: Any) -> Any:
    """``x`` in float32 at least; what is traced may come in too.

    Raises:
        TypeError: integers or Booleans, in which means and quotients would be cut off.
    """
    dtype = x.dtype
    if dtype.kind not in "fc":
        raise TypeError(f"a fused operation takes floats; got dtype {dtype}: convert with astype first")
    return x.astype(np.float32) if dtype == np.float16 else x


def narrow(value: Any, like: Any) -> Any:
    """``value`` as float16 if ``like`` is."""
    return value.astype(np.float16) if like.dtype == np.float16 else value
