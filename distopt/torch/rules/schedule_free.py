"""The arithmetic of schedule-free optimizers, as in the authors' package ``schedulefree`` for PyTorch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from distopt.engine.rule import Rule
from distopt.engine.schedule_free import Z, decaying_coefficients, schedule_free_decaying
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.torch.rules.update_rule import UpdateRule

__all__ = [
    "AdamWScheduleFreeUpdate",
    "Averaging",
    "SGDScheduleFreeUpdate",
    "ScheduleFreeUpdate",
    "WrappedUpdate",
]


class Averaging(NamedTuple):
    """The options of the average x of z.

    Attributes:
        beta: the weight of x in the point ``y = (1 - beta) * z + beta * x`` where gradients are computed.
        decay: the weight decay at y: a step subtracts ``lr * decay * y`` from z.
        r: the weight of step k in the average is proportional to ``k**r * largest_lr**power``.
        power: see ``r``.
        warmup_steps: the number of steps in which the learning rate rises from 0.
    """

    beta: float
    decay: float
    r: float
    power: float
    warmup_steps: int = 0


class ScheduleFreeUpdate(UpdateRule):
    """Base: an inner algorithm updates z with gradients at ``y = (1 - beta) * z + beta * x``.

    x is the average of z. The parameter holds y, and z is a slot. As in the authors' package, the step count
    ``k`` and ``lr_max``, ``weight_sum`` and ``scheduled_lr`` are kept in the group, so they also advance for
    parameters without a gradient.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    #: Steps of this parameter: 0, 1, or 2 for more. In the first step z starts at the parameter's value.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"begun": 0.0})
    internal = frozenset({"begun"})

    @abstractmethod
    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """The options of the average, from the group."""

    @abstractmethod
    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule that updates z."""

    @abstractmethod
    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The coefficients of the inner rule, with this step's learning rate."""

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The inner rule, extended to update y with z."""
        return schedule_free_decaying(self.inner_rule(group))

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Counts the step, up to 2."""
        return {"begun": min(scalars["begun"] + 1, 2.0)}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """A state that has z has made steps."""
        return {"begun": 2.0 if state.get(Z) is not None else 0.0}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The coefficients of the inner rule, and those of y and the average."""
        options, step = self.averaging(group), _GroupStep.of(self.averaging(group), group)
        is_first = scalars["begun"] <= 1
        return {
            **self.inner_coefficients(group, scalars, step.lr),
            **decaying_coefficients(options.beta, step.share, step.lr * options.decay, is_first),
        }

    def finish(self, group: MutableMapping[str, Any]) -> None:
        """Advances the step count and the sums of the group."""
        step = _GroupStep.of(self.averaging(group), group)
        group["scheduled_lr"] = step.lr
        group["lr_max"], group["weight_sum"] = step.largest_lr, step.weight_sum
        group["k"] = group.get("k", 0) + 1


class _GroupStep(NamedTuple):
    """The numbers of a group's next step.

    Attributes:
        lr: the learning rate, after warmup.
        largest_lr: the largest learning rate so far.
        weight_sum: the sum of the weights of all steps so far, including this one.
        share: the weight of this step, divided by ``weight_sum``.
    """

    lr: float
    largest_lr: float
    weight_sum: float
    share: float

    @classmethod
    def of(cls, options: Averaging, group: Mapping[str, Any]) -> _GroupStep:
        """The numbers of the step after the ``k`` steps that the group has counted."""
        step = group.get("k", 0) + 1
        warmup = step / options.warmup_steps if step <= options.warmup_steps else 1.0
        lr = float(group["lr"]) * warmup
        largest_lr = max(lr, float(group.get("lr_max", 0.0)))
        weight = float(step**options.r * largest_lr**options.power)
        weight_sum = float(group.get("weight_sum", 0.0)) + weight
        return cls(lr, largest_lr, weight_sum, weight / weight_sum if weight_sum else 0.0)


def _step(w, g, rate):  # type: ignore[no-untyped-def]
    return (w - rate * g,)


def _normalized(w, g, v, kept, other, correction, eps, rate):  # type: ignore[no-untyped-def]
    v = v * kept + other * g * g
    return w - rate * g / (np.sqrt(v / correction) + eps), v


STEP = Rule("torch_schedule_free_sgd", _step, in_float32=True)
NORMALIZED = Rule("torch_schedule_free_adamw", _normalized, ("exp_avg_sq",), in_float32=True)


@final
class SGDScheduleFreeUpdate(ScheduleFreeUpdate):
    """Schedule-free SGD: ``z -= lr * (g + weight_decay * y)``."""

    name = "SGDScheduleFree"

    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """The options of the average; ``momentum`` is beta."""
        return _options(group, float(group["momentum"]))

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """``z -= rate * g``."""
        return STEP

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """``rate``, the learning rate."""
        return {"rate": lr}


@final
class AdamWScheduleFreeUpdate(ScheduleFreeUpdate):
    """Schedule-free AdamW: ``z -= lr * (g / (sqrt(v / (1 - beta2**k)) + eps) + weight_decay * y)``.

    ``v`` is the running mean of ``g**2``, as in Adam.
    """

    name = "AdamWScheduleFree"

    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """The options of the average; ``betas[0]`` is beta."""
        return _options(group, float(group["betas"][0]))

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """Adam's rule without the running mean of the gradient."""
        return NORMALIZED

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The coefficients of ``v``, and ``rate``, the learning rate."""
        beta2 = float(group["betas"][1])
        return {
            "kept": beta2,
            "other": 1 - beta2,
            "correction": 1 - beta2 ** (group.get("k", 0) + 1),
            "eps": float(group["eps"]),
            "rate": lr,
        }


def _options(group: Mapping[str, Any], beta: float) -> Averaging:
    """The options of the average that a group has under the authors' names, with ``beta``."""
    decay, r, power = (float(group[name]) for name in ("weight_decay", "r", "weight_lr_power"))
    return Averaging(beta, decay, r, power, int(group["warmup_steps"]))


