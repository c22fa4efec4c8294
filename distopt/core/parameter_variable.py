"""ParameterVariable: what stands for a parameter of another framework."""

from __future__ import annotations

from distopt.core.variable import Variable

__all__ = ["ParameterVariable"]


class ParameterVariable(Variable):
    """A Variable that has the parameter's name as it is, without TensorFlow's ``":0"``."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """As its framework has it."""
        return self._name
