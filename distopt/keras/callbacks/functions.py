"""LambdaCallback: functions as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distopt.keras.callbacks.callback import Callback

__all__ = ["LambdaCallback"]

_MOMENTS = (
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
)


class LambdaCallback(Callback):
    """A callback made of functions, which take the same arguments as the methods of :class:`Callback`.

    Args:
        **functions: functions by the names of the methods. ``on_batch_begin`` and ``on_batch_end`` stand for
            ``on_train_batch_begin`` and ``on_train_batch_end``.

    Raises:
        TypeError: a name is unknown.

    >>> shout = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
    """

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        super().__init__()
        for given, function in functions.items():
            name = given.replace("on_batch_", "on_train_batch_")
            if name not in _MOMENTS:
                raise TypeError(f"LambdaCallback has no {given!r}. Known: {', '.join(_MOMENTS)}")
            if function is not None:
                setattr(self, name, function)
