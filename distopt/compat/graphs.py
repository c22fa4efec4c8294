"""What programs for TensorFlow's graphs call, where there are no graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from distopt.launched import launched

__all__ = ["function"]

_log = logging.getLogger("distopt")


@cache
def _tell() -> None:
    job = launched()  # as a rule this is called before MPI has been started
    if job is not None and job.rank:
        return
    _log.warning(
        "tf.function: functions run as they are, line by line, since there are no graphs. Results are the "
        "same; what a function prints, or counts in Python, it does at every call"
    )


def function(func: Callable[..., Any] | None = None, *_options: Any, **_ignored: Any) -> Any:
    """Returns the function itself, as a decorator with or without options. It logs this once.

    Args:
        func: the function.
        _options: those of ``tf.function`` (``input_signature``, ``autograph``, ...), which are ignored.
        _ignored: likewise, by name.

    Raises:
        TypeError: ``func`` is not callable.

    >>> @function(autograph=False)
    ... def double(x):
    ...     return 2 * x
    >>> double(2)
    4
    """
    if func is None:
        return function
    if not callable(func):
        raise TypeError(f"tf.function() takes a function, got {type(func).__name__}")
    _tell()
    return func
