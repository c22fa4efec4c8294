"""GradientTape: records what is computed and gives gradients (the API of tf.GradientTape)."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from distopt.autodiff.backward import backward
from distopt.autodiff.boxes import TapeNode, TensorBox, box_of, is_mean, unreachable_node
from distopt.autodiff.final_gradients import FinalGradients, finished
from distopt.autodiff.recording import Recording, forget_boxes, open_recordings
from distopt.autodiff.recording import live as live_value
from distopt.core import dispatch, nest
from distopt.core.floating_point import warnings_at_caller
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import Tensor, TensorLike, as_array, convert_to_tensor
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["GradientTape", "UnconnectedGradients"]


class UnconnectedGradients(enum.Enum):
    """What the gradient is if the target does not depend on the source."""

    NONE = "none"
    ZERO = "zero"


_VARIABLE = frozenset({Variable})
_USED = (
    "a GradientTape that is not persistent gives gradients (or a jacobian) only once: create it with "
    "GradientTape(persistent=True), or call reset() and record again"
)
_OWN_GRADIENT = (
    "a derivative of a gradient was asked from the tape that gave this gradient: "
    "compute the inner gradient with a second tape inside this one"
)


class GradientTape:
    """Records the computations in its ``with`` block and computes gradients of their results.

    It records NumPy functions and operators on variables and tensors, but not on plain arrays. Trainable
    variables are watched when they are read. Watch tensors, and variables that are not trainable, with
    ``watch``. Tapes nest: an outer tape that is open can differentiate the gradient that an inner one
    computes. An open tape belongs to the thread that opened it.

    Args:
        persistent: whether you can call ``gradient`` repeatedly. The tape then copies the values of
            variables. Otherwise do not assign to variables between their use and ``gradient``.
        watch_accessed_variables: whether to watch trainable variables when they are read.

    >>> from distopt.core import Variable
    >>> v = Variable(3.0)
    >>> with GradientTape() as tape:
    ...     y = v * v
    >>> float(tape.gradient(y, v))
    6.0
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._recording = Recording(persistent, watch_accessed_variables)
        self._open = False
        self._used = False

    # -- opening and closing
    def __enter__(self) -> GradientTape:
        self._push()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open:
            self._pop()

    def _push(self) -> None:
        if self._open:
            raise ValueError("this GradientTape is already recording: it cannot be entered again")
        if self._used:
            self._recording = Recording(self._persistent, self._watch_accessed)
            self._used = False
        above = open_recordings()
        if self._recording.trace < 0:
            self._recording.start()
        elif above and above[-1].trace > self._recording.trace:
            raise ValueError(
                "this GradientTape recorded before the tape around it began, so it cannot continue "
                "inside: open it outside, or call reset() first"
            )
        forget_boxes()
        dispatch.active_recorders().append(self._recording)
        self._open = True

    def _pop(self) -> None:
        recorders = dispatch.active_recorders()
        if self._recording not in recorders:
            raise RuntimeError("a GradientTape must be exited in the thread that entered it")
        recorders.remove(self._recording)
        self._recording.forget()
        forget_boxes()
        self._open = False

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Pauses this tape for the duration of a ``with`` block.

        Raises:
            ValueError: the tape is not recording.
        """
        if not self._open:
            raise ValueError("stop_recording() on a GradientTape that is not recording")
        recorders = dispatch.active_recorders()
        place = recorders.index(self._recording)
        self._pop()
        try:
            yield
        finally:
            recorders.insert(place, self._recording)
            forget_boxes()
            self._open = True

    def reset(self) -> None:
        """Forgets everything recorded and watched. Recording continues if the tape is open."""
        was_open = self._open
        if was_open:
            self._pop()
        self._recording = Recording(self._persistent, self._watch_accessed)
        self._used = False
        if was_open:
            self._push()

    # -- watching
    def watch(self, tensor: Any) -> None:
        """Watches tensors or variables, also in nested structures. Tensors are identified by identity.

        Raises:
            TypeError: an array or number, which has no identity.
        """
        for value in nest.flatten(tensor):
            if not isinstance(value, TensorLike):
                raise TypeError(
                    f"watch() takes tensors and variables; got {type(value).__name__}: "
                    "make it a tensor first, x = distopt.constant(x)"
                )
            self._recording.watch(value)

    def watched_variables(self) -> tuple[Variable, ...]:
        """Returns the variables watched so far, in the order of their first use."""
        watched = (root.watched for root in self._recording.roots.values())
        return tuple(value for value in watched if isinstance(value, Variable))

    # -- gradients
    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
    ) -> Any:
        """Computes the gradient of the sum of ``target`` with respect to each source.

        Args:
            target: a tensor computed inside the tape, or a nested structure of them, which is summed.
            sources: variables, watched tensors or values computed inside the tape, also nested.
            output_gradients: weights of the target's elements, with the structure and shapes of ``target``;
                ones by default.
            unconnected_gradients: ``"none"`` or ``"zero"``: whether the gradient is None or zeros for sources
                that the target does not depend on.

        Returns:
            A structure like ``sources``. Each element is a tensor with the source's shape and dtype,
            IndexedSlices (for variables that are read only with ``gather``), or None. An open outer tape
            traces them.

        Raises:
            RuntimeError: a second call on a tape that is not persistent, or a variable was assigned
                between its use and this call.
            TypeError: a target or source is a plain array or number.
            ValueError: output_gradients do not fit, or ``unconnected_gradients`` is unknown.
            NotImplementedError: a function has no derivative.
        """
        fill = _unconnected(unconnected_gradients)
        targets = _tensors(target, "target")
        weights = _weights(target, targets, output_gradients)
        leaves = _tensors(sources, "source")
        own = self._begin()
        seeds = []
        for value, weight in zip(targets, weights, strict=True):
            node = self._node(value)
            if node is not None:
                seeds.append((node, _ones(value) if weight is None else weight))
        nodes = [self._node(source) for source in leaves]
        wanted = {node for node in nodes if node is not None}
        of_mean = len(targets) == 1 and output_gradients is None and is_mean(targets[0])
        finals = FinalGradients(dict(zip(nodes, leaves, strict=True)), told=not own)
        with warnings_at_caller("the gradient"):
            backward(seeds, wanted, _check_unchanged, not self._persistent, finals.take)
        results = []
        for node, source in zip(nodes, leaves, strict=True):
            result = None if node is None else finals.gradients.get(node)
            if result is None and fill is UnconnectedGradients.ZERO:
                result = Tensor.from_numpy(np.zeros(source.shape, source.dtype))
            elif own and isinstance(result, TensorLike):
                result = self._own_gradient(result)
            elif of_mean:
                _mark(result)
            results.append(result)
        return results if leaves is sources else nest.pack(sources, results)

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """Computes the derivatives of every element of ``target``, with one backward pass for each.

        Args:
            target: a tensor computed inside the tape.
            sources: as in :meth:`gradient`.
            unconnected_gradients: as in :meth:`gradient`.
            parallel_iterations: accepted and ignored.
            experimental_use_pfor: accepted and ignored.

        Returns:
            A structure like ``sources`` of tensors of shape ``target.shape + source.shape``.

        Raises:
            RuntimeError: as in :meth:`gradient`.
        """
        fill = _unconnected(unconnected_gradients)
        (value,) = _tensors([target], "target")
        leaves = _tensors(sources, "source")
        self._begin()
        end = self._node(value)
        nodes = [self._node(source) for source in leaves]
        wanted = {node for node in nodes if node is not None}
        rows: list[list[Any]] = [[] for _ in leaves]
        for i in range(value.size):
            seed = np.zeros(value.size, value.dtype)
            seed[i] = 1
            seeds = [] if end is None else [(end, seed.reshape(value.shape))]
            found: dict[TapeNode, Any] = {}
            last = not self._persistent and i == value.size - 1
            backward(seeds, wanted, _check_unchanged, last, found.__setitem__)
            for row, node, source in zip(rows, nodes, leaves, strict=True):
                if node in found:
                    row.append(_densified(finished(found[node], source)))
        results: list[Any] = []
        for row, source in zip(rows, leaves, strict=True):
            shape = (*value.shape, *source.shape)
            if row:
                results.append(np.reshape(np.stack(row), shape))
            else:
                zero = fill is UnconnectedGradients.ZERO
                results.append(Tensor.from_numpy(np.zeros(shape, source.dtype)) if zero else None)
        return nest.pack(sources, results)

    def _begin(self) -> bool:
        """Whether the tape goes on recording while it gives its gradients."""
        if self._used:
            raise RuntimeError(_USED)
        if not self._persistent:
            if self._open:
                self._pop()
            self._used = True
        return self._open

    def _node(self, value: Any) -> TapeNode | None:
        root = self._recording.roots.get(id(value))
        if root is not None:
            return root.node
        box = box_of(value, self._recording.trace)
        return None if box is None else box._node

    def _own_gradient(self, result: Any) -> Any:
        # Vector-Jacobian products run on values without this tape's boxes, so a second derivative by
        # this same tape would come out as None; better an error.
        node = unreachable_node(result.dtype, _OWN_GRADIENT)
        value = as_array(result) if type(result) is Tensor else result
        return TensorBox(value, self._recording.trace, node)


def _check_unchanged(node: TapeNode) -> None:
    """Raises RuntimeError if the variable at a root has changed since it was read."""
    root = node.root
    if root is not None and root.changed():
        raise RuntimeError(
            f"variable {root.watched.name!r} was assigned between its use in the tape and "
            "gradient(), and its old value is gone: call gradient() before assigning, or use "
            "GradientTape(persistent=True), which keeps copies"
        )


def _unconnected(value: Any) -> UnconnectedGradients:
    if type(value) is UnconnectedGradients:
        return value
    try:
        return UnconnectedGradients(value)
    except ValueError:
        raise ValueError(f"unconnected_gradients must be 'none' or 'zero'; got {value!r}") from None


def _tensors(structure: Any, what: str) -> list[TensorLike]:
    if type(structure) is list and set(map(type, structure)) == _VARIABLE:  # the usual sources, found fast
        return structure
    leaves = [structure] if isinstance(structure, TensorLike) else nest.flatten(structure)
    for value in leaves:
        if not isinstance(value, TensorLike):
            raise TypeError(
                f"gradient() got a {what} of type {type(value).__name__}, which no tape can follow: pass a "
                "Variable, a tensor (distopt.constant) or what NumPy functions computed from them"
            )
    return leaves


def _weights(structure: Any, targets: list[TensorLike], output_gradients: Any) -> list[Any]:
    if output_gradients is None:
        return [None] * len(targets)
    nested = isinstance(structure, (list, tuple, dict))
    given = nest.flatten(output_gradients) if nested else [output_gradients]
    if len(given) != len(targets):
        raise ValueError(f"{len(given)} output_gradients were given for {len(targets)} targets")
    weights = []
    for value, target in zip(given, targets, strict=True):
        if value is not None:
            value = live_value(value) if isinstance(value, TensorLike) else np.asarray(value, target.dtype)  # noqa: PLW2901
            if value.shape != target.shape:
                raise ValueError(
                    f"output_gradients must have the target's shape {target.shape}; got {tuple(value.shape)}"
                )
        weights.append(value)
    return weights


def _ones(target: TensorLike) -> Array:
    shape, dtype = target.shape, target.dtype
    return np.ones(shape, dtype) if shape else np.array(1, dtype)  # the same for a scalar, faster


def _mark(gradient: Any) -> None:
    """Notes on a gradient that it is that of a mean."""
    tensor = gradient.values if isinstance(gradient, IndexedSlices) else gradient
    if type(tensor) is Tensor:
        tensor.of_mean = True


def _densified(result: Any) -> Any:
    return result if isinstance(result, TensorLike) else convert_to_tensor(result.to_dense())
