"""The gradients of a step, read where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.variable import Variable
from distopt.engine.step import StepEngine
from distopt.suggestions import did_you_mean
from distopt.torch.parameter import Parameter

__all__ = ["GradientReader"]

#: What is done about a parameter that has a gradient on some replicas only.
_UNUSED = ("error", "zero")
#: So many parameters without a gradient are named.
_NAMED = 8


class GradientReader:
    """Reads the gradients of parameters.

    Args:
        unused: what a parameter without a gradient means if other replicas have one: ``"error"``, ``"zero"``.

    Attributes:
        absent: names the parameters that have no gradient; replicas compare it, so that an error names them.
    """

    def __init__(self, unused: str) -> None:
        if unused not in _UNUSED:
            hint = did_you_mean(str(unused), _UNUSED)
            raise ValueError(f"unused must be 'error' or 'zero'; got {unused!r:.80}.{hint}")
        self._zero = unused == "zero"
        self._missing: list[int] = []
        self.absent = ""

    def pairs(
        self, engine: StepEngine, call: str, parameters: Sequence[Parameter]
    ) -> list[tuple[Any, Variable]]:
        """Gradients of the parameters that have one, and variables; collective with ``unused="zero"``."""
        gradients: list[Any] = [parameter.gradient() for parameter in parameters]
        missing = [i for i, gradient in enumerate(gradients) if gradient is None]
        if self._zero and engine.replicas > 1:
            for i in _wanted(engine, call, missing, parameters):
                gradients[i] = np.zeros(parameters[i].variable.shape, parameters[i].variable.dtype)
        elif missing != self._missing:
            self._missing = missing
            names = [parameters[i].variable.name for i in missing if parameters[i].tensor.requires_grad]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self.absent = f", without a gradient of {', '.join(names[:_NAMED])}{more}" if names else ""
        return [(g, p.variable) for g, p in zip(gradients, parameters, strict=True) if g is not None]


def _wanted(
    engine: StepEngine, call: str, missing: Sequence[int], parameters: Sequence[Parameter]
) -> list[int]:
    """Those of the missing gradients that some other replica has."""
    here = np.ones(len(parameters), np.uint8)
    here[list(missing)] = 0
    there = engine.coordinator.gather(f"{call}, looking for gradients,", here)
    anywhere = np.bitwise_or.reduce(there)
    return [i for i in missing if anywhere[i]]
