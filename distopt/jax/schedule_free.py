"""Schedule-free optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.core.checks import as_count, shown
from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rates import check_none, checked_rate, value_at
from distopt.jax.rules.leaf_rule import LeafRule
from distopt.jax.rules.rmsprop import RMSpropRule
from distopt.jax.rules.schedule_free import ScheduleFreeRule, check_base
from distopt.jax.rules.sgd import SGDRule
from distopt.optimizers.limits import FINITE, within

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["schedule_free", "schedule_free_adamw", "schedule_free_eval_params", "schedule_free_sgd"]


def schedule_free(
    base_optimizer: Optimizer,
    learning_rate: Any,
    b1: float = 0.9,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
) -> Optimizer:
    """``optax.contrib.schedule_free`` over all replicas: makes another optimizer schedule-free.

    For example ``dj.schedule_free(dj.adam(rate, b1=0.0), rate)``. Compute gradients at the parameters that
    ``apply`` returns. Evaluate at those of :func:`schedule_free_eval_params`.

    Args:
        base_optimizer: an optimizer of distopt.jax that updates each element independently and is not
            initialized. Its options, such as clips, and its weight decay apply. It should not use momentum.
            Do not use it directly afterwards.
        learning_rate: a number, or a function of the number of steps made. It gives the steps their weights
            in the mean, and should be that of the base optimizer.
        b1: the weight of the mean of z in the point where gradients are computed; above 0, at most 1. The
            base optimizer updates z.
        weight_lr_power: the weight of a step in the mean is proportional to this power of the largest
            learning rate so far.
        state_dtype: must be None. z has the dtype of the parameter.

    Raises:
        TypeError: ``base_optimizer`` is not such an optimizer.
        ValueError: ``base_optimizer`` is already initialized, or a number is out of range.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682; ``optax.contrib.schedule_free``.
    """
    if not isinstance(base_optimizer, Optimizer):
        raise TypeError(f"schedule_free() takes an optimizer of distopt.jax; got {shown(base_optimizer)}")
    if base_optimizer._tree is not None:
        raise ValueError("schedule_free(): the base optimizer has been initialized; pass a new one")
    check_none("state_dtype", state_dtype)
    rule = _rule("schedule_free", check_base(base_optimizer._rule), learning_rate, b1, weight_lr_power)
    return Optimizer(
        "schedule_free",
        rule,
        base_optimizer.learning_rate,
        base_optimizer._options,
        base_optimizer._weight_decay,
        base_optimizer._mask,
    )


def schedule_free_sgd(
    learning_rate: float = 1.0,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    weight_decay: float | None = None,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.contrib.schedule_free_sgd`` over all replicas.

    Args:
        learning_rate: a number.
        warmup_steps: the number of steps in which the learning rate rises from 0. None for no warmup.
        b1: see :func:`schedule_free`.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        weight_lr_power: see :func:`schedule_free`.
        state_dtype: must be None.
        **options: see ApplyOptions.

    Source: Defazio et al. 2024, arXiv:2405.15682; ``optax.contrib.schedule_free_sgd``.
    """
    check_none("state_dtype", state_dtype)
    name, rate = "schedule_free_sgd", _risen(learning_rate, warmup_steps, "schedule_free_sgd")
    rule = _rule(name, SGDRule(None, nesterov=False), rate, b1, weight_lr_power)
    return Optimizer(name, rule, rate, options, 0.0 if weight_decay is None else weight_decay)


def schedule_free_adamw(
    learning_rate: float = 0.0025,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    state_dtype: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.contrib.schedule_free_adamw`` over all replicas.

    Args:
        learning_rate: a number.
        warmup_steps: the number of steps in which the learning rate rises from 0. None for no warmup.
        b1: see :func:`schedule_free`.
        b2: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the direction.
        weight_lr_power: see :func:`schedule_free`.
        state_dtype: must be None.
        **options: see ApplyOptions.

    Source: Defazio et al. 2024, arXiv:2405.15682; ``optax.contrib.schedule_free_adamw``.
    """
    check_none("state_dtype", state_dtype)
    name, rate = "schedule_free_adamw", _risen(learning_rate, warmup_steps, "schedule_free_adamw")
    base = RMSpropRule(b2, eps, eps_in_sqrt=False, bias_correction=True)
    return Optimizer(name, _rule(name, base, rate, b1, weight_lr_power), rate, options, weight_decay)


def schedule_free_eval_params(optimizer: Optimizer) -> Any:
    """Returns the parameters to evaluate: the mean of z.

    Args:
        optimizer: a schedule-free optimizer. It keeps both the state and the parameters, so nothing else is
            needed.

    Returns:
        A pytree like the parameters. Not collective.

    Raises:
        TypeError: the optimizer is not schedule-free.
        RuntimeError: ``init`` was not called.
    """
    if not isinstance(optimizer, Optimizer) or not isinstance(optimizer._rule, ScheduleFreeRule):
        raise TypeError(
            f"schedule_free_eval_params() takes a schedule-free optimizer of distopt.jax; got "
            f"{shown(optimizer)}"
        )
    return optimizer.means()


def _rule(name: str, base: LeafRule, rate: Any, b1: float, power: float) -> ScheduleFreeRule:
    beta = value_at(b1, 0, f"b1 of {name}()")
    if not 0 < beta <= 1:
        raise ValueError(f"b1 of {name}() must be above 0, at most 1, received: {b1}")
    within(FINITE, power, f"weight_lr_power of {name}()")
    return ScheduleFreeRule(base, checked_rate(rate, f"learning_rate of {name}"), beta, float(power))


def _risen(rate: Any, warmup_steps: int | None, name: str) -> Any:
    """A rate that rises linearly from 0 in ``warmup_steps`` steps: ``optax.warmup_constant_schedule``."""
    peak = value_at(rate, 0, f"learning_rate of {name}()")
    if warmup_steps is None:
        return peak
    steps = as_count(warmup_steps, f"warmup_steps of {name}()")
    return lambda made: peak * min(made / steps, 1.0)
