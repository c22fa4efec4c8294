"""ParameterVariable: the Variable of a parameter of another framework."""

from __future__ import annotations

from distopt.core.variable import Variable

__all__ = ["ParameterVariable"]


class ParameterVariable(Variable):
    """A Variable with the name of the parameter, without TensorFlow's suffix ``":0"``."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self._name
