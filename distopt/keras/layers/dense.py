"""Dense: every output depends on every input."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.fused import FUSED_ACTIVATIONS, dense
from distopt.core import Variable
from distopt.core.checks import shown
from distopt.keras import activations
from distopt.keras.layers.activation import activate, activation_name
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.options import WeightOptions
from distopt.keras.layers.spec import InputSpec

__all__ = ["Dense"]


class Dense(Layer):
    """``activation(inputs @ kernel + bias)``.

    Input ``[batch, ..., n]``, output ``[batch, ..., units]``.

    Args:
        units: the number of outputs.
        activation: a name or a function; none by default.
        use_bias: whether to add a bias.
        kernel_initializer: the initializer of the kernel ``[n, units]``.
        bias_initializer: the initializer of the bias ``[units]``.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        kernel_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: ``units`` is not a positive integer, or a name is unknown.
    """

    _arithmetic = True
    kernel: Variable
    bias: Variable | None = None

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = positive(units, "units", self)
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self._kernel_options = WeightOptions.of(kernel_initializer, kernel_regularizer, kernel_constraint)
        self._bias_options = WeightOptions.of(bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        """See Layer."""
        inputs = input_shape[-1] if len(input_shape) > 1 else None
        if inputs is None:
            raise ValueError(
                f"layer {self.name!r} (Dense) needs inputs of at least 2 axes with a known last one; "
                f"got shape {input_shape}"
            )
        self.kernel = self._kernel_options.add_to(self, "kernel", (inputs, self.units))
        if self.use_bias:
            self.bias = self._bias_options.add_to(self, "bias", (self.units,))
        self.input_spec = InputSpec(min_ndim=2, axes={-1: inputs})

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        if self.activation in FUSED_ACTIVATIONS and self.activation != "sigmoid":  # its logits are wanted
            return dense(inputs, self.kernel, self.bias, self.activation)
        return activate(self.activation, dense(inputs, self.kernel, self.bias))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(activations.get(self.activation)),
            "use_bias": self.use_bias,
            **self._kernel_options.config("kernel"),
            **self._bias_options.config("bias"),
        }


def positive(value: Any, argument: str, layer: Layer) -> int:
    """``value`` as an int.

    Raises:
        ValueError: it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{argument} of layer {layer.name!r} must be a positive integer; got {shown(value)}")
    return int(value)
