"""The pairs of a step, converted and checked before anything changes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from distopt.core.dtypes import kind_of
from distopt.core.foreign import foreign_array
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.placement import placement
from distopt.core.tensor import Tensor, TensorLike, as_array, unwrap
from distopt.core.variable import Variable
from distopt.engine.batch import GradientBatch
from distopt.engine.plan import PlanCache, StepPlan

__all__ = ["Pair", "Pairs", "aggregated", "batch_of", "checked", "take_in"]

Pair: TypeAlias = tuple[Any, Variable]
Pairs: TypeAlias = tuple[Pair, ...]

_log = logging.getLogger("distopt")
_PAIR, _TWO = {tuple}, {2}
_ARRAY, _DENSE = {np.ndarray}, {np.ndarray, Tensor}


def take_in(
    grads_and_vars: Any, optimizer: str, plans: PlanCache, engine: object, warned: set[tuple[str, ...]]
) -> tuple[GradientBatch, StepPlan]:
    """Returns the pairs whose gradient is not None, checked, with their plan. A warning names the others.

    Args:
        grads_and_vars: the argument of ``apply_gradients``.
        optimizer: its name, for messages.
        plans: the plans of the optimizer.
        engine: the engine of the replica; None in cross-replica context.
        warned: the names of variables in each earlier warning of the optimizer, which is not repeated.

    Raises:
        TypeError: not an iterable, an element that is not a pair or has no variable, or a wrong dtype.
        ValueError: all gradients are None, or a shape or index is wrong.
        RuntimeError: sparse rows for a variable with a constraint.
    """
    call = f"apply_gradients() of optimizer {optimizer!r}"
    items = _items(grads_and_vars, call)
    plain = _plain(items, plans, engine)
    if plain is not None:
        return plain
    pairs = _unpack(items, call)
    missing = [v.name for g, v in pairs if g is None]
    if missing and len(missing) == len(pairs):
        raise ValueError(
            f"No gradients provided for any variable: {missing}. Does the loss depend on them, and was it "
            "computed inside the tape?"
        )
    if missing and placement().chief() and (names := tuple(missing)) not in warned:
        warned.add(names)  # usually the same variables lack gradients in every step
        _log.warning("Gradients do not exist for variables %s when minimizing the loss.", missing)
    batch = batch_of([(_fitting(g, v, "apply_gradients()"), v) for g, v in pairs if g is not None])
    return batch, plans.find(engine, batch.variables)


def batch_of(pairs: Sequence[Pair]) -> GradientBatch:
    """The GradientBatch of pairs that have been checked."""
    gradients, variables = zip(*pairs, strict=True) if pairs else ((), ())
    return GradientBatch(variables, gradients)


def _plain(items: tuple[Any, ...], plans: PlanCache, engine: object) -> tuple[GradientBatch, StepPlan] | None:
    """The fast path for tuples of a dense array or Tensor and a Variable, which checks all pairs at once.

    Returns None if a pair is something else, or is wrong.
    """
    if set(map(type, items)) != _PAIR or set(map(len, items)) != _TWO:
        return None
    gradients, variables = zip(*items, strict=True)
    kinds = set(map(type, gradients))
    if not kinds <= _DENSE or not all(map(isinstance, variables, repeat(Variable))):
        return None
    arrays = gradients if kinds == _ARRAY else tuple(map(as_array, gradients))
    plan = plans.find(engine, variables)
    addresses = plan.specs.addresses_of(arrays)
    return None if addresses is None else (GradientBatch(variables, gradients, arrays, addresses), plan)


def checked(grads_and_vars: Any, call: str) -> Pairs:
    """The pairs with gradients as tensors or IndexedSlices that fit their variables.

    Args:
        grads_and_vars: pairs without None.
        call: where they come from, for error messages.

    Raises:
        As :func:`take_in`.
    """
    return tuple([(_fitting(g, v, call), v) for g, v in _unpack(_items(grads_and_vars, call), call)])


def aggregated(before: Pairs, after: Any, aggregator: str) -> list[Pair]:
    """Checks the result of an aggregator: every variable that was passed in, as often, and no other.

    Args:
        before: the pairs passed to the aggregator.
        after: the pairs that it returned.
        aggregator: its name, for error messages.

    Raises:
        TypeError: the result is not pairs, or a gradient has a wrong dtype.
        ValueError: a variable is missing, new, or appears more often than before, or a gradient has a wrong
            shape.
    """
    if after is before:
        return list(before)
    source = f"aggregator {aggregator} returned a wrong result; nothing was applied"
    returned = _unpack(_items(after, source), source)
    for gradient, variable in returned:
        if gradient is None:
            raise TypeError(f"{source}: the gradient of variable {variable.name!r} is None")
    pairs = list(checked(returned, source))
    got, gave = Counter(id(v) for _, v in before), Counter(id(v) for _, v in pairs)
    if got != gave:
        names = {id(v): v.name for _, v in (*before, *pairs)}
        wrong = ", ".join(f"{names[i]} ({gave[i]} for {got[i]})" for i in names if got[i] != gave[i])
        raise ValueError(
            f"{source}: the result must contain every variable exactly once; returned: {wrong}. To "
            "drop variables, use gradient_transformers"
        )
    return pairs


def _items(grads_and_vars: Any, call: str) -> tuple[Any, ...]:
    try:
        return tuple(grads_and_vars)
    except TypeError:
        raise TypeError(
            f"{call}: expected (gradient, variable) pairs, got {type(grads_and_vars).__name__}: "
            "pass a list of pairs, such as zip(gradients, variables)"
        ) from None


def _unpack(items: tuple[Any, ...], call: str) -> Pairs:
    return tuple([_pair(item, i, call) for i, item in enumerate(items)])


def _pair(item: Any, position: int, call: str) -> Pair:
    if type(item) is tuple and len(item) == 2 and isinstance(item[1], Variable):
        return item
    if not isinstance(item, Sequence) or isinstance(item, (str, bytes)):
        raise TypeError(
            f"{call}: element {position} is {type(item).__name__}, not a (gradient, variable) pair: "
            "pass a list of pairs, such as zip(gradients, variables)"
        )
    if len(item) != 2:
        raise ValueError(f"{call}: element {position} has {len(item)} items, not 2: (gradient, variable)")
    gradient, variable = item
    if not isinstance(variable, Variable):
        raise TypeError(
            f"{call}: element {position} has {type(variable).__name__} instead of a variable; only a "
            "distopt.Variable can be updated"
        )
    return gradient, variable


def _fitting(gradient: Any, variable: Variable, call: str) -> Any:
    """Converts a gradient to a Tensor or IndexedSlices, and checks its shape and dtype."""
    if type(gradient) is np.ndarray or type(gradient) is Tensor:  # the fast path for the common case
        array, wanted = as_array(gradient), as_array(variable)
        if array.dtype == wanted.dtype and array.shape == wanted.shape and array.dtype.kind == "f":
            return gradient if type(gradient) is Tensor else Tensor.from_numpy(array)
    if kind_of(variable.dtype) not in "fc":
        raise TypeError(
            f"{call}: variable {variable.name!r} has dtype {variable.dtype}; only floating-point variables "
            "are trained"
        )
    if isinstance(gradient, IndexedSlices):
        if isinstance(gradient.values, (list, tuple)):
            values = np.asarray(unwrap(gradient.values), variable.dtype)
            gradient = IndexedSlices(values, gradient.indices, gradient.dense_shape)
        _check_rows(gradient, variable, call)
        return gradient
    tensor = _tensor(gradient, variable, call)
    if tensor.dtype != variable.dtype:
        raise TypeError(
            f"{call}: the gradient of variable {variable.name!r} has dtype {tensor.dtype}, the variable "
            f"{variable.dtype}: cast it with .astype({variable.dtype.name!r})"
        )
    if tensor.shape != variable.shape:
        raise ValueError(
            f"{call}: the gradient of variable {variable.name!r} has shape {tensor.shape}, the variable "
            f"{variable.shape}; gradients are not broadcast"
        )
    return tensor


def _tensor(gradient: Any, variable: Variable, call: str) -> TensorLike:
    if isinstance(gradient, Variable):
        return gradient.read_value()  # a copy, because the step may update this variable too
    if isinstance(gradient, TensorLike):
        return gradient
    if isinstance(gradient, (list, tuple, int, float, complex)):
        return Tensor(np.asarray(unwrap(gradient), variable.dtype))
    return Tensor.from_numpy(foreign_array(gradient, f"{call}: the gradient of variable {variable.name!r}"))


def _check_rows(gradient: IndexedSlices, variable: Variable, call: str) -> None:
    where = f"{call}: the sparse gradient of variable {variable.name!r}"
    if variable.constraint is not None:
        raise RuntimeError(
            f"Cannot use a constraint function on a sparse variable: {variable.name!r} has a constraint and "
            f"got IndexedSlices in {call}. Drop the constraint, or pass the gradient's to_dense()"
        )
    values, indices = as_array(gradient.values), as_array(gradient.indices)
    if values.dtype != variable.dtype:
        raise TypeError(f"{where} has values of dtype {values.dtype}, the variable {variable.dtype}")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{where} has indices of dtype {indices.dtype}; they must be integers")
    if indices.ndim != 1 or variable.ndim == 0 or values.shape != (len(indices), *variable.shape[1:]):
        raise ValueError(
            f"{where} has values of shape {values.shape} and indices of shape {indices.shape}; the variable "
            f"has shape {variable.shape}: one row of shape {variable.shape[1:]} is needed for each index"
        )
    if len(indices) and not (indices.min() >= 0 and indices.max() < len(variable)):
        wrong = indices[(indices < 0) | (indices >= len(variable))][0]
        raise ValueError(f"{where} has index {wrong}, out of range for {len(variable)} rows")
