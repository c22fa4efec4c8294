"""Warns if the program changes a replica's gradients as if they were those of the whole batch."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from distopt.core.placement import placement

__all__ = ["GradientWatch"]

_log = logging.getLogger("distopt")


class GradientWatch:
    """Watches one parameter, whose gradient should not change between the backward pass and the step.

    Args:
        name: the optimizer's, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Weak, since Python finds no circle through a tensor's hooks.
        self._tensor: Callable[[], torch.Tensor | None] | None = None
        self._handle: RemovableHandle | None = None
        self._made: tuple[int, int] | None = None

    def begin(self, tensors: Iterable[torch.Tensor]) -> None:
        """Watches the first one that needs gradients, unless one is watched, or was."""
        if self._tensor is None:
            found = next((t for t in tensors if t.requires_grad and t.is_leaf), None)
            if found is not None:
                self._tensor = weakref.ref(found)
                register: Any = found.register_post_accumulate_grad_hook
                self._handle = register(self._note)

    def _note(self, tensor: torch.Tensor) -> None:
        self._made = _version(tensor.grad)

    def forget(self) -> None:
        """The gradient has been used, or set to zero."""
        self._made = None

    def check(self) -> None:
        """Warns, once, if the gradient has been changed since the backward pass, but not to zero."""
        tensor = None if self._tensor is None else self._tensor()
        gradient = None if tensor is None else tensor.grad
        now, made = _version(gradient), self._made
        if self._handle is None or gradient is None or now is None or made is None:
            return
        if now == made or now[0] != made[0] or not gradient.any():
            return
        self._handle.remove()
        self._handle = None
        if placement().chief():
            _log.warning(
                "the gradients of %s were changed between backward() and step(). There each replica has "
                "the gradients of its own examples only, so clipping, for example, has another effect "
                "than on those of the whole batch. Call optimizer.aggregate() first, or create the "
                "optimizer with clip_grad_norm=... or clip_grad_value=...",
                self._name,
            )


def _version(gradient: torch.Tensor | None) -> tuple[int, int] | None:
    """Where a dense gradient lies, and how often it was changed in place."""
    if gradient is None or gradient.layout is not torch.strided:
        return None
    return gradient.data_ptr(), gradient._version
