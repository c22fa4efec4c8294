"""The arithmetic of ``optax.sgd``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from distopt.engine.rule import Rule, where
from distopt.jax.rules.leaf_rule import LeafRule

__all__ = ["SGDRule"]


def _sgd(w, g, step):  # type: ignore[no-untyped-def]
    return (w + step * g,)


def _momentum(w, g, trace, zero, momentum, ahead, step):  # type: ignore[no-untyped-def]
    trace = g + momentum * trace
    return w + step * where(ahead != zero, g + momentum * trace, trace), trace


SGD = Rule("optax_sgd", _sgd, in_float32=True)
MOMENTUM = Rule("optax_momentum", _momentum, ("trace",), in_float32=True)


@final
@dataclass(frozen=True)
class SGDRule(LeafRule):
    """``trace = g + momentum * trace``, ``w -= lr * trace``; without momentum, ``w -= lr * g``.

    With ``nesterov``, ``w -= lr * (g + momentum * trace)``.
    """

    momentum: float | None = None
    nesterov: bool = False
    name = "sgd"

    def rule(self) -> Rule:
        """The rule with or without momentum."""
        return SGD if self.momentum is None else MOMENTUM

    def coefficients(self, rate: float, decay: float, step: int) -> dict[str, float]:
        """See LeafRule."""
        if self.momentum is None:
            return {"step": -rate}
        return {"zero": 0.0, "momentum": self.momentum, "ahead": float(self.nesterov), "step": -rate}
