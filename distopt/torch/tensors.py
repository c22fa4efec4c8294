"""Converts between PyTorch tensors and NumPy arrays that share their memory."""

from __future__ import annotations

import numpy as np
import torch

from distopt.core.dtypes import bfloat16, is_bfloat16
from distopt.core.indexed_slices import IndexedSlices
from distopt.typing import Array

__all__ = ["as_array", "as_slices", "as_tensor", "axes_by_stride"]


def as_array(tensor: torch.Tensor) -> Array:
    """Views a dense CPU tensor as an array. bfloat16 becomes ``ml_dtypes.bfloat16``."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        array: Array = tensor.view(torch.int16).numpy().view(bfloat16())
        return array
    return tensor.numpy()


def as_tensor(array: Array) -> torch.Tensor:
    """Views an array as a tensor: the inverse of :func:`as_array`. NumPy scalars are copied."""
    array = np.asarray(array)
    if is_bfloat16(array.dtype):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_slices(gradient: torch.Tensor, name: str) -> IndexedSlices:
    """Converts a sparse gradient to IndexedSlices with distinct rows.

    Args:
        gradient: sparse in axis 0 only.
        name: the name of the parameter, for messages.

    Raises:
        ValueError: it is sparse in more axes.
    """
    rows = gradient.detach().coalesce()
    if rows.sparse_dim() != 1:
        raise ValueError(
            f"the gradient of {name!r} is sparse in {rows.sparse_dim()} axes: only axis 0 may be sparse, "
            "as with nn.Embedding(sparse=True); .to_dense() makes it dense"
        )
    return IndexedSlices(as_array(rows.values()), as_array(rows.indices()[0]), tuple(rows.shape))


def axes_by_stride(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The permutation of axes that makes the tensor C-contiguous; None if there is none."""
    strides = tensor.stride()
    axes = tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
    return axes if tensor.permute(axes).is_contiguous() else None
