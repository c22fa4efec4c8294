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
    """A model of layers that are called in order.

    The weights are created once the input shape is known: from ``input_shape`` of the first layer, or in the
    first call.

    Args:
        layers: the layers, in order.
        name: a name.

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
            TypeError: the object is not a layer.
            ValueError: the layer does not match the output of the last one, or its name is already used.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential takes layers; got {shown(layer)}")
        if layer in self._stack or layer is self._input:
            raise ValueError(f"layer {layer.name!r} is already in this Sequential")
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
        """Removes the last layer.

        Raises:
            TypeError: there are no layers.
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
        """Builds all layers for inputs of a shape, which includes the batch axis."""
        if not self._stack:
            raise ValueError(f"model {self.name!r} has no layers: add() some first")
        self._shapes = (input_shape,)
        for layer in self._stack:
            self._extend(layer)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the output of the last layer."""
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
        """Returns the configs of the layers, without weights and without the arguments of ``compile``."""
        config: dict[str, Any] = {
            "name": self.name,
            "layers": [serialize(layer) for layer in (self._input, *self._stack) if layer is not None],
        }
        if self._shapes and self._input is None and self._stack[0]._example_shape is None:
            config["build_input_shape"] = list(self._shapes[0])
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """Returns a model with new weights from a result of :meth:`get_config`.

        Args:
            config: the config. It is not changed.
            custom_objects: custom layers, activations and other objects, by name.

        Raises:
            TypeError: a layer does not accept the arguments.
            ValueError: the config is malformed, or a class is unknown.
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
