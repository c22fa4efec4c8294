"""The arithmetic of ``torch.optim.SGD``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

from distopt.engine.rule import Rule, where
from distopt.torch.rules.update_rule import UpdateRule, coupled_decay

__all__ = ["SGDUpdate"]


def _sgd(w, g, zero, sign, decay, step):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    return (w + step * g,)


def _momentum(w, g, m, zero, sign, decay, step, kept, added):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = kept * m + added * g
    return w + step * m, m


def _nesterov(w, g, m, zero, sign, decay, step, kept, added, momentum):  # type: ignore[no-untyped-def]
    g = sign * g
    g = where(decay != zero, g + decay * w, g)
    m = kept * m + added * g
    return w + step * (g + momentum * m), m


SGD = Rule("torch_sgd", _sgd, in_float32=True)
MOMENTUM = Rule("torch_momentum", _momentum, ("momentum_buffer",), in_float32=True)
NESTEROV = Rule("torch_nesterov", _nesterov, ("momentum_buffer",), in_float32=True)


@final
class SGDUpdate(UpdateRule):
    """``buffer = momentum * buffer + (1 - dampening) * g``, ``w -= lr * buffer``.

    In the first step with momentum, the buffer becomes the gradient, without dampening. With momentum 0 no
    buffer is created, and an existing one is not changed.
    """

    name = "SGD"
    #: The number of steps with momentum. PyTorch has no such scalar: it looks whether the buffer exists.
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType({"buffered": 0.0})
    internal = frozenset({"buffered"})
    optional_slots = frozenset({"momentum_buffer"})

    def rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule for the options ``momentum`` and ``nesterov``."""
        if group["momentum"] == 0:
            return SGD
        return NESTEROV if group["nesterov"] else MOMENTUM

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """Counts steps with momentum."""
        return {"buffered": scalars["buffered"] + (float(group["momentum"]) != 0)}

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """A state that has the buffer has made a step with momentum."""
        return {"buffered": float(state.get("momentum_buffer") is not None)}

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """See the class. The new buffer is ``kept * buffer + added * g``."""
        found = {**coupled_decay(group), "step": -float(group["lr"])}
        momentum = float(group["momentum"])
        if momentum == 0:
            return found
        first = scalars["buffered"] <= 1
        found["kept"], found["added"] = (0.0, 1.0) if first else (momentum, 1 - float(group["dampening"]))
        return {**found, "momentum": momentum} if group["nesterov"] else found

    def check_gradient(self, group: Mapping[str, Any], is_sparse: bool) -> None:
        """Rejects sparse gradients with momentum or weight decay, which change all rows."""
        for option in ("momentum", "weight_decay") if is_sparse else ():
            if group[option] != 0:
                raise RuntimeError(
                    f"SGD with {option}={group[option]} does not support sparse gradients; set it to 0"
                )
