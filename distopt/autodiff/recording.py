"""What an open tape does with a call: trace what it watches, leave the rest plain."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.autodiff import functions
from distopt.autodiff.boxes import (
    TapeNode,
    TensorBox,
    box_of,
    box_types,
    is_root,
    kind_of,
    new_root,
    new_trace,
    set_run,
    traced,
)
from distopt.autodiff.not_watched import tell_not_watched
from distopt.core import dispatch
from distopt.core.foreign import readable
from distopt.core.tensor import Tensor, TensorLike, as_array, run_eager, to_tensors
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["Recording", "Root", "forget_boxes", "live", "open_recordings"]


#: What arguments are most often and what is never traced.
_PLAIN = frozenset(
    {np.ndarray, int, float, bool, str, slice, type(None), type(Ellipsis), np.float32, np.float64}
)


class Root:
    """A variable or tensor that a tape watches.

    Attributes:
        watched: the object itself.
        trace: the tape's number.
        node: where its gradient arrives.
        version: the variable's version when the tape first read it, -1 before.
        copy: the value that a persistent tape keeps, with ``copy_version``.
    """

    __slots__ = ("copy", "copy_version", "node", "trace", "version", "watched")

    def __init__(self, watched: Any, dtype: np.dtype[Any], trace: int) -> None:
        self.watched = watched
        self.trace = trace
        self.node = new_root(dtype, self)
        self.version = -1
        self.copy: Array | None = None
        self.copy_version = -1

    def changed(self) -> bool:
        """Whether the variable was assigned after it was read and its old value is gone."""
        return self.copy is None and 0 <= self.version != self.watched.storage.version


class Recording:
    """The memory of one tape, and what stands on the stack of open tapes.

    Args:
        persistent: keep copies of variables, so that later assignments do not matter.
        watch_accessed: watch trainable variables when they are read.
    """

    def __init__(self, persistent: bool, watch_accessed: bool) -> None:
        self.persistent = persistent
        self.watch_accessed = watch_accessed
        #: The tape's number, given when it is first opened; -1 before.
        self.trace = -1
        self.roots: dict[int, Root] = {}
        #: Values of variables that are constants here: what a derivative needs must not change.
        self._constants: dict[int, tuple[Variable, int, Array]] = {}
        self._boxes: dict[int, tuple[int, Any]] = {}

    def record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs ``func``, recorded by every open tape that watches one of its arguments."""
        if len(dispatch.active_recorders()) == 1:  # this one
            known = functions.primitive_for(func)
            call = None if known is None else self._traced_call(args, kwargs)
            if call is not None:
                values, argnums, parents = call
                answer = known.fun(*values, **kwargs)
                return _wrapped(traced(answer, known, (values, kwargs), self.trace, argnums, parents), values)
        return _record(open_recordings(), func, args, kwargs)

    def _traced_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], list[int], list[Any]] | None:
        """The usual call, prepared fast: this tape alone is open, and arguments are not nested.

        Returns:
            The arguments as plain arrays, the places of those that the tape follows and their nodes; None
            if there are none, or the call is another one.
        """
        for value in kwargs.values():
            if type(value) not in _PLAIN:
                return None
        trace, roots, alone = self.trace, self.roots, [self]
        values, argnums, parents = [], [], []
        for i, arg in enumerate(args):
            kind = type(arg)
            if kind in _PLAIN:
                values.append(arg)
                continue
            if kind is Variable:
                box = self.variable(arg, alone)
            elif kind is Tensor:
                root = roots.get(id(arg))
                if root is None:
                    values.append(as_array(arg))
                    continue
                box = TensorBox(as_array(arg), trace, root.node)
            elif kind in box_types:
                box = arg
            elif isinstance(arg, (list, tuple, TensorLike)):
                return None
            else:  # an object of the primitive's own
                values.append(readable(arg))
                continue
            if type(box) is not TensorBox or box._trace != trace or type(box._value) is not np.ndarray:
                return None
            values.append(box._value)
            argnums.append(i)
            parents.append(box._node)
        return (values, argnums, parents) if parents else None

    def start(self) -> None:
        """Gives the tape its number, above those of all tapes that are open."""
        self.trace = new_trace()

    def watch(self, value: Any) -> None:
        """Makes a root of a variable, tensor or traced value, if it is not one already."""
        if value.dtype.kind not in "fc":
            tell_not_watched(value)
        elif id(value) not in self.roots and box_of(value, self.trace) is None:
            self.roots[id(value)] = Root(value, value.dtype, self.trace)
            forget_boxes()

    def root_of(self, variable: Variable) -> Root | None:
        """The variable's root, made now if the tape watches what is read."""
        root = self.roots.get(id(variable))
        if root is None:
            dtype = variable.storage.array.dtype
            if not (self.watch_accessed and variable.trainable and dtype.kind in "fc"):
                return None
            root = self.roots[id(variable)] = Root(variable, dtype, self.trace)
        return root

    def variable(self, variable: Variable, tapes: list[Recording]) -> Any:
        """The variable's value now, boxed for each tape that watches it; itself if none does."""
        known = self._boxes.get(id(variable))
        version = variable.storage.version
        if known is not None and known[0] == version:
            return known[1]
        value: Any = variable
        if len(tapes) == 1 and not self.persistent:  # the usual case
            root = self.root_of(variable)
            if root is not None:
                if root.version < 0:
                    root.version = version
                value = TensorBox(as_array(variable).view(), root.trace, root.node)
        else:
            roots = [root for tape in tapes if (root := tape.root_of(variable)) is not None]
            if roots:
                value = _captured(variable, roots, tapes)
                for root in roots:
                    value = TensorBox(value, root.trace, root.node)
        self._boxes[id(variable)] = (version, value)
        return value

    def constant(self, variable: Variable) -> Array:
        """The value of a variable that no tape watches, kept from later assignments."""
        known = self._constants.get(id(variable))
        version = variable.storage.version
        if known is None or known[1] != version:
            known = self._constants[id(variable)] = (variable, version, as_array(variable).copy())
        return known[2]

    def forget(self) -> None:
        """Lets go of everything but the roots, which keep what a later ``gradient`` needs."""
        self._constants.clear()
        self._boxes.clear()


