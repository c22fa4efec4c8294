"""Layer: a function with weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core import Variable, VariableAggregation, VariableSynchronization
from distopt.core.checks import as_config, as_dtype, as_name, as_shape
from distopt.core.keywords import argument_names, refuse_unknown
from distopt.core.nest import map_structure
from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.keras import constraints, initializers, regularizers
from distopt.keras.global_state import thread_state
from distopt.keras.layers.casting import cast_input
from distopt.keras.layers.module import Module
from distopt.keras.layers.naming import unique_name
from distopt.keras.layers.spec import InputSpec, map_shapes, shapes_of
from distopt.keras.per_replica import PerReplicaState
from distopt.typing import DTypeLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Layer"]


class Layer(Module):
    """Base class of layers: functions with weights, which are created once the input shape is known.

    Override :meth:`call`, and :meth:`build` if the layer has weights. Layers and variables in attributes are
    found automatically, also in lists, tuples and dicts.

    Args:
        trainable: whether to train the weights.
        name: the name of the layer. By default the class name in snake case, with a number.
        dtype: the dtype of the weights, to which floating inputs are cast. By default float32.
        input_shape: the shape of an example, for the first layer of a Sequential.
        input_dim: short for ``input_shape=(input_dim,)``.
        batch_input_shape: the same with the batch axis first, as in configs.

    Raises:
        TypeError: a keyword argument is unknown.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight("factor", shape=input_shape[-1:], initializer="ones")
    ...
    ...     def call(self, inputs):
    ...         return inputs * self.factor
    """

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        dtype: DTypeLike = None,
        *,
        input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, argument_names(type(self)))
        if input_shape is None and input_dim is not None:
            input_shape = (input_dim,)
        if input_shape is None and batch_input_shape is not None:
            input_shape = as_shape(batch_input_shape, "batch_input_shape", unknown=True)[1:]
        self.name = as_name(name) or unique_name(type(self).__name__)
        self.built = False
        self._owner = placement().owner()
        self.input_spec: InputSpec | None = None
        self._trainable = trainable
        self._dtype = as_dtype(dtype)
        self._example_shape = (
            None if input_shape is None else as_shape(input_shape, "input_shape", unknown=True)
        )
        self._own_weights: list[Variable] = []
        self._penalties: list[tuple[Callable[[Any], Any], Variable]] = []
        #: What :meth:`add_loss` added in the last call; None until it is used.
        self._added_losses: PerReplicaState[list[Any]] | None = None

    #: Whether :meth:`call` has an argument ``training``.
    _takes_training = False
    #: Whether floating inputs are cast to the layer's dtype.
    _autocast = True
    #: Whether it computes with its inputs: integers are cast then as well, what is no number is refused.
    _arithmetic = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._takes_training = "training" in inspect.signature(cls.call).parameters

    # -- what subclasses override
    def build(self, input_shape: Any) -> None:
        """Creates the weights.

        Args:
            input_shape: the shape of the input, with None for the batch axis. Nested like the input.
        """

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the output. It takes ``training`` if the layer behaves differently in training."""
        raise NotImplementedError(f"{type(self).__name__} must override call")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the output shape for an input shape. By default it runs the layer on zeros."""
        zeros = map_shapes(lambda shape: np.zeros([n or 1 for n in shape], self._dtype), input_shape)
        output = self.call(zeros, **({"training": False} if self._takes_training else {}))
        return map_structure(lambda value: (None, *value.shape[1:]), output)

    # -- calling
    def __call__(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Builds the layer if necessary, and calls :meth:`call` with the inputs in the layer's dtype.

        Args:
            inputs: an array or tensor ``[batch, ...]``, or lists, tuples and dicts of them.
            *args: handed on.
            training: whether this is a call of training, handed on if :meth:`call` takes it; None: the mode
                of the call around this one.
            **kwargs: handed on.

        Raises:
            ValueError: the input's shape does not fit.
            TypeError: the input is a layer, or has a dtype that the layer cannot compute with.
        """
        # A single array is by far the most frequent input, and nesting costs time.
        single = hasattr(inputs, "shape")
        if not single and isinstance(inputs, Layer):
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}) was called on layer {inputs.name!r}, not on "
                "values: put the layers into a Sequential, or override call of a Model"
            )
        inputs = self._cast(inputs) if single else map_structure(self._cast, inputs)
        if not self.built:
            shape = (None, *inputs.shape[1:]) if single else shapes_of(inputs)
            self.ensure_built(shape)
        if self.input_spec is not None and not self.input_spec.fits(inputs.shape):
            self._refuse(inputs.shape)
        if self._added_losses is not None:
            self._added_losses.local().clear()
        # A call within another one is of the same mode, unless it is given another one.
        outer = thread_state.training
        if training is None:
            training = outer
        thread_state.training = training
        if self._takes_training:
            kwargs["training"] = training
        try:
            return self.call(inputs, *args, **kwargs)
        finally:
            thread_state.training = outer

    def ensure_built(self, input_shape: Any) -> None:
        """Calls :meth:`build` if the layer is not built yet."""
        if not self.built:
            self.build(input_shape)
            self.built = True

    def _cast(self, value: Any) -> Any:
        if not hasattr(value, "dtype"):
            value = np.asarray(value)
        if value.dtype is self._dtype or not self._autocast:
            return value
        return cast_input(self, value, self._dtype, self._arithmetic)

    def _refuse(self, shape: tuple[int | None, ...]) -> None:
        raise ValueError(
            f"layer {self.name!r} ({type(self).__name__}) takes inputs of {self.input_spec}, where axis 0 "
            f"is the batch; got shape {shape}"
        )

    # -- weights
    def add_weight(
        self,
        name: str | None = None,
        shape: Sequence[int] = (),
        dtype: DTypeLike = None,
        initializer: Any = None,
        regularizer: Any = None,
        trainable: bool = True,
        constraint: Any = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> Variable:
        """Creates a weight of this layer.

        Args:
            name: the name, which follows that of the layer: ``dense/kernel:0``.
            shape: the shape.
            dtype: the dtype; by default that of the layer.
            initializer: a name, a config or a callable. By default "glorot_uniform", or "zeros" for shape ().
            regularizer: a name, a config or a callable. Its result is added to the loss.
            trainable: whether to train the weight.
            constraint: a name, a config or a callable. It is applied after each update.
            synchronization: ON_READ keeps one value for each replica. See Variable.
            aggregation: how to combine values that replicas assign.
        """
        shape = tuple(int(n) for n in shape)
        make = initializers.get(initializer or ("glorot_uniform" if shape else "zeros"))
        kind = np.dtype(dtype or self._dtype)
        # A layer that all replicas share may be built by one of them.
        with placement().made_for(self._owner):
            weight = Variable(
                as_array(make(shape, dtype=kind)),
                trainable=trainable,
                name=f"{self.name}/{name or 'weight'}",
                dtype=kind,
                constraint=constraints.get(constraint),
                synchronization=synchronization,
                aggregation=aggregation,
            )
        penalty = regularizers.get(regularizer)
        if penalty is not None:
            self._penalties.append((penalty, weight))
        self._own_weights.append(weight)
        self._forget()
        return weight

    def add_loss(self, loss: Any) -> None:
        """Adds one or several scalars to the loss of this call. Call it in :meth:`call`.

        A mean over the examples of this call becomes a mean over all replicas.

        Raises:
            ValueError: a value is not a scalar.
            TypeError: a value is a function.
        """
        if self._added_losses is None:
            self._added_losses = PerReplicaState(list)
        for one in loss if isinstance(loss, (list, tuple)) else [loss]:
            if callable(one):
                raise TypeError(f"add_loss() of {self.name!r} takes values: evaluate the function in call()")
            if np.ndim(one):
                raise ValueError(
                    f"add_loss() of {self.name!r} takes a scalar; got shape {np.shape(one)}: give its np.mean"
                )
            self._added_losses.local().append(one)

    @property
    def losses(self) -> list[Any]:
        """The penalties on weights and the losses of the last call, with those of sublayers."""
        found: list[Any] = [penalty(weight) for penalty, weight in self._penalties]
        if self._added_losses is not None:
            found += self._added_losses.local()
        for layer in self.sublayers():
            found += layer.losses
        return found

    def synchronize(self) -> None:
        """Combines state that replicas keep individually. Called after each epoch, on all replicas."""
        for layer in self.sublayers():
            layer.synchronize()

    # -- as a config
    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values. Subclasses add theirs.

        Raises:
            NotImplementedError: the class takes other arguments and does not override this method.
        """
        own = set(inspect.signature(type(self).__init__).parameters) - _COMMON
        if own and type(self).get_config is Layer.get_config:
            raise NotImplementedError(
                f"layer {self.name!r} ({type(self).__name__}) has arguments in __init__, {sorted(own)}, and "
                "therefore must override get_config: return {**super().get_config(), ...}"
            )
        shape = {} if self._example_shape is None else {"batch_input_shape": [None, *self._example_shape]}
        return {"name": self.name, "trainable": self._trainable, "dtype": self._dtype.name, **shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a layer with new weights from a result of :meth:`get_config`."""
        return cls(**as_config(config, f"layer {cls.__name__}"))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its weights and its output."""
        return self._dtype


#: Arguments of the constructor that every layer has.
_COMMON = {"self", "args", "kwargs", "unknown", "trainable", "name", "dtype"} | {
    *("input_shape", "input_dim", "batch_input_shape"),
}
