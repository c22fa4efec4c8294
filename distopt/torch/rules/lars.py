"""The arithmetic of LARS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import numpy as np

from distopt.engine.rule import Rule, where
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.torch.rules.sgd import SGDUpdate
from distopt.torch.rules.update_rule import UpdateRule, sign

__all__ = ["LARSUpdate"]


def _direction(w, g, u, sign):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return w, sign * g


def _ratio(of_w, of_u, adapts, trust_coefficient, decay, eps, largest):  # type: ignore[no-untyped-def]
    ratios = np.minimum(trust_coefficient * of_w / (of_u + decay * of_w + eps), largest)
    return np.where((adapts != 0) & (of_w > 0) & (of_u > 0), ratios, np.ones_like(ratios))


def _plain(w, u, zero, decay, step, ratio):  # type: ignore[no-untyped-def]
    return (w + step * (ratio * where(decay != zero, u + decay * w, u)),)


def _momentum(w, u, m, zero, decay, step, kept, added, ratio):  # type: ignore[no-untyped-def]
    u = ratio * where(decay != zero, u + decay * w, u)
    m = kept * m + added * u
    return w + step * m, m


def _nesterov(w, u, m, zero, decay, step, kept, added, momentum, ratio):  # type: ignore[no-untyped-def]
    u = ratio * where(decay != zero, u + decay * w, u)
    m = kept * m + added * u
    return w + step * (u + momentum * m), m


DIRECTION = Rule("torch_lars_direction", _direction, ("u",), in_float32=True)
PLAIN, MOMENTUM, NESTEROV = [
    TrustRatioRule(name, DIRECTION, _ratio, Rule(f"{name}_step", step, slots, in_float32=True))
    for name, step, slots in (
        ("torch_lars", _plain, ()),
        ("torch_lars_momentum", _momentum, ("momentum_buffer",)),
        ("torch_lars_nesterov", _nesterov, ("momentum_buffer",)),
    )
]
_SGD = SGDUpdate()


@final
class LARSUpdate(UpdateRule):
    """SGD's step with the gradient ``ratio * (g + weight_decay * w)``.

    The ratio is ``trust_coefficient * norm(w) / (norm(g) + weight_decay * norm(w) + eps)``, with the norms of
    the whole parameter. It is 1 if a norm is 0, and in groups without weight decay unless ``always_adapt``.

    Source: You et al. 2017, arXiv:1708.03888.
    """

    name = "LARS"
    scalars: ClassVar[Mapping[str, float]] = MappingProxyType(dict(SGDUpdate.scalars))
    internal = SGDUpdate.internal
    optional_slots = SGDUpdate.optional_slots

    def rule(self, group: Mapping[str, Any]) -> TrustRatioRule:
        """The rule for the options ``momentum`` and ``nesterov``."""
        if group["momentum"] == 0:
            return PLAIN
        return NESTEROV if group["nesterov"] else MOMENTUM

    def advanced(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """As in SGD."""
        return _SGD.advanced(group, scalars)

    def restored(self, state: Mapping[str, Any]) -> dict[str, float]:
        """As in SGD."""
        return _SGD.restored(state)

    def coefficients(self, group: Mapping[str, Any], scalars: Mapping[str, float]) -> dict[str, float]:
        """The coefficients of SGD, and those of the ratio."""
        decay, lr = float(group["weight_decay"]), float(group["lr"])
        clips = group["trust_clip"] and lr > 0  # lr * min(ratio / lr, 1) == min(ratio, lr), as in LARC
        return {
            **_SGD.coefficients(group, scalars),
            "sign": sign(group),
            "adapts": float(decay != 0 or group["always_adapt"]),
            "trust_coefficient": float(group["trust_coefficient"]) / (lr if clips else 1.0),
            "eps": float(group["eps"]),
            "largest": 1.0 if clips else np.inf,
        }
