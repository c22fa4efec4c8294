"""The pass backward through the graph that a tape recorded."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
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

_number = attrgetter("number")


def backward(
    seeds: list[tuple[TapeNode, Any]],
    sources: set[TapeNode],
    visit_root: Callable[[TapeNode], None],
    free: bool,
    found: Callable[[TapeNode, Any], None],
) -> None:
    """Carries cotangents from ``seeds`` back to ``sources``.

    Args:
        seeds: pairs of a node and the cotangent that enters there.
        sources: the nodes whose cotangents are wanted.
        visit_root: called before any arithmetic with every root that the seeds depend on.
        free: whether to let go of the graph on the way; it cannot be used again then.
        found: called with each source that the seeds depend on and its cotangent as soon as that is final: an
            array, a box of another tape, or IndexedSlices.
    """
    order = _dependencies([node for node, _ in seeds])
    inner, uses = _inner_nodes(order, sources, visit_root)
    sums = _Sums()
    for node, cotangent in seeds:
        sums.add(node, cotangent)
    pending = sums.pending
    for node in order:
        cotangent = pending.pop(node, None)
        if cotangent is not None:
            cotangent = _cast(cotangent, node.dtype)
            if node in sources:
                found(node, cotangent)
            if node in inner:
                for parent, part in zip(node.parents, node.vjp(_dense(cotangent)), strict=True):
                    if part is not None and (parent in inner or parent in sources):
                        if type(part) is np.ndarray and parent not in pending:  # the usual case, found fast
                            pending[parent] = part
                        else:
                            sums.add(parent, part)
                    if parent in uses:
                        uses[parent] -= 1
                        if uses[parent] == 0 and parent in pending:
                            found(parent, _cast(pending.pop(parent), parent.dtype))
        if free:
            release(node)


def _dependencies(ends: list[TapeNode]) -> list[TapeNode]:
    """All nodes that ``ends`` depend on, each before its parents: the last recorded first."""
    seen = set(ends)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=_number, reverse=True)


def _inner_nodes(
    order: list[TapeNode], sources: set[TapeNode], visit_root: Callable[[TapeNode], None]
) -> tuple[set[TapeNode], dict[TapeNode, int]]:
    """The nodes through which cotangents pass on their way to ``sources``, and unreachable ones.

    Also how often those of the sources that are roots are used.
    """
    inner: set[TapeNode] = set()
    uses: dict[TapeNode, int] = {}
    for node in reversed(order):
        if not node.parents:
            visit_root(node)
            if not is_root(node):
                inner.add(node)
            elif node in sources:
                uses[node] = 0
            continue
        for parent in node.parents:
            if parent in uses:
                uses[parent] += 1
            if parent in inner or parent in sources:
                inner.add(node)
    return inner, uses


class _Sums:
    """The cotangents that have arrived at nodes, summed."""

    def __init__(self) -> None:
        #: In the dtype in which they came.
        self.pending: dict[TapeNode, Any] = {}
        #: Nodes whose sum is ours to write into; others came from derivatives, which may keep them.
        self._ours: set[TapeNode] = set()

    def add(self, node: TapeNode, new: Any) -> None:
        """Adds a cotangent to a node's sum."""
        old = self.pending.get(node)
        new = _plain(new)
        if old is None:
            sparse = type(new) in sparse_object_types
            self._set(node, sparse_add(vspace(new), None, new) if sparse else new, sparse)
        elif type(new) in sparse_object_types:
            if type(old) is np.ndarray and node in self._ours and type(new) is SparseObject:
                self._set(node, new.mut_add(old), True)
            elif isinstance(old, (np.ndarray, TensorBox, IndexedSlices)):
                self._add_dense(node, _dense(old), sparse_add(vspace(new), None, new))
            else:  # a tuple of arrays
                self._set(node, sparse_add(vspace(new), old, new), True)
        elif isinstance(old, IndexedSlices) and isinstance(new, IndexedSlices):
            self._set(node, _join(old, new), False)
        else:
            self._add_dense(node, _dense(old), _dense(new))

    def _add_dense(self, node: TapeNode, old: Any, new: Any) -> None:
        ours = node in self._ours
        if (
            ours
            and type(old) is np.ndarray is type(new)
            and old.shape == new.shape
            and old.dtype == new.dtype
        ):
            np.add(old, new, out=old)
        elif type(old) in box_types or type(new) in box_types or isinstance(old, np.ndarray):
            total = _plain(old + new)
            self._set(node, total, type(total) is np.ndarray)
        else:
            self._set(node, vspace(new).add(old, new), True)

    def _set(self, node: TapeNode, total: Any, ours: bool) -> None:
        self.pending[node] = total
        if ours:
            self._ours.add(node)
        else:
            self._ours.discard(node)


def _plain(cotangent: Any) -> Any:
    """What a derivative returned, with tensors, numbers and lists in it as arrays."""
    kind = type(cotangent)
    if kind is np.ndarray or kind in box_types or kind in sparse_object_types or isinstance(cotangent, tuple):
        return cotangent
    if isinstance(cotangent, IndexedSlices):
        indices = as_array(cotangent.indices)
        return IndexedSlices(_plain(cotangent.values), indices, cotangent.dense_shape)
    if isinstance(cotangent, Variable):
        return as_array(cotangent).copy()
    return as_array(cotangent)


def _cast(cotangent: Any, dtype: np.dtype[Any] | None) -> Any:
    """The cotangent in its node's dtype, where NumPy's promotion has widened it."""
    if type(cotangent) is np.ndarray and cotangent.dtype is dtype:  # the usual case, found fast
        return cotangent
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
