"""Shows NumPy's floating-point warnings at the line of the program that called distopt."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np

from distopt.tracebacks import is_internal

__all__ = ["MAY_WARN", "warnings_at_caller"]

#: The functions that are undefined or infinite for some finite arguments.
MAY_WARN = frozenset(
    {np.arccos, np.arcsin, np.arctanh, np.divide, np.exp, np.power, np.sqrt}
    | {np.log, np.log10, np.log1p, np.log2}
)
#: Libraries whose frames may lie between the program and NumPy, besides those of distopt.
_LIBRARIES = (f"{os.sep}autograd{os.sep}", f"{os.sep}numpy{os.sep}")


@cache
def _is_inside(file: str) -> bool:
    return is_internal(file) or any(library in file for library in _LIBRARIES)


def warnings_at_caller(operation: str) -> AbstractContextManager[object]:
    """A ``with`` block in which floating-point warnings point to the innermost line outside distopt.

    Error kinds that ``np.seterr`` has set to something other than "warn" are not affected.

    Args:
        operation: the name of the function, for messages such as "divide by zero encountered in log".
    """
    warned = [kind for kind, mode in np.geterr().items() if mode == "warn"]
    if not warned:
        return nullcontext()

    def warn(kind: str, _: int) -> None:
        level, frame = 1, sys._getframe(1)
        while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
            level, frame = level + 1, frame.f_back
        warnings.warn(f"{kind} encountered in {operation}", RuntimeWarning, stacklevel=level + 1)

    modes: dict[str, Any] = dict.fromkeys(warned, "call")
    return np.errstate(**modes, call=warn)
