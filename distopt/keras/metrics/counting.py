"""Whether this replica has examples, without which nothing is counted."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["counted", "no_examples"]


class _Share(threading.local):
    """What this thread, which may be one replica of several, has of the batch."""

    empty = False


_share = _Share()


def counted(update: Callable[..., Any]) -> Callable[..., Any]:
    """An ``update_state`` that does nothing within :func:`no_examples`."""

    @functools.wraps(update)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return None if _share.empty else update(*args, **kwargs)

    return wrapped


@contextmanager
def no_examples() -> Iterator[None]:
    """A step within is one on no examples, which others have.

    Its means are NaN: no metric takes them in, and NumPy does not warn of them.
    """
    _share.empty = True
    try:
        with np.errstate(invalid="ignore", divide="ignore"), _quiet:
            yield
    finally:
        _share.empty = False


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


_quiet = _Quiet()
