"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from distopt.core.checks import as_config, as_sequence, as_shape, shown
from distopt.core.custom_objects import custom_object_scope
from distopt.keras.layers import InputLayer, deserialize, serialize
from distopt.keras.layers.layer import Layer
from distopt.keras.model import Model

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sequential"]


class Sequential(Model):
    """Layers one after the other.

    Its weights are made when the shape of the input is known: from ``input_shape`` of the first layer, or
    when it is called first.

    Args:
        layers: the layers, in order.
        name: its name.

    >>> from distopt.keras.layers import Dense
    >>> model = Sequential([Dense(4, activation="relu", input_shape=(3,)), Dense(1)])
    >>> model.count_params()
    21
    """

    _autocast = False  # its layers do, each to its own dtype

    def __init__(self, layers: Iterable[Layer] | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self._input: InputLayer | None = None
        self._stack: tuple[Layer, ...] = ()
        self._shapes: tuple[Any, ...] = ()  # no list, whose changes layers could not notice
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Appends a layer.

        Raises:
            TypeError: it is no layer.
            ValueError: it does not fit behind the last one, or one of its name is there already.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential takes layers; got {shown(layer)}")
        if layer in self._stack or layer is self._input:
            raise ValueError(f"layer {layer.name!r} is in this Sequential already")
        if any(layer.name == other.name for other in self._stack):
            raise ValueError(
                f"model {self.name!r} has a layer named {layer.name!r} already: give it another name"
            )
        if not self._stack and self._input is None and layer._example_shape is not None:
            self._shapes = ((None, *layer._example_shape),)
            if isinstance(layer, InputLayer):
                self._input = layer
                return
        self._stack = (*self._stack, layer)
        if self._shapes:
            self._extend(layer)
            self.built = True

    def pop(self) -> None:
        """Takes the last layer away.

        Raises:
            TypeError: there is none.
        """
        if not self._stack:
            raise TypeError("there are no layers in this Sequential")
        self._stack = self._stack[:-1]
        if self._shapes:
            self._shapes = self._shapes[:-1]

    def _extend(self, layer: Layer) -> None:
        """Builds a layer for the last known shape, and finds out the next one."""
        layer.ensure_built(self._shapes[-1])
        if layer.input_spec is not None and not layer.input_spec.fits(self._shapes[-1]):
            layer._refuse(self._shapes[-1])
        self._shapes = (*self._shapes, layer.compute_output_shape(self._shapes[-1]))

    def build(self, input_shape: Any = None) -> None:
        """Builds all layers for inputs of that shape, the batch axis included."""
        if not self._stack:
            raise ValueError(f"model {self.name!r} has no layers: add() some first")
        self._shapes = (input_shape,)
        for layer in self._stack:
            self._extend(layer)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The layers' result one after the other."""
        if self._input is not None:
            inputs = self._input._cast(inputs)
        for layer in self._stack:
            inputs = layer(inputs, training=training)
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        for layer in self._stack:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    # -- as a config
    def get_config(self) -> dict[str, Any]:
        """Its layers' configs, without weights and without what ``compile`` was given."""
        config: dict[str, Any] = {
            "name": self.name,
            "layers": [serialize(layer) for layer in (self._input, *self._stack) if layer is not None],
        }
        if self._shapes and self._input is None and self._stack[0]._example_shape is None:
            config["build_input_shape"] = list(self._shapes[0])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """A model from what :meth:`get_config` returned, with new weights.

        Args:
            config: it is not changed.
            custom_objects: custom layers, activations, ... by name.

        Raises:
            TypeError: arguments that a layer does not take.
            ValueError: malformed, or an unknown class.
        """
        arguments = as_config(config, f"model {cls.__name__}")
        layers = as_sequence(arguments.get("layers"), f"'layers' in the config of a {cls.__name__}")
        with custom_object_scope({"Sequential": Sequential}, custom_objects or {}):  # models hold models
            model = cls([deserialize(layer) for layer in layers], name=arguments.get("name"))
        shape = arguments.get("build_input_shape")
        if shape is not None and not model.built:
            model.build(as_shape(shape, "build_input_shape", unknown=True))
        return model

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order, without the ``Input``."""
        return list(self._stack)

    def _output_shapes(self) -> dict[Layer, Any]:
        return dict(zip(self._stack, self._shapes[1:], strict=False))
