"""Schedule-free steps with the numbers of the authors' program for PyTorch."""

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
    """How z is averaged.

    Attributes:
        beta: how far y is from z on the way to x, the mean of z.
        decay: decay of z by y, times the learning rate.
        r: the share of step k in the mean is in proportion to ``k**r * largest_lr**power``.
        power: see ``r``.
        warmup_steps: the number of steps in which the learning rate rises from 0.
    """

    beta: float
    decay: float
    r: float
    power: float
    warmup_steps: int = 0


class ScheduleFreeUpdate(UpdateRule):
    """Another algorithm moves z by gradients at ``y = (1 - beta) * z + beta * x``, the parameter.

    A group counts its steps, also for parameters that sit one out. In it are the authors' ``k``, ``lr_max``,
    ``weight_sum`` and ``scheduled_lr``.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv:2405.15682.
    """

    #: Whether there is a z, which begins at the parameter's value in its first step.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"begun": 0.0})
    internal = frozenset({"begun"})

    @abstractmethod
    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """What the group's options say."""

    @abstractmethod
    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """The update of z."""

    @abstractmethod
    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The coefficients of the update of z, with this step's learning rate."""

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """That of z, which moves the parameter along."""
        return schedule_free_decaying(self.inner_rule(group))

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The first step makes 1 of 0, later ones 2 of all else."""
        return {"begun": min(scalars["begun"] + 1, 2.0)}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """A z that is there has begun."""
        return {"begun": 2.0 if state.get(Z) is not None else 0.0}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Those of z, and those of the mean."""
        how, weighed = self.averaging(group), _Weighed.of(self.averaging(group), group)
        begins = scalars["begun"] <= 1
        return {
            **self.inner_coefficients(group, scalars, weighed.lr),
            **decaying_coefficients(how.beta, weighed.share, weighed.lr * how.decay, begins),
        }

    def finish(self, group: MutableMapping[str, Any]) -> None:
        """Counts the step."""
        weighed = _Weighed.of(self.averaging(group), group)
        group["scheduled_lr"] = weighed.lr
        group["lr_max"], group["weight_sum"] = weighed.largest, weighed.total
        group["k"] = group.get("k", 0) + 1


class _Weighed(NamedTuple):
    """The numbers of a group's next step."""

    lr: float
    largest: float
    total: float
    share: float

    @classmethod
    def of(cls, how: Averaging, group: Mapping[str, Any]) -> _Weighed:
        step = group.get("k", 0) + 1
        rising = step / how.warmup_steps if step <= how.warmup_steps else 1.0
        lr = float(group["lr"]) * rising
        largest = max(lr, float(group.get("lr_max", 0.0)))
        weight = float(step**how.r * largest**how.power)
        total = float(group.get("weight_sum", 0.0)) + weight
        return cls(lr, largest, total, weight / total if total else 0.0)


def _step(w, g, rate):  # type: ignore[no-untyped-def]
    return (w - rate * g,)


def _normalized(w, g, v, kept, other, correction, eps, rate):  # type: ignore[no-untyped-def]
    v = v * kept + other * g * g
    return w - rate * g / (np.sqrt(v / correction) + eps), v


STEP = Rule("torch_schedule_free_sgd", _step, in_float32=True)
NORMALIZED = Rule("torch_schedule_free_adamw", _normalized, ("exp_avg_sq",), in_float32=True)


@final
class SGDScheduleFreeUpdate(ScheduleFreeUpdate):
    """``z -= lr * (g + weight_decay * y)``."""

    name = "SGDScheduleFree"

    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """``momentum`` is beta."""
        return _options(group, float(group["momentum"]))

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """A plain step."""
        return STEP

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The learning rate."""
        return {"rate": lr}


@final
class AdamWScheduleFreeUpdate(ScheduleFreeUpdate):
    """``z -= lr * (g / (sqrt(v / (1 - beta2**k)) + eps) + weight_decay * y)``, ``v`` as Adam's."""

    name = "AdamWScheduleFree"

    def averaging(self, group: Mapping[str, Any]) -> Averaging:
        """The first of the betas is beta."""
        return _options(group, float(group["betas"][0]))

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """Adam's without a mean of gradients."""
        return NORMALIZED

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """Adam's."""
        beta2 = float(group["betas"][1])
        return {
            "kept": beta2,
            "other": 1 - beta2,
            "correction": 1 - beta2 ** (group.get("k", 0) + 1),
            "eps": float(group["eps"]),
            "rate": lr,
        }


def _options(group: Mapping[str, Any], beta: float) -> Averaging:
    decay, r, power = (float(group[name]) for name in ("weight_decay", "r", "weight_lr_power"))
    return Averaging(beta, decay, r, power, int(group["warmup_steps"]))


@final
class WrappedUpdate(ScheduleFreeUpdate):
    """z moves by an algorithm of another optimizer, whose options the groups have.

    Args:
        inner: the algorithm.
        how: the numbers of the mean.

    Raises:
        TypeError: it has no compiled rule that updates each element independently.
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
        """The same for all groups."""
        return self._how

    def inner_rule(self, group: Mapping[str, Any]) -> Rule:
        """The inner algorithm's."""
        found = self._inner.rule(group)
        if isinstance(found, TrustRatioRule):
            raise TypeError(f"ScheduleFree cannot wrap {self._inner.name}, which needs norms of parameters")
        return found

    def inner_coefficients(
        self, group: Mapping[str, Any], scalars: Mapping[str, float], lr: float
    ) -> dict[str, float]:
        """The inner algorithm's."""
        return self._inner.coefficients(group, scalars)

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Those of both."""
        return {**self._inner.advanced(group, scalars), **super().advanced(group, scalars)}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """Those of both."""
        return {**self._inner.restored(state), **super().restored(state)}

    def initial(self, group: Mapping[str, Any], slot: str) -> float:
        """The inner algorithm's."""
        return 0.0 if slot == Z else self._inner.initial(group, slot)
