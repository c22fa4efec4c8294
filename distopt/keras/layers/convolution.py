"""Conv2D, and how images are padded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.autodiff.fused import FUSED_ACTIVATIONS, Window, columns, dense, pad_images
from distopt.core import Variable
from distopt.core.checks import shown
from distopt.keras import activations
from distopt.keras.layers.activation import activate, activation_name
from distopt.keras.layers.dense import positive
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.options import WeightOptions
from distopt.keras.layers.spec import InputSpec

__all__ = ["Conv2D", "check_images", "padding_of", "same_padding", "window_shape", "windows_of"]


class Conv2D(Layer):
    """Convolution of images ``[batch, height, width, channels]`` to ``[batch, rows, cols, filters]``.

    Args:
        filters: the number of output channels.
        kernel_size: height and width of the kernel, or one number for both.
        strides: the strides, a pair or one number.
        padding: "valid" (no padding) or "same" (zeros, output as large as the input at stride 1).
        activation: a name or a function; none by default.
        use_bias: whether to add a bias.
        kernel_initializer: the initializer of the kernel ``[height, width, channels, filters]``.
        bias_initializer: the initializer of the bias ``[filters]``.
        kernel_regularizer: a penalty on the kernel.
        bias_regularizer: a penalty on the bias.
        kernel_constraint: applied to the kernel after each update.
        bias_constraint: applied to the bias after each update.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: a size is not positive, or a name or padding is unknown.
    """

    _arithmetic = True
    kernel: Variable
    bias: Variable | None = None

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
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
        self.filters = positive(filters, "filters", self)
        self.window = windows_of(kernel_size, strides, self)
        self.padding = padding_of(padding, self)
        self.activation = activation_name(activation)
        self.use_bias = use_bias
        self._kernel_options = WeightOptions.of(kernel_initializer, kernel_regularizer, kernel_constraint)
        self._bias_options = WeightOptions.of(bias_initializer, bias_regularizer, bias_constraint)
        self.input_spec = InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        """See Layer."""
        check_images(self, input_shape)
        channels = input_shape[-1]
        shape = (*self.window.size, channels, self.filters)
        self.kernel = self._kernel_options.add_to(self, "kernel", shape)
        if self.use_bias:
            self.bias = self._bias_options.add_to(self, "bias", (self.filters,))
        self.input_spec = InputSpec(ndim=4, axes={-1: channels})

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        if self.padding == "same":
            inputs = pad_images(inputs, *same_padding(inputs.shape, self.window))
        rows = columns(inputs, self.window)
        kernel = np.reshape(self.kernel, (rows.shape[-1], self.filters))
        if self.activation in FUSED_ACTIVATIONS and self.activation != "sigmoid":  # its logits are wanted
            return dense(rows, kernel, self.bias, self.activation)
        return activate(self.activation, dense(rows, kernel, self.bias))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (*window_shape(self, input_shape, self.window, self.padding), self.filters)

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.window.size),
            "strides": list(self.window.strides),
            "padding": self.padding,
            "activation": activations.serialize(activations.get(self.activation)),
            "use_bias": self.use_bias,
            **self._kernel_options.config("kernel"),
            **self._bias_options.config("bias"),
        }


def windows_of(size: Any, strides: Any, layer: Layer) -> Window:
    """A window from numbers or pairs.

    Raises:
        ValueError: something else, or not positive.
    """
    pairs = []
    for argument, value in (("window or kernel size", size), ("strides", strides)):
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise ValueError(
                f"{argument} of layer {layer.name!r} must be a number or a pair; got {shown(value)}"
            )
        pairs.append((positive(pair[0], argument, layer), positive(pair[1], argument, layer)))
    return Window(pairs[0], pairs[1])


def padding_of(padding: str, layer: Layer) -> str:
    """``padding`` in lower case.

    Raises:
        ValueError: neither "valid" nor "same".
    """
    if str(padding).lower() not in ("valid", "same"):
        raise ValueError(f"padding of layer {layer.name!r} must be 'valid' or 'same'; got {shown(padding)}")
    return padding.lower()


def check_images(layer: Layer, shape: Any) -> None:
    """Raises ValueError if these are no images with a known number of channels."""
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}) takes images [batch, height, width, channels]; "
            f"got shape {tuple(shape)}. Use Reshape to add an axis for channels."
        )


def same_padding(shape: tuple[int, ...], window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to add (above, below), (left, right), as TensorFlow does: the odd one goes below and right."""
    pairs = []
    for length, size, stride in zip(shape[1:3], window.size, window.strides, strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs[0], pairs[1]


def window_shape(layer: Layer, shape: Any, window: Window, padding: str) -> tuple[int | None, ...]:
    """``(batch, rows, cols)`` of the windows in images of that shape.

    Raises:
        ValueError: no images, or not even one window fits.
    """
    check_images(layer, shape)
    lengths: list[int | None] = []
    for length, size, stride in zip(shape[1:3], window.size, window.strides, strict=True):
        if length is None:
            lengths.append(None)
        elif padding == "same":
            lengths.append(math.ceil(length / stride))
        elif length < size:
            raise ValueError(
                f"layer {layer.name!r} ({type(layer).__name__}): a window of {window.size} does not fit into "
                f"images of {tuple(shape[1:3])} pixels"
            )
        else:
            lengths.append((length - size) // stride + 1)
    return (shape[0], *lengths)
