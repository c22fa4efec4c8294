"""Sends gradients as soon as they are final, while the backward pass continues."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

import torch

from distopt.engine.overlap import Overlap
from distopt.torch.parameter import Parameter

__all__ = ["GradientHooks"]


class GradientHooks:
    """Hooks on parameters.

    A gradient counts as final when it has been accumulated as often as in the previous step, because programs
    that accumulate gradients usually do so equally often in every step.

    Args:
        overlap: to whom gradients are handed over.
        parameter_of: the parameter of a tensor.
    """

    def __init__(self, overlap: Overlap, parameter_of: Callable[[torch.Tensor], Parameter]) -> None:
        self._overlap, self._parameter_of = overlap, parameter_of
        #: For each tensor's id how often its gradient was accumulated since the last step, and before it.
        self._times: dict[int, int] = {}
        self._expected: dict[int, int] = {}

    def register(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hooks on these parameters."""
        # Weak, since Python finds no circle through a tensor's hooks.
        hooks = weakref.ref(self)

        def note(tensor: torch.Tensor) -> None:
            if (alive := hooks()) is not None:
                alive._note(tensor)

        for tensor in tensors:
            if tensor.is_leaf and tensor.requires_grad:
                tensor.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]

    def _note(self, tensor: torch.Tensor) -> None:
        overlap, key = self._overlap, id(tensor)
        if not overlap.on:
            return
        times = self._times[key] = self._times.get(key, 0) + 1
        if times < self._expected.get(key, 1):
            overlap.advance()
            return
        parameter = self._parameter_of(tensor)
        overlap.hand_over(parameter.variable, parameter.gradient())

    def stepped(self) -> None:
        """A step was made."""
        self._expected, self._times = self._times, {}
