"""This process's standard input, output and error, by descriptor."""

from __future__ import annotations

import os
import sys

IN, OUT, ERR = 0, 1, 2


def open_standard_streams() -> None:
    """Opens those that are closed, as under some services, so that no pipe gets their numbers."""
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
    """Whether two descriptors are one file, pipe or terminal."""
    try:
        return os.path.samestat(os.fstat(first), os.fstat(second))
    except OSError:
        return False