def _captured(variable: Variable, roots: list[Root], tapes: list[Recording]) -> Array:
    """The array that stands for the variable: a copy if a tape is persistent, else its storage."""
    version = variable.storage.version
    for root in roots:
        if root.version < 0:
            root.version = version
    for tape in tapes:
        if tape.persistent:
            return _copied(variable, roots)
    return as_array(variable).view()


def _copied(variable: Variable, roots: list[Root]) -> Array:
    """The variable's value as the roots keep it."""
    version = variable.storage.version
    copy = next((root.copy for root in roots if root.copy_version == version), None)
    if copy is None:
        copy = as_array(variable).copy()
    for root in roots:
        root.copy, root.copy_version = copy, version
    return copy


def open_recordings() -> list[Recording]:
    """The tapes that record in this thread, outermost first."""
    recorders = dispatch.active_recorders()
    if len(recorders) == 1 and type(recorders[0]) is Recording:
        return recorders  # type: ignore[return-value]
    return [recorder for recorder in recorders if isinstance(recorder, Recording)]


def forget_boxes() -> None:
    """To be called when the tapes of this thread begin, end or watch something else."""
    for recording in open_recordings():
        recording._boxes.clear()


# -- one call
def _record(
    tapes: list[Recording], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if kwargs and any(_holds_tensors(value) for value in kwargs.values()):
        args, kwargs = _positional(func, args, kwargs)
        for name, value in kwargs.items():
            if _holds_tensors(value) and _holds_boxes(_boxed(value, tapes)):
                raise TypeError(
                    f"{functions.name_of(func)}({name}=...) got a traced value, which tapes can follow "
                    "only only as a positional argument: use a function that accepts it that way"
                )
    boxed = []
    followed = False
    finish = False
    innermost = tapes[-1].trace if tapes else -1
    for arg in args:
        kind = type(arg)
        if kind in _PLAIN:
            boxed.append(arg)
            continue
        if kind is TensorBox and arg._trace == innermost and type(arg._value) is not TensorBox:
            boxed.append(arg)  # the usual case, found fast
            followed = True
            continue
        value = _boxed(arg, tapes)
        boxed.append(value)
        kind = type(value)
        if kind in box_types:
            followed = True
        elif isinstance(value, Variable):
            finish = True
        elif kind is list or isinstance(value, tuple):
            finish = True
            followed = followed or _holds_boxes(value)
    if not followed:
        return run_eager(func, args, kwargs)
    if finish:
        boxed = [_settled(value, tapes) for value in boxed]
    return _wrapped(functions.call(func, boxed, kwargs), boxed)


def _boxed(value: Any, tapes: list[Recording]) -> Any:
    """``value`` with everything that a tape follows as boxes, tensors as arrays, variables left."""
    kind = type(value)
    if kind is TensorBox:
        plain = _live(value, tapes)
    elif kind is Tensor:
        plain = as_array(value)
    elif isinstance(value, Variable):
        return tapes[-1].variable(value, tapes) if tapes else value
    elif kind is list:
        return [_boxed(item, tapes) for item in value]
    elif isinstance(value, tuple):
        items = [_boxed(item, tapes) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    else:
        return readable(value)
    for tape in tapes:
        root = tape.roots.get(id(value)) if tape.roots else None
        if root is not None and (type(plain) is not TensorBox or plain._trace < tape.trace):
            plain = TensorBox(plain, tape.trace, root.node)
    return plain


def live(value: Any) -> Any:
    """``value`` without the boxes of tapes that do not record now; tensors as arrays."""
    if type(value) is TensorBox:
        return _live(value, open_recordings())
    return as_array(value) if isinstance(value, TensorLike) else value


def _live(box: Any, tapes: list[Recording]) -> Any:
    """The box without the levels of tapes that do not record now."""
    node = box._node
    value = box._value
    kept = _live(value, tapes) if type(value) is TensorBox else value
    if type(node) is TapeNode:
        trace = box._trace
        for tape in tapes:
            if tape.trace == trace:
                break
        else:
            return kept
    return box if kept is value else TensorBox(kept, box._trace, node)


def _settled(value: Any, tapes: list[Recording]) -> Any:
    """``value`` with the variables left in it as arrays that stay as they are."""
    if isinstance(value, Variable):
        return tapes[-1].constant(value) if tapes else as_array(value).copy()
    if type(value) is list:
        return [_settled(item, tapes) for item in value]
    if isinstance(value, tuple):
        items = [_settled(item, tapes) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _holds_boxes(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_boxes(item) for item in value)
    return type(value) in box_types


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(item) for item in value)
    return isinstance(value, TensorLike)


def _positional(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call with tensors that were given by keyword put in their places, where there are places."""
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    places = [
        name
        for name, parameter in bound.signature.parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    last = max((i for i, name in enumerate(places) if _holds_tensors(kwargs.get(name))), default=-1)
    if last < len(args):
        return args, kwargs
    bound.apply_defaults()
    moved = places[: last + 1]
    return (
        tuple(bound.arguments[name] for name in moved),
        {name: value for name, value in kwargs.items() if name not in moved},
    )


def _wrapped(result: Any, inputs: list[Any]) -> Any:
    """The result of a recorded call: boxes as they are, other arrays as tensors."""
    if type(result) is TensorBox:
        value = result._value
        if type(value) is np.ndarray and value.base is not None and _looks_into_root(result._node):
            # Values are snapshots: a view would change with the variable.
            return TensorBox(value.copy(), result._trace, result._node)
        return result
    if type(result) in box_types:  # a box of several arrays, from numpy.linalg.eigh for example
        items = [_wrapped(result[i], inputs) for i in range(len(result))]
        kind = kind_of(result)
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    return to_tensors(result, tuple(inputs))


def _looks_into_root(node: Any) -> bool:
    return any(is_root(parent) for parent in node.parents)


def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call on a traced value: the innermost recorder's, or autograd's own if no tape is open."""
    recorders = dispatch.active_recorders()
    return recorders[-1].record(func, args, kwargs) if recorders else _record([], func, args, kwargs)


set_run(_run)
