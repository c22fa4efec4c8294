"""LayerNormalization and BatchNormalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff.fused import batch_norm, batch_statistics, layer_norm
from distopt.core import Variable, VariableAggregation, VariableSynchronization
from distopt.core.numbers import as_scalar
from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.keras import initializers
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.options import WeightOptions
from distopt.keras.layers.spec import InputSpec
from distopt.typing import Array

__all__ = ["BatchNormalization", "LayerNormalization"]


class _Normalization(Layer):
    """What both have: gamma and beta over the last axis."""

    _arithmetic = True
    gamma: Any
    beta: Any

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = as_scalar(epsilon, "epsilon")
        self.center, self.scale = center, scale
        self._gamma_options = WeightOptions.of(gamma_initializer, gamma_regularizer, gamma_constraint)
        self._beta_options = WeightOptions.of(beta_initializer, beta_regularizer, beta_constraint)

    def build(self, input_shape: Any) -> None:
        """See Layer."""
        last = len(input_shape) - 1
        if self.axis not in (-1, last) or input_shape[-1] is None:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) works over the last axis, of known length; "
                f"got axis={self.axis} and input shape {input_shape}: transpose the input"
            )
        shape = (input_shape[-1],)
        self.gamma, self.beta = np.ones(shape, self._dtype), np.zeros(shape, self._dtype)
        if self.scale:
            self.gamma = self._gamma_options.add_to(self, "gamma", shape)
        if self.center:
            self.beta = self._beta_options.add_to(self, "beta", shape)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={-1: input_shape[-1]})

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **self._beta_options.config("beta"),
            **self._gamma_options.config("gamma"),
        }


class LayerNormalization(_Normalization):
    """Normalizes the last axis of each example to mean 0 and variance 1 (Ba et al. 2016).

    Then it scales by gamma and adds beta.

    Args:
        axis: must be the last axis.
        epsilon: added to the variance.
        center: whether to add beta.
        scale: whether to multiply by gamma.
        beta_initializer: the initializer of beta. See :class:`Dense` for the other arguments.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: ``axis`` is not the last axis.
    """

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        return layer_norm(inputs, self.gamma, self.beta, self.epsilon)


class BatchNormalization(_Normalization):
    """Normalizes each channel to mean 0 and variance 1 (Ioffe and Szegedy 2015).

    Then it scales by gamma and adds beta.

    In training, it uses the statistics of the batch. Otherwise, and if the layer is frozen, it uses their
    moving averages. Without ``synchronized``, the batch is this replica's share, so the result depends on the
    number of replicas. The moving averages are combined after each epoch.

    Args:
        axis: must be the last axis.
        momentum: the momentum of the moving averages.
        epsilon: added to the variance.
        synchronized: whether to compute the statistics over all replicas.
        moving_mean_initializer: the initializer of the moving mean.
        moving_variance_initializer: the initializer of the moving variance.
        **kwargs: arguments of :class:`LayerNormalization`: center, scale, beta_initializer and so on.

    Raises:
        ValueError: ``axis`` is not the last axis.
    """

    moving_mean: Variable
    moving_variance: Variable

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        synchronized: bool = False,
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(axis=axis, epsilon=epsilon, **kwargs)
        self.momentum = as_scalar(momentum, "momentum")
        self.synchronized = synchronized
        self._mean_options = WeightOptions.of(moving_mean_initializer)
        self._variance_options = WeightOptions.of(moving_variance_initializer)

    def build(self, input_shape: Any) -> None:
        """See Layer."""
        super().build(input_shape)
        shape = (input_shape[-1],)
        # Each replica moves its own, also where replicas of one process share the layer.
        own = {
            "trainable": False,
            "dtype": np.promote_types(self._dtype, np.float32),  # variances overflow float16
            "synchronization": VariableSynchronization.ON_READ,
            "aggregation": VariableAggregation.MEAN,
        }
        self.moving_mean = self._mean_options.add_to(self, "moving_mean", shape, **own)
        self.moving_variance = self._variance_options.add_to(self, "moving_variance", shape, **own)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """See Layer."""
        if not training or not self.trainable:
            inverse = 1 / np.sqrt(as_array(self.moving_variance) + self.epsilon)
            normal = (inputs - as_array(self.moving_mean)) * (self.gamma * inverse) + self.beta
            return normal if normal.dtype == self._dtype else normal.astype(self._dtype)
        found = batch_statistics(as_array(inputs), self._total)
        if found.count:
            self._move(self.moving_mean, found.mean)
            self._move(self.moving_variance, found.variance)
        return batch_norm(inputs, self.gamma, self.beta, found, self.epsilon, self._total)

    def _total(self, value: Array) -> Array:
        context = get_replica_context() if self.synchronized else None
        return value if context is None else as_array(context.all_reduce("sum", value))

    def _move(self, average: Variable, value: Array) -> None:
        average.assign(as_array(average) * self.momentum + value * (1 - self.momentum))

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "synchronized": self.synchronized,
            "moving_mean_initializer": initializers.serialize(self._mean_options.initializer),
            "moving_variance_initializer": initializers.serialize(self._variance_options.initializer),
        }

    def synchronize(self) -> None:
        """See Layer."""
        context = get_replica_context()
        if context is None or self.synchronized or not self.built:
            return
        for average in (self.moving_mean, self.moving_variance):
            average.assign(context.all_reduce("mean", as_array(average)))