@final
class WrappedUpdate(ScheduleFreeUpdate):
    """The algorithm of another optimizer updates z. The groups have the options of that optimizer.

    Args:
        inner: the inner algorithm.
        how: the options of the average, the same for all groups.

    Raises:
        TypeError: ``inner`` does not update each element independently, or is schedule-free itself.
    """

    name = "ScheduleFree"

    def __init__(self, inner: Any, how: Averaging) -> None:
        if not isinstance(inner, UpdateRule) or isinstance(inner, ScheduleFreeUpdate):
            raise TypeError(
                f"ScheduleFree takes an optimizer that updates each element independently, such as SGD, Adam "
                f"or RMSprop; got {inner.name}"
            )
        self._inner, self._how = inner, how
        self.scalars = {**inner.scalars, **ScheduleFreeUpdate.scalars}  # type: ignore[misc]
        self.internal = inner.internal | ScheduleFreeUpdate.internal  # type: ignore[misc]
        self.optional_slots = inner.optional_slots  # type: ignore[misc]

    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """The options that the constructor got."""
        return self._how

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule of the inner algorithm.

        Raises:
            TypeError: it needs norms of whole parameters.
        """
        found = self._inner.rule(group)
        if isinstance(found, TrustRatioRule):
            raise TypeError(f"ScheduleFree cannot wrap {self._inner.name}, which needs norms of parameters")
        return found

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The coefficients of the inner algorithm, which reads the learning rate from the group."""
        return self._inner.coefficients(group, scalars)

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The scalars of the inner algorithm, and ``begun``."""
        return {**self._inner.advanced(group, scalars), **super().advanced(group, scalars)}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """The scalars of the inner algorithm, and ``begun``."""
        return {**self._inner.restored(state), **super().restored(state)}

    def initial(self, group: Mapping[str, Any], slot: str) -> float:
        """The initial value of the inner algorithm's slots; z starts in the first step."""
        return 0.0 if slot == Z else self._inner.initial(group, slot)
