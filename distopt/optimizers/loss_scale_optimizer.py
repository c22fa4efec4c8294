"""LossScaleOptimizer: scales the loss so that small float16 gradients do not become zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.autodiff import GradientTape
from distopt.core.checks import as_config, as_count, shown
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.keywords import KnownArguments
from distopt.core.numbers import as_scalar
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import get_replica_context
from distopt.engine.step import StepEngine
from distopt.optimizers.identify import deserialize, serialize
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.pairs import Pair
from distopt.optimizers.result import StepResult
from distopt.optimizers.state import make_weights
from distopt.typing import GradsAndVars

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LossScaleOptimizer"]

#: Settings of the inner optimizer that may be read and set here as well.
_SETTINGS = ("clipnorm", "clipvalue", "global_clipnorm", "gradient_aggregator", "gradient_transformers")
_SMALLEST, _LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max


class LossScaleOptimizer(KnownArguments, Optimizer):
    """Multiplies the loss by an adaptive scale and divides the gradients by it.

    If the gradients of any replica are not finite, all replicas skip the step and halve the scale. After
    ``dynamic_growth_steps`` finite steps in a row, the scale is doubled. All replicas have the same scale,
    bit for bit.

    ``minimize`` and ``fit`` do all that is needed. A custom loop differentiates ``scale_loss(loss)``. It then
    calls ``apply_gradients`` with the result of :meth:`get_unscaled_gradients`, or :meth:`apply` with the
    gradients as they are.

    Args:
        inner_optimizer: makes the steps. Its clips and other settings apply to the unscaled gradients. The
            wrapper shares its variables and its learning rate, and sets its ``on_nonfinite`` to ``"skip"``.
        initial_scale: the initial scale, above 0. Choose a large one, because the scale falls faster than it
            rises.
        dynamic_growth_steps: the number of finite steps in a row after which the scale is doubled.
        name: its name.

    Raises:
        TypeError: ``inner_optimizer`` is not an optimizer, or another argument is not a number.
        ValueError: the inner optimizer handles such gradients in another way, or a number is out of range.

    Source: Micikevicius et al. 2017, "Mixed Precision Training", arXiv:1710.03740, with the arguments and
    numerics of Keras 3, and the methods of TF 2.4.
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
    ) -> None:
        inner = _checked(inner_optimizer)
        super().__init__(name)
        self._hypers, self._slots, self._factors = inner._hypers, inner._slots, inner._factors
        for setting in _SETTINGS:
            setattr(self, setting, getattr(inner, setting))
        self.initial_scale = float(as_scalar(initial_scale, "initial_scale"))
        if not _SMALLEST <= self.initial_scale <= _LARGEST:
            raise ValueError(f"initial_scale must be above 0 and finite in float32; got {initial_scale}")
        self.dynamic_growth_steps = as_count(dynamic_growth_steps, "dynamic_growth_steps")
        self._state: tuple[Variable, Variable] | None = None
        inner.on_nonfinite = "skip"
        self.inner_optimizer = inner

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SETTINGS and "inner_optimizer" in vars(self):
            setattr(self.inner_optimizer, name, value)
        super().__setattr__(name, value)

    # -- the scale
    @property
    def dynamic_scale(self) -> Variable:
        """The scale, a float32 variable of shape ()."""
        return self._variables()[0]

    @property
    def step_counter(self) -> Variable:
        """The number of finite steps since the scale last changed, an int64 variable of shape ()."""
        return self._variables()[1]

    @property
    def loss_scale(self) -> Any:
        """The scale as a float32 number."""
        return self.dynamic_scale.scalar()

    def _variables(self) -> tuple[Variable, Variable]:
        if self._state is None:
            _ = self.iterations  # which comes first among the weights
            with self._slots.prefixed():
                scale = self.add_weight(
                    "dynamic_scale", shape=[], trainable=False, initializer=np.float32(self.initial_scale)
                )
                counter = self.add_weight("step_counter", shape=[], dtype=np.int64, trainable=False)
            self._slots.weights += [scale, counter]
            self._state = scale, counter
        return self._state

    def scale_loss(self, loss: Any) -> Any:
        """Returns ``loss`` times the scale, to be differentiated. Call it inside the tape.

        Args:
            loss: a number, a tensor, or a callable that returns one. For a callable the result is a callable.
        """
        if callable(loss):
            function: Callable[[], Any] = loss
            return lambda: self.scale_loss(function())
        scale = self.loss_scale
        dtype = getattr(loss, "dtype", None)
        with np.errstate(over="ignore"):
            return loss * (float(scale) if dtype is None else np.dtype(dtype).type(scale))

    def get_scaled_loss(self, loss: Any) -> Any:
        """The name of :meth:`scale_loss` in TF 2.4."""
        return self.scale_loss(loss)

    def get_unscaled_gradients(self, grads: Iterable[Any]) -> list[Any]:
        """Divides the gradients of the scaled loss by the scale. Each keeps its dtype; None stays None."""
        scale = self.loss_scale
        return [_divided(gradient, scale) for gradient in grads]

    def unscaled_gradients(self, tape: GradientTape, loss: Any, variables: Sequence[Variable]) -> list[Any]:
        """Returns the gradients of ``loss``, computed from those of the scaled loss.

        Args:
            tape: the tape that recorded the computation of ``loss``.
            loss: a tensor.
            variables: what to differentiate with respect to.
        """
        with tape:
            scaled = self.scale_loss(loss)
        with np.errstate(all="ignore"):  # what is not finite leads to a smaller scale
            return self.get_unscaled_gradients(tape.gradient(scaled, list(variables)))

    # -- the step
    def apply(self, grads: Iterable[Any], trainable_variables: Sequence[Variable]) -> StepResult | None:
        """Makes one step with gradients of the scaled loss, as in Keras 3.

        Args:
            grads: a gradient or None for each variable.
            trainable_variables: the variables.

        Returns:
            See :meth:`apply_gradients`.
        """
        return self.apply_gradients(
            list(zip(self.get_unscaled_gradients(grads), trainable_variables, strict=True))
        )

    def apply_gradients(
        self,
        grads_and_vars: GradsAndVars,
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> StepResult | None:
        """Makes or skips one step and adapts the scale. The arguments are those of the base class.

        Args:
            grads_and_vars: pairs with gradients that have been divided by the scale, as in TF 2.4.
            name: accepted and ignored.
            experimental_aggregate_gradients: see the base class.

        Returns:
            The new step count; the old one if the step was skipped.
        """
        self._variables()
        before = int(self.iterations.scalar())
        result = self.inner_optimizer.apply_gradients(grads_and_vars, name, experimental_aggregate_gradients)
        context = get_replica_context()
        if result is not None and context is not None:
            # Of replicas that share the optimizer, the one that counts steps is the one that adapts.
            left_out = int(self.iterations.scalar()) == before
            StepEngine.of(context).once(self, partial(self._adapt, left_out))
        return result

    def _adapt(self, left_out: bool) -> None:
        scale, counter = self._variables()
        now, steps = float(scale.scalar()), int(counter.scalar()) + 1
        if left_out:
            now, steps = max(now / 2, float(_SMALLEST)), 0
        elif steps >= self.dynamic_growth_steps:
            now, steps = min(now * 2, float(_LARGEST)), 0
        _set(scale, now)
        _set(counter, steps)

    def _transform_loss(self, loss: Any) -> Any:
        return self.scale_loss(self.inner_optimizer._transform_loss(loss))

    def _loss_factor(self) -> float:
        return self.inner_optimizer._loss_factor()

    def _get_gradients(
        self, tape: Any, loss: Any, var_list: list[Variable], grad_loss: Any = None
    ) -> list[Pair]:
        with np.errstate(all="ignore"):
            pairs = self.inner_optimizer._get_gradients(tape, loss, var_list, grad_loss)
        return list(zip(self.get_unscaled_gradients([g for g, _ in pairs]), var_list, strict=True))

    # -- what is the inner optimizer's
    @property
    def iterations(self) -> Variable:
        """The number of steps that the inner optimizer has made."""
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, variable: Variable) -> None:
        self.inner_optimizer.iterations = variable

    @property
    def weights(self) -> list[Variable]:
        """The weights of the inner optimizer, including the scale and its step counter."""
        return self.inner_optimizer.weights

    def set_weights(self, weights: Sequence[Any]) -> None:
        """See the inner optimizer."""
        self.inner_optimizer.set_weights(weights)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """See the inner optimizer."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def train(self) -> None:
        """See the inner optimizer."""
        self.inner_optimizer.train()

    def eval(self) -> AbstractContextManager[None]:
        """See the inner optimizer."""
        return self.inner_optimizer.eval()

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """See the inner optimizer."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def _create_all_weights(self, var_list: list[Variable]) -> None:
        self._variables()
        make_weights(self.inner_optimizer, var_list)

    def describe(self) -> str:
        """Prints the scale and the pipeline of the inner optimizer and returns them as a string."""
        text = self.inner_optimizer.describe()
        scale = (
            f"loss scale: {float(self.loss_scale):g}, doubled after {self.dynamic_growth_steps} finite steps"
        )
        print(scale)
        return f"{text}\n{scale}"

    # -- configs
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor. The current scale is one of the weights instead."""
        return {
            "name": self._name,
            "inner_optimizer": serialize(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """See Optimizer."""
        arguments = as_config(config, f"optimizer {cls.__name__}")
        inner = arguments.pop("inner_optimizer", None)
        return cls(deserialize(inner, custom_objects), **arguments)


def _checked(inner: Any) -> Optimizer:
    if not isinstance(inner, Optimizer) or isinstance(inner, LossScaleOptimizer):
        raise TypeError(f"inner_optimizer must be an optimizer without loss scaling; got {shown(inner)}")
    if inner.on_nonfinite not in ("propagate", "skip"):
        raise ValueError(
            f"inner_optimizer has on_nonfinite={inner.on_nonfinite!r}, but LossScaleOptimizer skips such "
            "steps: omit on_nonfinite"
        )
    return inner


def _divided(gradient: Any, scale: Any) -> Any:
    if gradient is None:
        return None
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(_divided(gradient.values, scale), gradient.indices, gradient.dense_shape)
    values = as_array(gradient)
    wide = np.result_type(values.dtype, np.float32)
    with np.errstate(all="ignore"):
        found: Any = (values.astype(wide, copy=False) / wide.type(scale)).astype(values.dtype, copy=False)
    return found


def _set(variable: Variable, value: Any) -> None:
    """For code that runs once for all replicas that share the variable."""
    variable.storage.store(np.asarray(value, variable.dtype))
