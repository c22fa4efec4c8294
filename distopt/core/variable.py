"""Variable: the mutable tensor that optimizers train."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.core.checks import as_name, as_shape
from distopt.core.dtypes import kind_of
from distopt.core.numbers import as_numbers
from distopt.core.placement import placement
from distopt.core.storage import VariableStorage
from distopt.core.tensor import Tensor, TensorLike, array_of
from distopt.typing import Array, DTypeLike

__all__ = [
    "Variable",
    "VariableAggregation",
    "VariableSynchronization",
]


class VariableSynchronization(enum.Enum):
    """When to combine the values that replicas have of a variable."""

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(enum.Enum):
    """How to combine the values that replicas assign."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3


class Variable(TensorLike):
    """A named array with a fixed shape and dtype whose value can change.

    Args:
        initial_value: number, nested lists, array, tensor, or a callable without arguments that
            returns one. Python floats become float32 and Python ints int32; arrays keep their dtype.
        trainable: whether tapes watch it automatically. None means True, except with ON_READ.
        name: the name, by default ``"Variable"``. As in TensorFlow, ``.name`` ends in ``":0"``.
        dtype: the dtype of the elements, to override this. ``"bfloat16"`` needs the package ml_dtypes.
        constraint: a function that is called with the variable after each dense update. Its result is
            assigned.
        synchronization: ON_READ keeps one value for each replica.
        aggregation: how to combine values that replicas assign. NONE assigns locally.
        shape: the shape that ``initial_value`` must have.

    Attributes:
        storage: the memory of the value, for code that moves it or updates it in place.

    Raises:
        ValueError: the shape does not fit, or ``trainable=True`` with ON_READ.

    >>> v = Variable([1.0, 2.0], name="v")
    >>> v.assign_add([1.0, 1.0]).numpy().tolist()
    [2.0, 3.0]
    """

    __slots__ = (
        "__weakref__",
        "_aggregation",
        "_constraint",
        "_name",
        "_synchronization",
        "_trainable",
        "gradient_listener",
        "storage",
    )

    def __init__(
        self,
        initial_value: Any,
        trainable: bool | None = None,
        name: str | None = None,
        dtype: DTypeLike = None,
        constraint: Callable[[Any], Any] | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
        shape: Any = None,
    ) -> None:
        value = initial_value() if callable(initial_value) else initial_value
        array = array_of(value, dtype, f"the initial_value of variable {as_name(name)!r}")
        if kind_of(array.dtype) not in "biufc":
            raise TypeError(f"a Variable holds numbers; got dtype {array.dtype} (name={name!r})")
        if shape is not None and as_shape(shape) != array.shape:
            raise ValueError(f"initial_value has shape {array.shape}, shape={tuple(shape)} was asked for")
        on_read = synchronization is VariableSynchronization.ON_READ
        if trainable and on_read:
            raise ValueError(
                "synchronization=ON_READ keeps one value a replica, which cannot be trained: "
                "set trainable=False"
            )
        self.storage = VariableStorage(array, per_replica=on_read)
        self._name = name or "Variable"
        self._trainable = (not on_read) if trainable is None else bool(trainable)
        self._constraint = constraint
        self._synchronization = synchronization
        self._aggregation = aggregation
        #: Returns a function that takes the variable and its gradient as soon as a tape has computed it, or
        #: None.
        self.gradient_listener: Callable[[], Callable[[Variable, Any], None] | None] | None = None

    # -- reading
    def _array(self) -> Array:
        storage = self.storage
        return storage.array if storage.per_replica is None else self._own_value(storage.per_replica)

    def _own_value(self, own: dict[int, Array]) -> Array:
        """The value of an ON_READ variable on this replica.

        In cross-replica context, the aggregated value.
        """
        storage = self.storage
        replica = placement().replica(storage.owner)
        if replica is None:
            here = range(max(own, default=0) + 1)
            return placement().aggregated(self, [own.get(i, storage.array) for i in here])
        value = own.get(replica)
        if value is None:
            value = own[replica] = storage.array.copy()
        return value

    def scalar(self) -> Any:
        """Returns the value of a variable of shape () as a NumPy scalar."""
        storage = self.storage
        return storage.array[()] if storage.per_replica is None else self._array()[()]

    def numpy(self) -> Any:
        """Returns a copy of the value as an array, or as a NumPy scalar for shape ()."""
        value = self._array()
        return value[()] if value.ndim == 0 else value.copy()

    def read_value(self) -> Tensor:
        """Returns the current value as a tensor, which later assignments do not change."""
        return self + self.dtype.type(0) if self.dtype.kind == "b" else +self  # type: ignore[no-any-return]

    value = read_value

    @property
    def name(self) -> str:
        """The name, which ends in ``":0"``, as in TensorFlow."""
        return self._name + ":0"

    @property
    def device(self) -> str:
        """The device, named as in TensorFlow. There is only one kind."""
        return "CPU:0"

    @property
    def trainable(self) -> bool:
        """Whether tapes watch it automatically."""
        return self._trainable

    @property
    def constraint(self) -> Callable[[Any], Any] | None:
        """The function applied after each dense update, or None."""
        return self._constraint

    @property
    def synchronization(self) -> VariableSynchronization:
        """When the values of replicas are combined."""
        return self._synchronization

    @property
    def aggregation(self) -> VariableAggregation:
        """How values that replicas assign are combined."""
        return self._aggregation

    def ref(self) -> Variable:
        """Returns a hashable reference: the variable itself, since variables hash by identity."""
        return self

    # -- writing
    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Sets the value. The shape must be that of the variable; the dtype is cast.

        In a replica, an ``aggregation`` other than NONE first combines the values of all replicas. The call
        is then collective.

        Raises:
            TypeError: the value is not numeric.
            ValueError: the shape differs, or a replica assigns to a variable with aggregation NONE that all
                replicas of a VirtualStrategy share.
        """
        self._write(self._checked(value, "assign"), lambda _, new: new)
        return self

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Adds ``delta`` (of the variable's shape) to the value; see :meth:`assign`."""
        self._write(self._checked(delta, "assign_add"), np.add)
        return self

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Variable:
        """Subtracts ``delta`` (of the variable's shape) from the value; see :meth:`assign`."""
        self._write(self._checked(delta, "assign_sub"), np.subtract)
        return self

    def _checked(self, value: Any, call: str) -> Array:
        array = as_numbers(value, f"{call}() on variable {self.name!r}: the value")
        kept = self.storage.array
        if array.shape != kept.shape:
            raise ValueError(
                f"{call}() on variable {self.name!r} of shape {self.shape}: got a value of shape "
                f"{array.shape}"
            )
        return array if array.dtype == kept.dtype else array.astype(kept.dtype)

    def _write(self, value: Array, update: Callable[[Array, Array], Array]) -> None:
        storage = self.storage
        if storage.per_replica is not None:
            self._write_own(storage.per_replica, value, update)
            return
        local = not storage.collective and self._aggregation is VariableAggregation.NONE
        if local or storage.write_through or placement().replica(storage.owner) is None:
            storage.store(update(storage.array, value))
        else:
            combined = placement().combine(self, value)
            if not storage.collective or placement().replica() == 0:
                storage.store(update(storage.array, combined))

    def _write_own(
        self, own: dict[int, Array], value: Array, update: Callable[[Array, Array], Array]
    ) -> None:
        storage = self.storage
        replica = placement().replica(storage.owner)
        if replica is None:  # in cross-replica context, all replicas get a value
            value = placement().divided(self, value)
            storage.array[...] = update(storage.array, value)
        for number in list(own) if replica is None else [replica]:
            own[number] = np.array(update(own.get(number, storage.array), value))
        storage.changed()

    def count_up(self) -> None:
        """Adds 1 to an integer variable of shape (), for all replicas that share it."""
        value = self._array()
        value[...] = value.item() + 1  # in-place addition takes a microsecond longer
        self.storage.version += 1

    # -- pickling and copying
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the values and options.

        The copy belongs to the strategy of the place where it is created.
        """
        options = (self._trainable, self._name, self._constraint, self._synchronization, self._aggregation)
        storage = self.storage
        own = None if storage.per_replica is None else (storage.array, storage.per_replica)
        return _copied, (np.array(self._array()), own, options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        make, arguments = self.__reduce__()
        copy: Variable = make(*arguments)
        memo[id(self)] = copy
        return copy

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"variable {self.name!r} cannot be assigned by item: build the new value and call assign()"
        )

    def __repr__(self) -> str:
        value = self._array()
        body = str(value[()]) if value.ndim == 0 else np.array2string(value, separator=", ")
        return f"<tf.Variable {self.name!r} shape={self.shape} dtype={self.dtype.name}, numpy={body}>"


def _copied(value: Array, own: tuple[Array, dict[int, Array]] | None, options: tuple[Any, ...]) -> Variable:
    """Creates a copy of a variable.

    Args:
        value: its value.
        own: for an ON_READ variable, the initial value and the values of the replicas of the process. They
            are used only if replicas share the copy.
        options: arguments of Variable.
    """
    trainable, name, constraint, synchronization, aggregation = options
    copy = Variable(
        value,
        trainable=trainable,
        name=name,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )
    storage = copy.storage
    if own is not None and storage.owner is not None:
        first, kept = own
        storage.array = np.array(first)
        storage.per_replica = {replica: np.array(one) for replica, one in kept.items()}
    return copy
