"""Loss: from labels and predictions to one number."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config
from distopt.core.keywords import KnownArguments, argument_names, check_arguments
from distopt.distribute import has_strategy
from distopt.keras.losses.reduction import Reduction
from distopt.keras.values import fit_weight, is_half, squeeze_ranks, tensor

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Loss", "LossFunctionWrapper", "keeps_dtype", "set_fused_sum", "weighted_losses"]


class Loss(KnownArguments):
    """Base class of losses. Override :meth:`call`, which returns the loss of each sample.

    Args:
        reduction: a member of :class:`Reduction`. Under a strategy of several replicas you can call losses
            with SUM and NONE only, because only the caller knows the global batch. Losses for ``compile`` may
            have any reduction.
        name: a name.

    Raises:
        ValueError: the reduction is unknown.
    """

    def __init__(self, reduction: str = Reduction.AUTO, name: str | None = None) -> None:
        Reduction.validate(reduction)
        self.reduction = reduction
        self.name = name

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses before weighting and reduction.

        Args:
            y_true: ``[batch, ...]`` labels.
            y_pred: ``[batch, ...]`` predictions.

        Returns:
            ``[batch, ...]``, usually without the last axis.
        """
        raise NotImplementedError(f"{type(self).__name__} must override call()")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The weighted, reduced loss.

        Args:
            y_true: ``[batch, ...]`` labels.
            y_pred: ``[batch, ...]`` predictions.
            sample_weight: a number, ``[batch]``, or the shape of the losses.

        Raises:
            ValueError: a strategy is in force and the reduction is AUTO or SUM_OVER_BATCH_SIZE; or the
                weights' shape does not fit.
        """
        if has_strategy() and self.reduction in {Reduction.AUTO, Reduction.SUM_OVER_BATCH_SIZE}:
            raise ValueError(
                f"the loss {self.name or type(self).__name__!r} has reduction={self.reduction!r}, which "
                "is not defined when several replicas share a batch. Please use Reduction.SUM or "
                "Reduction.NONE when a strategy is used outside of the built-in training loops, and divide "
                "by the global batch size yourself."
            )
        if self.reduction == Reduction.NONE:
            return weighted_losses(self.call(y_true, y_pred), sample_weight)
        if self.reduction == Reduction.SUM:
            return self._scaled_sum(y_true, y_pred, sample_weight, _one)[0]
        return self.mean(y_true, y_pred, sample_weight)

    def mean(self, y_true: Any, y_pred: Any, sample_weight: Any = None, factor: float = 1.0) -> Any:
        """Returns ``factor`` times the mean of the weighted losses; 0 if there are none.

        For training loops. As in :meth:`sum_and_count`, reduction and strategy do not matter.
        """
        return self._scaled_sum(y_true, y_pred, sample_weight, lambda count: factor / max(count, 1))[0]

    def sum_and_count(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, int]:
        """Returns the sum of the weighted losses and their number, independent of reduction and strategy.

        For training loops. The loss of a batch over several replicas is the sum of the sums divided by the
        sum of the numbers.
        """
        return self._scaled_sum(y_true, y_pred, sample_weight, _one)

    def _scaled_sum(
        self, y_true: Any, y_pred: Any, sample_weight: Any, scale: Callable[[int], float]
    ) -> tuple[Any, int]:
        """The sum of the weighted losses times ``scale(their number)``, and their number."""
        losses = weighted_losses(self.call(y_true, y_pred), sample_weight)
        factor = scale(losses.size)
        if losses.dtype == np.float16:  # its sums overflow at 65504
            return (np.sum(losses.astype(np.float32)) * factor).astype(np.float16), losses.size
        total = np.sum(losses)
        return (total if factor == 1 else total * factor), losses.size

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a loss from a result of :meth:`get_config`."""
        return cls(**as_config(config, cls.__name__))


def keeps_dtype(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a loss function, which computes in float32 at least, return float16 for float16 predictions."""

    @functools.wraps(fn)
    def call(y_true: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
        losses = fn(y_true, y_pred, *args, **kwargs)
        return losses.astype(np.float16) if is_half(y_pred) else losses

    return call


#: Loss functions whose sum is one operation: how to prepare its arguments, and the operation. Process-wide,
#: and not an attribute of the functions, which ``functools.wraps`` would copy to functions with other sums.
_fused_sums: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}


def set_fused_sum(fn: Any, prepare: Callable[..., Any], total: Callable[..., Any]) -> None:
    """Gives a loss function a shorter way to the sum of its losses.

    Args:
        fn: the function ``(y_true, y_pred, **arguments) -> losses``.
        prepare: takes what ``fn`` takes; returns ``(labels, values [..., n])`` of ``[...]`` losses, or None
            where ``fn`` itself must be called.
        total: ``(labels, values, scale) -> scale * sum of the losses``.
    """
    _fused_sums[fn] = prepare, total


def _one(_count: int) -> float:
    return 1.0


def _squeezed(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    return squeeze_ranks(tensor(y_true), tensor(y_pred))


class LossFunctionWrapper(Loss):
    """Wraps a function ``(y_true, y_pred, **arguments) -> losses`` as a loss.

    If labels and predictions differ by a last axis of length 1, that axis is removed first.

    Args:
        fn: the function.
        reduction: see :class:`Loss`.
        name: a name.
        kwargs: arguments for ``fn``.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: str = Reduction.AUTO,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        check_arguments(type(self), fn, kwargs, argument_names(type(self)))
        self.fn = fn
        self._fn_kwargs = kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of the function."""
        return self.fn(*_squeezed(y_true, y_pred), **self._fn_kwargs)

    def _scaled_sum(
        self, y_true: Any, y_pred: Any, sample_weight: Any, scale: Callable[[int], float]
    ) -> tuple[Any, int]:
        fused = _fused_sums.get(self.fn)
        if fused is not None and sample_weight is None and type(self).call is LossFunctionWrapper.call:
            prepare, total = fused
            prepared = prepare(*_squeezed(y_true, y_pred), **self._fn_kwargs)
            if prepared is not None:
                values = prepared[1]
                count = values.size // values.shape[-1]
                loss = total(*prepared, scale(count))
                return (loss.astype(np.float16) if is_half(y_pred) else loss), count
        return super()._scaled_sum(y_true, y_pred, sample_weight, scale)

    def get_config(self) -> dict[str, Any]:
        """Returns the reduction, the name and the arguments of the function."""
        return super().get_config() | self._fn_kwargs


def weighted_losses(losses: Any, sample_weight: Any = None) -> Any:
    """``losses * sample_weight``, in float32 at least, of the losses' dtype.

    Args:
        losses: ``[batch, ...]``.
        sample_weight: None, a number, ``[batch]``, or the losses' shape.

    Raises:
        ValueError: the shapes do not fit.
    """
    losses = tensor(losses)
    if sample_weight is None:
        return losses
    weight = fit_weight(sample_weight, losses)
    dtype = losses.dtype
    wide = np.promote_types(dtype, np.float32)
    return (losses.astype(wide) * weight.astype(wide)).astype(dtype)
