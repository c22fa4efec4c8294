"""Exclusions: the variables to which something in an optimizer does not apply."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from distopt.core.checks import as_sequence, shown
from distopt.core.variable import Variable

__all__ = ["Exclusions"]


class Exclusions:
    """A set of variables, given as objects and as patterns of their names.

    A copied or unpickled set identifies the variables by name, shape and dtype, because a copied optimizer
    trains copies of the variables.

    Args:
        call: the optimizer's method that calls :meth:`set`, for messages.
    """

    def __init__(self, call: str) -> None:
        self._call = call
        self._variables: frozenset[Variable] = frozenset()
        self._kinds: frozenset[tuple[Any, ...]] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def set(self, variables: Iterable[Variable] | None, names: Iterable[str] | None) -> None:
        """Replaces what was excluded before.

        Args:
            variables: variables.
            names: regular expressions that are searched in the names of variables, without ``":0"``.

        Raises:
            TypeError: something that is not a variable, or not a str.
            ValueError: an invalid regular expression.
        """
        listed = [] if variables is None else list(as_sequence(variables, "var_list"))
        for variable in listed:
            if not isinstance(variable, Variable):
                raise TypeError(f"{self._call}(): var_list holds distopt.Variable, got {shown(variable)}")
        patterns = [] if names is None else list(as_sequence(names, "var_names"))
        for pattern in patterns:
            self._check_pattern(pattern)
        self._variables, self._kinds = frozenset(listed), frozenset()
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __contains__(self, variable: Variable) -> bool:
        if variable in self._variables or _kind(variable) in self._kinds:
            return True
        return self._pattern is not None and self._pattern.search(_name(variable)) is not None

    def __bool__(self) -> bool:
        return bool(self._variables or self._kinds or self._pattern)

    def names(self) -> list[str]:
        """For descriptions: names of variables, then patterns."""
        names = {_name(v) for v in self._variables} | {kind[0] for kind in self._kinds}
        return [*sorted(names), *([self._pattern.pattern] if self._pattern else [])]

    def _check_pattern(self, pattern: Any) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"{self._call}(): var_names holds str, got {shown(pattern)}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{self._call}(): {pattern!r} in var_names is not a regular expression: {error}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        kinds = self._kinds.union(map(_kind, self._variables))
        return {**vars(self), "_variables": frozenset(), "_kinds": kinds}


def _name(variable: Variable) -> str:
    return variable.name.removesuffix(":0")


def _kind(variable: Variable) -> tuple[Any, ...]:
    return _name(variable), variable.shape, variable.dtype.str
