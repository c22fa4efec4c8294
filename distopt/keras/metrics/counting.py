"""Whether this replica has examples, without which nothing is counted."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from distopt.keras.global_state import thread_state

__all__ = ["counted", "no_examples"]


def counted(update: Callable[..., Any]) -> Callable[..., Any]:
    """An ``update_state`` that does nothing within :func:`no_examples`."""

    @functools.wraps(update)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return None if thread_state.no_examples else update(*args, **kwargs)

    return wrapped


@contextmanager
def no_examples() -> Iterator[None]:
    """A step within is one on no examples, which others have.

    Its means are NaN: no metric takes them in, and NumPy does not warn of them.
    """
    thread_state.no_examples = True
    try:
        with np.errstate(invalid="ignore", divide="ignore"), _quiet:
            yield
    finally:
        thread_state.no_examples = False


class _Quiet:
    """Keeps NumPy from warning of means over nothing.

    The filters of warnings belong to all threads: the last one that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", "(Mean of empty slice|Degrees of freedom)", RuntimeWarning)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


# Process-wide, as the filters of warnings are.
_quiet = _Quiet()
