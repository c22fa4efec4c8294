"""Roster: a list of variables that steps come back to, found again by the variables' identity."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence

from distopt.core.variable import Variable
from distopt.engine.arrays import Flats, Layout
from distopt.typing import Array

__all__ = ["Roster"]

_KEPT = 32


class Roster:
    """What never changes of a list of variables; it does not keep them alive. :meth:`of` gives it.

    Args:
        variables: the list.

    Attributes:
        dtypes: the distinct dtypes, in the order of their first variables.
        which: for each variable the place of its dtype among them.
        first: for each dtype the place of its first variable.
        distinct: whether no variable is there twice.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        arrays = [variable._array() for variable in variables]
        kinds = {dtype: k for k, dtype in enumerate(dict.fromkeys(array.dtype for array in arrays))}
        self.dtypes = tuple(kinds)
        self.which = tuple([kinds[array.dtype] for array in arrays])
        self.first = tuple([self.which.index(k) for k in range(len(kinds))])
        self.distinct = len(set(map(id, variables))) == len(variables)
        self._trainable = all(dtype.kind == "f" for dtype in kinds)
        self._layout = Layout(arrays)

    @staticmethod
    def of(variables: Sequence[Variable]) -> Roster:
        """The roster of these variables, the same object as long as they come in this order."""
        key = tuple(map(id, variables))
        roster = _rosters.get(key)
        if roster is None:
            roster = _rosters[key] = Roster(variables)
            roster._watch(variables, key)
            if len(_rosters) > _KEPT:
                _rosters.popitem(last=False)
        else:
            _rosters.move_to_end(key)
        return roster

    def _watch(self, variables: Sequence[Variable], key: tuple[int, ...]) -> None:
        """Ends the roster when one of the variables is gone, since numbers of objects come again."""

        def end(_: object) -> None:
            _rosters.pop(key, None)

        self._watched = [weakref.ref(variable, end) for variable in variables]

    def fits(self, gradients: Sequence[Array]) -> Flats | None:
        """The gradients as flat arrays; None if they do not plainly fit: then look at them one by one.

        Args:
            gradients: one for each variable, of type ``numpy.ndarray`` itself.
        """
        return self._layout.fits(gradients) if self._trainable else None


_rosters: OrderedDict[tuple[int, ...], Roster] = OrderedDict()
