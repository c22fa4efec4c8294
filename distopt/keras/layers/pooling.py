"""Pooling: the largest or the mean pixel of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.fused import average_pool, max_pool, pad_images
from distopt.keras.layers.convolution import padding_of, same_padding, window_shape, windows_of
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.spec import InputSpec

__all__ = ["AveragePooling2D", "GlobalAveragePooling2D", "MaxPooling2D"]


class _Pooling2D(Layer):
    """What both poolings have: a window over images ``[batch, height, width, channels]``."""

    _arithmetic = True

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.window = windows_of(pool_size, pool_size if strides is None else strides, self)
        self.padding = padding_of(padding, self)
        self.input_spec = InputSpec(ndim=4)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (*window_shape(self, input_shape, self.window, self.padding), input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "pool_size": list(self.window.size),
            "strides": list(self.window.strides),
            "padding": self.padding,
        }


class MaxPooling2D(_Pooling2D):
    """The maximum of each window and channel.

    Args:
        pool_size: height and width of the window, or one number for both.
        strides: the strides; ``pool_size`` by default.
        padding: "valid" (no padding) or "same" (padding never is the maximum).
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: a size is not positive, or the padding is unknown.
    """

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        window_shape(self, inputs.shape, self.window, self.padding)
        if self.padding == "same":
            inputs = pad_images(inputs, *same_padding(inputs.shape, self.window), -np.inf)
        return max_pool(inputs, self.window)


class AveragePooling2D(_Pooling2D):
    """The mean of each window and channel. Padding does not count.

    Args:
        pool_size: height and width of the window, or one number for both.
        strides: the strides; ``pool_size`` by default.
        padding: "valid" or "same".
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: a size is not positive, or the padding is unknown.
    """

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        window_shape(self, inputs.shape, self.window, self.padding)
        if self.padding == "valid":
            return average_pool(inputs, self.window)
        pads = same_padding(inputs.shape, self.window)
        inside = pad_images(np.ones((1, *inputs.shape[1:3], 1), inputs.dtype), *pads)
        share = np.asarray(average_pool(inside, self.window))
        return average_pool(pad_images(inputs, *pads), self.window) / share


class GlobalAveragePooling2D(Layer):
    """The mean of each channel: ``[batch, height, width, channels]`` to ``[batch, channels]``."""

    _arithmetic = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_spec = InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        return np.mean(inputs, axis=(1, 2))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (input_shape[0], input_shape[-1])
