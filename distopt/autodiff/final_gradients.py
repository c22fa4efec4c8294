"""Gradients as the user gets them, made of what the pass backward brings to the sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.boxes import TapeNode
from distopt.autodiff.recording import live
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, TensorLike, as_array
from distopt.core.variable import Variable

__all__ = ["FinalGradients", "finished"]


class FinalGradients:
    """Takes gradients as they become final.

    Args:
        sources: by their nodes.
        told: whether those who listen to a variable's gradient are told.

    Attributes:
        gradients: as the user gets them, by the nodes of the sources.
    """

    def __init__(self, sources: dict[TapeNode | None, TensorLike], told: bool) -> None:
        self._sources, self._told = sources, told
        self.gradients: dict[TapeNode, Any] = {}

    def take(self, node: TapeNode, cotangent: Any) -> None:
        """Takes the cotangent of a source."""
        source = self._sources[node]
        gradient = self.gradients[node] = finished(cotangent, source)
        if self._told and isinstance(source, Variable) and source.gradient_listener is not None:
            listener = source.gradient_listener()
            if listener is not None and type(gradient) is Tensor:  # a plain one, which stays where it is
                listener(source, as_array(gradient))


def finished(cotangent: Any, source: TensorLike) -> Any:
    """The gradient of a source as the user gets it."""
    if type(cotangent) is np.ndarray and cotangent.base is None and cotangent.shape == source.shape:
        return Tensor.from_numpy(cotangent)
    if isinstance(cotangent, IndexedSlices):
        values = live(cotangent.values)
        return IndexedSlices(
            _as_tensor(values), Tensor.from_numpy(as_array(cotangent.indices)), cotangent.dense_shape
        )
    if cotangent.shape != source.shape:
        raise ValueError(
            f"a gradient of shape {tuple(cotangent.shape)} came back for a source of shape {source.shape}: "
            "the derivative of a function on the way (see distopt.autodiff.defvjp) has the wrong shape"
        )
    return _as_tensor(live(cotangent))


def _as_tensor(value: Any) -> Any:
    if isinstance(value, TensorLike):
        return value
    # A view may look into a variable, or lie over zeros strides; gradients are arrays of their own.
    return Tensor.from_numpy(value if value.base is None else np.array(value))
