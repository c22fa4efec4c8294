"""ScheduleFree, SGDScheduleFree and AdamWScheduleFree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from distopt.core.checks import as_count, shown
from distopt.core.numbers import as_scalar
from distopt.engine.schedule_free import Z
from distopt.optimizers.limits import FINITE, NOT_NEGATIVE, within
from distopt.torch.arguments import check_betas, check_rate
from distopt.torch.eager import eager
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.schedule_free import (
    AdamWScheduleFreeUpdate,
    Averaging,
    ScheduleFreeUpdate,
    SGDScheduleFreeUpdate,
    WrappedUpdate,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AdamWScheduleFree", "SGDScheduleFree", "ScheduleFree"]

#: The state that the authors' package keeps in each group, with its initial values.
_KEPT = {"k": 0, "train_mode": False, "weight_sum": 0.0, "lr_max": -1.0, "scheduled_lr": 0.0}


class _TwoWeights(Optimizer):
    """Base: parameters hold y after :meth:`train`, where gradients are computed, and x after :meth:`eval`."""

    @eager
    def train(self) -> None:
        """Switches to the weights for training. Call it on all replicas before the first step."""
        self._switch(training=True)

    @eager
    def eval(self) -> None:
        """Writes the weights for evaluation and saving to the parameters. Call it on all replicas."""
        self._switch(training=False)

    @torch.no_grad()
    def _switch(self, training: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] == training:
                continue
            assert isinstance(self._update, ScheduleFreeUpdate)
            beta = self._update.averaging(group).beta
            for tensor in group["params"]:
                z = self._pipeline.keeper.now(tensor).get(Z)
                if z is not None:
                    tensor.lerp_(z.to(tensor.dtype), 1 - beta if training else 1 - 1 / beta)
            group["train_mode"] = training

    def _check_step(self) -> None:
        super()._check_step()
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                f"{type(self).__name__}.step(): the parameters are those for evaluation: call "
                "optimizer.train() before the forward passes of training, and optimizer.eval() before "
                "those of evaluation"
            )


class SGDScheduleFree(_TwoWeights, torch.optim.Optimizer):
    """Schedule-free SGD over all replicas.

    PyTorch does not have this optimizer. Arguments, results and state are those of the authors' package,
    schedulefree 1.4.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        momentum: the weight of the mean of z in the point where gradients are computed.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        warmup_steps: the number of steps in which the learning rate rises from 0.
        r: the weight of step k in the mean is proportional to ``k**r``.
        weight_lr_power: the weight is also proportional to this power of the largest learning rate so far.
        foreach: accepted and ignored.
        **options: see StepOptions.

    Raises:
        ValueError: ``momentum`` is outside (0, 1), or another number is out of range.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    _update = SGDScheduleFreeUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        numbers = {
            "lr": lr,
            "momentum": _open_fraction(momentum, "momentum of SGDScheduleFree"),
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
        }
        _check(numbers, "SGDScheduleFree")
        with self._over_replicas(params, options) as given:
            super().__init__(given, {**numbers, **_KEPT})


class AdamWScheduleFree(_TwoWeights, torch.optim.Optimizer):
    """Schedule-free AdamW over all replicas.

    PyTorch does not have this optimizer. Arguments, results and state are those of the authors' package,
    schedulefree 1.4.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: the weight of the mean of z in the point where gradients are computed; the decay rate of the
            running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the direction.
        warmup_steps: the number of steps in which the learning rate rises from 0.
        r: the weight of step k in the mean is proportional to ``k**r``.
        weight_lr_power: the weight is also proportional to this power of the largest learning rate so far.
        foreach: accepted and ignored.
        **options: see StepOptions.

    Raises:
        ValueError: the first beta is outside (0, 1), or another number is out of range.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    _update = AdamWScheduleFreeUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 0.0025,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        check_betas(betas, "AdamWScheduleFree")
        _open_fraction(betas[0], "betas[0] of AdamWScheduleFree")
        within(NOT_NEGATIVE, eps, "eps of AdamWScheduleFree")
        numbers = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
        }
        _check(numbers, "AdamWScheduleFree")
        with self._over_replicas(params, options) as given:
            super().__init__(given, {**numbers, **_KEPT})


class ScheduleFree(_TwoWeights, torch.optim.Optimizer):
    """Makes another optimizer schedule-free: its algorithm updates z, and the parameters follow.

    It takes over the parameter groups and the options of ``inner``. Do not use ``inner`` afterwards.

    Args:
        inner: an optimizer of distopt.torch that updates each element independently, such as RMSprop, and has
            not made a step. It should not use momentum. Its weight decay applies to z.
        weight_decay_at_y: the coefficient of weight decay at y: ``lr * weight_decay_at_y * parameter`` is
            subtracted from z.
        momentum: the weight of the mean of z in the point where gradients are computed.
        weight_lr_power: the weight of a step in the mean is proportional to this power of the largest
            learning rate so far.
        r: the weight of step k is also proportional to ``k**r``.

    Raises:
        TypeError: ``inner`` is not such an optimizer.
        ValueError: ``inner`` has made steps, or a number is out of range.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682; ``ScheduleFreeWrapper`` of the
    authors' package, schedulefree 1.4.
    """

    def __init__(
        self,
        inner: Optimizer,
        weight_decay_at_y: float = 0.0,
        momentum: float = 0.9,
        weight_lr_power: float = 2.0,
        r: float = 0.0,
    ) -> None:
        if not isinstance(inner, Optimizer):
            raise TypeError(f"ScheduleFree takes an optimizer of distopt.torch; got {shown(inner)}")
        beta = _open_fraction(momentum, "momentum of ScheduleFree")
        within(NOT_NEGATIVE, weight_decay_at_y, "weight_decay_at_y of ScheduleFree")
        for name, value in (("weight_lr_power", weight_lr_power), ("r", r)):
            within(FINITE, value, f"{name} of ScheduleFree")
        how = Averaging(beta, float(weight_decay_at_y), float(r), float(weight_lr_power))
        update = WrappedUpdate(inner._update, how)
        for group in inner.param_groups:
            update.rule(group)
        self._update = update  # type: ignore[misc]
        pipeline = inner._pipeline
        if pipeline.updates.iterations.scalar():
            raise ValueError("ScheduleFree: the inner optimizer has already made steps; pass a new one")
        self._set_up(pipeline.module, inner._options)
        groups = [dict(group) for group in inner.param_groups]
        torch.optim.Optimizer.__init__(self, groups, {**inner.defaults, **_KEPT})
        self._made = True
        self._add_parameters()
        inner._taken_by = type(self).__name__

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_update": self._update}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        if "_update" in rest:
            self._update = rest.pop("_update")  # type: ignore[misc]
        super().__setstate__(rest)


def _open_fraction(value: Any, argument: str) -> float:
    number = as_scalar(value, argument, finite=True)
    if not 0 < number < 1:
        raise ValueError(f"{argument} must be above 0 and below 1, received: {number}")
    return number


def _check(numbers: Mapping[str, Any], name: str) -> None:
    check_rate(numbers["lr"], name)
    within(NOT_NEGATIVE, numbers["weight_decay"], f"weight_decay of {name}")
    for key in ("r", "weight_lr_power"):
        within(FINITE, numbers[key], f"{key} of {name}")
    as_count(numbers["warmup_steps"], f"warmup_steps of {name}", least=0)
