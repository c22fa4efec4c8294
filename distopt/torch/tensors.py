"""PyTorch's tensors as arrays, and back; they share memory."""

from __future__ import annotations

import numpy as np
import torch

from distopt.core.dtypes import bfloat16, is_bfloat16
from distopt.core.indexed_slices import IndexedSlices
from distopt.typing import Array

__all__ = ["as_array", "as_slices", "as_tensor", "axes_by_stride"]


def as_array(tensor: torch.Tensor) -> Array:
    """The memory of a dense CPU tensor; bfloat16 as ``ml_dtypes.bfloat16``, which NumPy itself lacks."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        array: Array = tensor.view(torch.int16).numpy().view(bfloat16())
        return array
    return tensor.numpy()


def as_tensor(array: Array) -> torch.Tensor:
    """A tensor in the array's memory; the opposite of :func:`as_array`. NumPy's scalars are copied."""
    array = np.asarray(array)
    if is_bfloat16(array.dtype):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_slices(gradient: torch.Tensor, name: str) -> IndexedSlices:
    """The rows of a sparse gradient.

    Raises:
        ValueError: it is sparse in more than its first axis.
    """
    rows = gradient.detach().coalesce()
    if rows.sparse_dim() != 1:
        raise ValueError(
            f"the gradient of {name!r} is sparse in {rows.sparse_dim()} axes: only axis 0 may be sparse, "
            "as with nn.Embedding(sparse=True); .to_dense() makes it dense"
        )
    return IndexedSlices(as_array(rows.values()), as_array(rows.indices()[0]), tuple(rows.shape))


def axes_by_stride(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The order of axes in which the tensor is contiguous; None if there is none, as it has gaps."""
    strides = tensor.stride()
    axes = tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
    return axes if tensor.permute(axes).is_contiguous() else None
