"""Row lookup whose gradient is sparse."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.rows import take_rows
from distopt.core.tensor import TensorLike, as_array, convert_to_tensor

__all__ = ["gather"]


def gather(params: Any, indices: Any) -> Any:
    """Looks up rows: ``params[indices]`` along axis 0. Its gradient is an IndexedSlices.

    Args:
        params: ``[n, ...]`` variable, tensor or array.
        indices: integers of any shape, each from 0 to ``n - 1``.

    Returns:
        ``[*indices.shape, ...]``, a tensor.

    Raises:
        TypeError: indices are not integers.
        ValueError: an index is out of range, or ``params`` has no axes.

    >>> gather(np.array([[1.0], [2.0]]), [1, 1]).numpy().tolist()
    [[2.0], [2.0]]
    """
    table = params if isinstance(params, TensorLike) else convert_to_tensor(params)
    rows = as_array(indices)
    if rows.dtype.kind not in "iu":
        if rows.size:
            raise TypeError(f"gather() takes integers as indices; got dtype {rows.dtype}")
        rows = rows.astype(np.int64)
    if table.ndim == 0:
        raise ValueError("gather() looks up rows, but params has shape () and no rows")
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < table.shape[0]:
        bad = rows[(rows < 0) | (rows >= table.shape[0])].reshape(-1)[0]
        raise ValueError(
            f"gather() got index {bad}; params has {table.shape[0]} rows, 0 to {table.shape[0] - 1}"
        )
    return table._run(take_rows.fun, (table, rows), {})
