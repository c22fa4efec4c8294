"""GradientReader: collects the gradients of a step from the tensors, without copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.variable import Variable
from distopt.engine.step import StepEngine
from distopt.suggestions import did_you_mean
from distopt.torch.parameter import Parameter

__all__ = ["GradientReader"]

#: The values of the option ``unused``.
_UNUSED = ("error", "zero")
#: How many parameters without a gradient a message names.
_NAMED = 8


class GradientReader:
    """Reads the gradients of parameters.

    Args:
        unused: what to do about a parameter that has a gradient on some replicas only: ``"error"`` or
            ``"zero"``. See StepOptions.

    Attributes:
        absent: a text that names the trainable parameters without a gradient. It is part of the call's name,
            which replicas compare, so the error of a mismatch names them.

    Raises:
        ValueError: another value of ``unused``.
    """

    def __init__(self, unused: str) -> None:
        if unused not in _UNUSED:
            hint = did_you_mean(str(unused), _UNUSED)
            raise ValueError(f"unused must be 'error' or 'zero'; got {unused!r:.80}.{hint}")
        self._zero = unused == "zero"
        #: The positions of the parameters that :attr:`absent` describes.
        self._missing: list[int] = []
        self.absent = ""

    def pairs(
        self, engine: StepEngine, call: str, parameters: Sequence[Parameter]
    ) -> list[tuple[Any, Variable]]:
        """Returns (gradient, variable) for each parameter with a gradient.

        With ``unused="zero"``, a gradient that only other replicas have is a zero array here; the call is
        then collective.
        """
        gradients: list[Any] = [parameter.gradient() for parameter in parameters]
        missing = [i for i, gradient in enumerate(gradients) if gradient is None]
        if self._zero and engine.replicas > 1:
            for i in _on_other_replicas(engine, call, missing, parameters):
                gradients[i] = np.zeros(parameters[i].variable.shape, parameters[i].variable.dtype)
        elif missing != self._missing:
            self._missing = missing
            names = [parameters[i].variable.name for i in missing if parameters[i].tensor.requires_grad]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self.absent = f", without a gradient of {', '.join(names[:_NAMED])}{more}" if names else ""
        return [(g, p.variable) for g, p in zip(gradients, parameters, strict=True) if g is not None]


def _on_other_replicas(
    engine: StepEngine, call: str, missing: Sequence[int], parameters: Sequence[Parameter]
) -> list[int]:
    """Returns those of the positions ``missing`` whose gradient some other replica has; collective."""
    present = np.ones(len(parameters), np.uint8)
    present[list(missing)] = 0
    anywhere = np.bitwise_or.reduce(engine.coordinator.gather(f"{call}, looking for gradients,", present))
    return [i for i in missing if anywhere[i]]
