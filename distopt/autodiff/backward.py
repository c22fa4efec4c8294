"""The pass backward through the graph that a tape recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from autograd.extend import SparseObject, vspace

from distopt.autodiff.boxes import (
    TapeNode,
    TensorBox,
    box_types,
    is_root,
    release,
    sparse_add,
    sparse_object_types,
)
from distopt.autodiff.rows import scatter_rows
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable

__all__ = ["backward"]


def backward(
    seeds: list[tuple[TapeNode, Any]],
    sources: set[TapeNode],
    visit_root: Callable[[TapeNode], None],
    free: bool,
) -> dict[TapeNode, Any]:
    """Carries cotangents from ``seeds`` back to ``sources``.

    Args:
        seeds: pairs of a node and the cotangent that enters there.
        sources: the nodes whose cotangents are wanted.
        visit_root: called before any arithmetic with every root that the seeds depend on.
        free: whether to let go of the graph on the way; it cannot be used again then.

    Returns:
        The cotangents of those sources that the seeds depend on: arrays, boxes of other tapes, or
        IndexedSlices.
    """
    order = _toposort([node for node, _ in seeds])
    inner = _inner_nodes(order, sources)
    for node in order:
        if not node.parents:
            visit_root(node)
    pending: dict[TapeNode, tuple[Any, bool]] = {}
    for node, cotangent in seeds:
        _accumulate(pending, node, cotangent)
    found: dict[TapeNode, Any] = {}
    for node in order:
        if node in pending:
            cotangent = _cast(pending.pop(node)[0], node.dtype)
            if node in sources:
                found[node] = cotangent
            if node in inner:
                for parent, part in zip(node.parents, node.vjp(_dense(cotangent)), strict=True):
                    if part is not None and (parent in inner or parent in sources):
                        _accumulate(pending, parent, part)
        if free:
            release(node)
    return found


def _inner_nodes(order: list[TapeNode], sources: set[TapeNode]) -> set[TapeNode]:
    """The nodes through which cotangents pass on their way to ``sources``, and unreachable ones."""
    inner: set[TapeNode] = set()
    for node in reversed(order):
        for parent in node.parents:
            if parent in inner or parent in sources:
                inner.add(node)
                break
        else:
            if not node.parents and not is_root(node):
                inner.add(node)
    return inner


def _toposort(ends: list[TapeNode]) -> list[TapeNode]:
    """All nodes that ``ends`` depend on, each before its parents."""
    uses: dict[TapeNode, int] = {}
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node in uses:
            uses[node] += 1
        else:
            uses[node] = 1
            stack.extend(node.parents)
    order, ready = [], []
    for node in ends:
        uses[node] -= 1
        if not uses[node]:
            ready.append(node)
    while ready:
        node = ready.pop()
        order.append(node)
        for parent in node.parents:
            uses[parent] -= 1
            if not uses[parent]:
                ready.append(parent)
    return order


def _accumulate(pending: dict[TapeNode, tuple[Any, bool]], node: TapeNode, new: Any) -> None:
    """Adds a cotangent to a node's sum; the flag says whether the sum is ours to write into."""
    if type(new) is not np.ndarray:
        new = _plain(new)
    before = pending.get(node)
    if before is None:
        if type(new) in sparse_object_types:
            pending[node] = sparse_add(vspace(new), None, new), True
        else:
            pending[node] = new, False
        return
    old, ours = before
    if type(new) in sparse_object_types:
        if type(old) is np.ndarray and ours and type(new) is SparseObject:
            pending[node] = new.mut_add(old), True
            return
        if not isinstance(old, (np.ndarray, TensorBox, IndexedSlices)):  # a tuple of arrays
            pending[node] = sparse_add(vspace(new), old, new), True
            return
        new = sparse_add(vspace(new), None, new)
    if isinstance(old, IndexedSlices) and isinstance(new, IndexedSlices):
        pending[node] = _join(old, new), False
        return
    old, new = _dense(old), _dense(new)
    if ours and type(old) is np.ndarray is type(new) and old.shape == new.shape and old.dtype == new.dtype:
        pending[node] = np.add(old, new, out=old), True
    elif type(old) in box_types or type(new) in box_types or isinstance(old, np.ndarray):
        total = _plain(old + new)
        pending[node] = total, type(total) is np.ndarray
    else:
        pending[node] = vspace(new).add(old, new), True


def _plain(cotangent: Any) -> Any:
    """What a derivative returned, with tensors, numbers and lists in it as arrays."""
    kind = type(cotangent)
    if kind is np.ndarray or kind in box_types or kind in sparse_object_types or isinstance(cotangent, tuple):
        return cotangent
    if isinstance(cotangent, IndexedSlices):
        indices = as_array(cotangent.indices)
        return IndexedSlices(_plain(cotangent.values), indices, cotangent.dense_shape)
    if isinstance(cotangent, Variable):
        return cotangent._array().copy()
    return as_array(cotangent)


def _cast(cotangent: Any, dtype: np.dtype[Any] | None) -> Any:
    """The cotangent in its node's dtype, where NumPy's promotion has widened it."""
    if dtype is None or isinstance(cotangent, tuple) or cotangent.dtype == dtype:
        return cotangent
    if isinstance(cotangent, IndexedSlices):
        return IndexedSlices(_cast(cotangent.values, dtype), cotangent.indices, cotangent.dense_shape)
    if cotangent.dtype.kind == "c" and dtype.kind != "c":
        cotangent = np.real(cotangent)
    return _plain(cotangent.astype(dtype))


def _join(first: IndexedSlices, second: IndexedSlices) -> IndexedSlices:
    return IndexedSlices(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.indices, second.indices]),
        first.dense_shape,
    )


def _dense(cotangent: Any) -> Any:
    if not isinstance(cotangent, IndexedSlices):
        return cotangent
    return scatter_rows(cotangent.values, cotangent.indices, cotangent.dense_shape)
