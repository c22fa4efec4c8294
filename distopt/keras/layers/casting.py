"""Inputs in the dtype that a layer computes in."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.keras.values import refuse_dtype

__all__ = ["cast_input"]


def cast_input(layer: Any, value: Any, dtype: np.dtype[Any], arithmetic: bool) -> Any:
    """``value`` in ``dtype`` if it holds floats.

    Args:
        layer: whose input it is, for errors.
        value: an array or tensor.
        dtype: the layer's.
        arithmetic: whether the layer computes with it: integers and Booleans are cast then as well.
            Otherwise they may be what it looks things up by, and are left alone, like everything else.

    Raises:
        TypeError: the layer computes with it, and it holds no real numbers.
    """
    given = value.dtype
    if given.kind == "f" or (arithmetic and given.kind in "biu"):
        return value if given == dtype else value.astype(dtype)
    if arithmetic:
        refuse_dtype(f"the inputs of layer {layer.name!r} ({type(layer).__name__})", given)
    return value
