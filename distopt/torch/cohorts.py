"""Cohorts: parameters of a group with the same step count, whose updates use the same coefficients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distopt.core.variable import Variable

__all__ = ["Cohort", "Cohorts"]


class Cohort:
    """Parameters of one group with the same scalar state.

    Attributes:
        group: the index of their group in ``param_groups``.
        scalars: their scalar state by name, such as the step count. See ParameterUpdate.
    """

    __slots__ = ("group", "scalars")

    def __init__(self, group: int, scalars: Mapping[str, float]) -> None:
        self.group = group
        self.scalars = dict(scalars)


class Cohorts:
    """The cohorts of an optimizer's parameters.

    PyTorch counts steps per parameter. So parameters that miss a step are split off into another cohort,
    since their bias corrections then differ.
    """

    def __init__(self) -> None:
        self._of: dict[Variable, Cohort] = {}
        #: The ids of the variables of the last step, for which :meth:`join` has nothing to do.
        self._together: list[int] = []

    def of(self, variable: Variable) -> Cohort:
        """The cohort of a variable."""
        return self._of[variable]

    def most_steps(self) -> int:
        """The largest step count in the state of any parameter; 0 if the state does not count steps."""
        return int(max((cohort.scalars.get("step", 0) for cohort in self._of.values()), default=0))

    def put(self, variables: Iterable[Variable], group: int, scalars: Mapping[str, float]) -> None:
        """Puts variables into a new cohort, with this group index and scalar state."""
        cohort = Cohort(group, scalars)
        self._of.update(dict.fromkeys(variables, cohort))
        self._together = []

    def remove(self, variable: Variable) -> Cohort:
        """Removes a variable and returns its cohort."""
        self._together = []
        return self._of.pop(variable)

    def join(self, variables: Sequence[Variable]) -> bool:
        """Splits and merges cohorts so that a step of ``variables`` updates only whole cohorts.

        Variables of the step with the same group and scalars end in one cohort, without any other variable.
        Equal cohorts are merged, so that all replicas have the same cohorts even after an event, such as a
        failed step, that only some of them saw.

        Returns:
            Whether any cohort changed.
        """
        together = list(map(id, variables))
        if together == self._together:  # as in most steps
            return False
        alike: dict[tuple[Any, ...], list[Variable]] = {}
        for variable in variables:
            cohort = self._of[variable]
            alike.setdefault((cohort.group, *cohort.scalars.items()), []).append(variable)
        sizes = Counter(self._of.values())
        changed = False
        for (group, *pairs), members in alike.items():
            if len(members) != sizes[self._of[members[0]]] or len(set(map(self.of, members))) > 1:
                self.put(members, group, dict(pairs))
                changed = True
        self._together = together
        return changed
