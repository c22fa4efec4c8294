"""Which layers are trained: a model keeps the flags that they had when it was compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distopt.keras.global_state import thread_state

__all__ = ["TrainableFlags", "flags_in_force"]


def flags_in_force() -> dict[Any, bool] | None:
    """Layer -> whether it is trained, in place of what the layer says itself; None: all say themselves."""
    return thread_state.trainable


class TrainableFlags:
    """The ``trainable`` of a model and of all layers in it, as it is now.

    Args:
        model: the model.

    Attributes:
        warned: whether the user was warned that the flags of some layers have changed since.
    """

    def __init__(self, model: Any) -> None:
        self.warned = False
        self._flags = {layer: layer.trainable for layer in _layers(model)}

    @contextmanager
    def in_force(self) -> Iterator[list[Any]]:
        """Lets the layers be trained as they said then; gives those that say something else by now.

        What is set within holds until the end of it, and afterwards for the layer itself.
        """
        others = [layer for layer, flag in self._flags.items() if layer.trainable is not flag]
        before = thread_state.trainable
        if others:
            thread_state.trainable = {**(before or {}), **self._flags}
        try:
            yield others
        finally:
            thread_state.trainable = before


def _layers(model: Any) -> Iterator[Any]:
    """The model and all layers in it."""
    yield model
    for layer in model.sublayers():
        yield from _layers(layer)
