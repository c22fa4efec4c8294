"""The descriptors of standard input, output and error."""

from __future__ import annotations

import os
import sys

IN, OUT, ERR = 0, 1, 2


def open_standard_streams() -> None:
    """Opens standard streams that are closed, as in some services, so that no pipe gets their descriptors."""
    for descriptor in (IN, OUT, ERR):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(OUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(ERR, "w", closefd=False)


def same_file(first: int, second: int) -> bool:
    """Whether two descriptors refer to the same file, pipe or terminal."""
    try:
        return os.path.samestat(os.fstat(first), os.fstat(second))
    except OSError:
        return False
