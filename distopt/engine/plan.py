"""StepPlan: all that a step needs to know of its variables and that stays the same from step to step."""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from distopt.collectives import ShardReduce
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine import fingerprint
from distopt.engine.compiled import COMPILED
from distopt.engine.executor import Executor, Place
from distopt.engine.norm_board import NormBoard, pieces_of
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.trust_executor import TrustRatioExecutor
from distopt.engine.trust_ratio import AnyRule, TrustRatioRule
from distopt.typing import Array

__all__ = ["Kind", "PlanCache", "StepPlan"]

#: What the coefficients of a step depend on: something an optimizer tells variables apart by, and the dtype.
Kind: TypeAlias = "tuple[Hashable, np.dtype[Any]]"

#: Plans of one optimizer, and plans for one list of variables.
_KEPT = 32


def device_and_dtype(variable: Variable) -> Kind:
    """The kind of a variable where an optimizer has the same numbers for all."""
    return variable.device, variable.dtype


class StepPlan:
    """The plan of one replica for a list of variables. It does not keep them alive.

    Args:
        variables: the list.
        sparse: the places of those whose gradients are sparse.
        kind_of: the kind of a variable.

    Attributes:
        specs: what plain gradients look like, and where they lie.
        kinds: what variables with the same coefficients have in common (see ``Kind``), in the order of their
            first variables.
        dtypes: for each kind its dtype.
        which: for each variable the place of its kind among them.
        distinct: whether no variable is there twice.
        sizes: the elements of those that get a dense update; 0 for others.
        compiled: whether compiled code takes all the dtypes.
        constrained: the places of variables that have a constraint.
        first_executors: how many executors update variables that have one. They come first: a constraint may
            raise, and then the step is taken back.
        rules: for each kind the rule in force; none before the first step.
        slots: for each variable its rule's slots.
        averages: for each variable its moving average, which lies where they do; none without averages.
        fingerprint: a hash of names, shapes, dtypes and rules, the same on every replica.
        executors: what makes the dense updates, one for each kind that has some, with the kind's place.
        adapts: whether some of the rules are TrustRatioRules.
        seen: value of ``Placement.moves`` when all were last seen where the replicas share them; -1: never.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        sparse: tuple[int, ...] = (),
        kind_of: Callable[[Variable], Kind] = device_and_dtype,
    ) -> None:
        arrays = [as_array(variable) for variable in variables]
        each = [kind_of(variable) for variable in variables]
        kinds = {kind: k for k, kind in enumerate(dict.fromkeys(each))}
        self.sparse, self._kind_of = sparse, kind_of
        self.kinds = tuple(kinds)
        self.dtypes = tuple([dtype for _, dtype in kinds])
        self.which = tuple([kinds[kind] for kind in each])
        self.distinct = len(set(map(id, variables))) == len(variables)
        rows = set(sparse)
        self.sizes = tuple([0 if i in rows else array.size for i, array in enumerate(arrays)])
        self._squares = 8 * pieces_of(self.sizes)
        self.compiled = set(self.dtypes) <= COMPILED
        self.constrained = tuple([i for i, v in enumerate(variables) if v.constraint is not None])
        from distopt.collectives.array_specs import ArraySpecs  # with compiled code, which takes time to load

        #: What gradients look like that are plain arrays.
        self.specs = ArraySpecs(arrays if all(dtype.kind == "f" for dtype in self.dtypes) else ())
        #: The plan for plain gradients keeps the others. None keeps itself, so memory goes at once.
        self._root = weakref.ref(self)
        self._siblings: dict[tuple[int, ...], StepPlan] = {}
        self.rules: tuple[AnyRule, ...] = ()
        self.adapts = False
        self.slots: tuple[tuple[Variable, ...], ...] = ()
        self.averages: tuple[Variable, ...] = ()
        self.fingerprint = 0
        self.executors: tuple[tuple[int, Executor], ...] = ()
        self.first_executors = 0
        self._groups: tuple[tuple[bool, int], ...] = ()
        self._boards: tuple[NormBoard, ...] = ()
        self._board_memory: Array | None = None
        self.seen = -1

    def set_rules(
        self,
        variables: Sequence[Variable],
        rules: tuple[AnyRule, ...],
        slots: tuple[tuple[Variable, ...], ...],
        averages: tuple[Variable, ...] = (),
    ) -> None:
        """Takes the rules in force, with the slots and the average, if there are any, of each variable."""
        self.rules, self.slots, self.averages = rules, slots, averages
        self.adapts = any(isinstance(rule, TrustRatioRule) for rule in rules)
        self._board_memory = None
        self.fingerprint = fingerprint.of_rules(variables, rules, self.which)
        self.executors, self._groups, self.first_executors, self.seen = (), (), 0, -1
        self._siblings = {}

    def with_sparse(self, variables: Sequence[Variable], sparse: tuple[int, ...]) -> StepPlan:
        """The plan for the same variables, if the gradients at other places are sparse."""
        root = self._root() or self
        if sparse == root.sparse:
            return root
        plan = root._siblings.get(sparse)
        if plan is None:
            if len(root._siblings) == _KEPT:
                root._siblings.clear()
            plan = root._siblings[sparse] = StepPlan(variables, sparse, self._kind_of)
            plan.set_rules(variables, root.rules, root.slots, root.averages)
            plan._root = root._root
        return plan

    def state(self, variables: Sequence[Variable]) -> list[Variable]:
        """Each variable, followed by its slots; then the averages."""
        state = [v for variable, own in zip(variables, self.slots, strict=True) for v in (variable, *own)]
        return [*state, *self.averages]

    def columns(self, variables: Sequence[Variable]) -> list[list[Variable]]:
        """The variables, then their first slots, their second slots, ...: what should lie side by side."""
        most = max(map(len, self.slots), default=0)
        slots = [[own[k] for own in self.slots if len(own) > k] for k in range(most)]
        return [list(variables), *slots, *([list(self.averages)] if self.averages else [])]

    def place(self, variables: Sequence[Variable], parameters: SharedParameters) -> None:
        """Works out who updates what, when all variables and slots lie where they stay."""
        known = dict(zip(self._groups, self.executors, strict=True))
        groups, executors = [], []
        for bound in (True, False):
            for kind in range(len(self.dtypes)):
                sizes = [
                    size if self.which[i] == kind and bound == (i in self.constrained) else 0
                    for i, size in enumerate(self.sizes)
                ]
                if any(sizes):
                    places = [
                        [_place(v, parameters) for v in (variable, *self.slots[i])] if sizes[i] else []
                        for i, variable in enumerate(variables)
                    ]
                    before = known.get((bound, kind))
                    groups.append((bound, kind))
                    executors.append((kind, self._executor(kind, sizes, places, parameters, before)))
        self._groups, self.executors = tuple(groups), tuple(executors)
        self.first_executors = sum(bound for bound, _ in groups)

    def norm_boards(self, reduce: ShardReduce) -> tuple[NormBoard, ...]:
        """What a step needs where norms have to be known; collective.

        Returns:
            the board of gradients, and those of parameters and of directions if the plan ``adapts``.
        """
        # Their memory is not the plan's: others may still have a plan that is made anew here.
        count = 3 if self.adapts else 1
        memory = reduce.scratch.of(count * self._squares)
        if self._board_memory is not memory:
            parts = [memory[k * self._squares : (k + 1) * self._squares] for k in range(count)]
            self._boards = tuple([NormBoard(self.sizes, reduce.node, part) for part in parts])
            self._board_memory = memory
        return self._boards

    def _executor(
        self,
        kind: int,
        sizes: list[int],
        places: list[list[Place]],
        parameters: SharedParameters,
        before: tuple[int, Executor] | None,
    ) -> Executor:
        # Making one is collective, and others may see no reason to make it anew.
        if before is not None and before[1].is_at(places):
            return before[1]
        rule, dtype = self.rules[kind], self.dtypes[kind]
        if isinstance(rule, TrustRatioRule):
            return TrustRatioExecutor(rule, dtype, tuple(sizes), places, parameters.reduce)
        return Executor(rule, dtype, tuple(sizes), places, parameters.reduce)


def _place(variable: Variable, parameters: SharedParameters) -> Place:
    found = parameters.of(variable)
    return (as_array(variable).reshape(-1), 0) if found is None else (found.base, found.offset)


class PlanCache:
    """The plans of one optimizer, for each replica that uses it.

    Plans end with the replica's engine, since they hold on to the memory that its replicas share.

    Args:
        kind_of: the kind of a variable; after another answer the plans are to be cleared.
    """

    def __init__(self, kind_of: Callable[[Variable], Kind] = device_and_dtype) -> None:
        self._kind_of = kind_of
        self._plans: WeakKeyDictionary[object, _Plans] = WeakKeyDictionary()

    def find(self, engine: object, variables: Sequence[Variable]) -> StepPlan:
        """The plan for these variables, the same object as long as they come in this order.

        Args:
            engine: the replica's; None between replicas.
            variables: the list.
        """
        owner = self if engine is None else engine
        plans = self._plans.get(owner)
        if plans is None:
            plans = self._plans[owner] = _Plans(self._kind_of)
        return plans.find(variables)

    def clear(self) -> None:
        """Forgets all plans."""
        self._plans.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> PlanCache:
        return PlanCache(copy.deepcopy(self._kind_of, memo))  # bound to the optimizer's copy

    def __reduce__(self) -> Any:
        return PlanCache, (self._kind_of,)


class _Plans:
    """The plans of one replica, found by the identity of the variables; those last used stay."""

    def __init__(self, kind_of: Callable[[Variable], Kind]) -> None:
        self._kind_of = kind_of
        self._plans: OrderedDict[tuple[int, ...], StepPlan] = OrderedDict()
        self._watched: dict[tuple[int, ...], list[weakref.ref[Variable]]] = {}

    def find(self, variables: Sequence[Variable]) -> StepPlan:
        key = tuple(map(id, variables))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = StepPlan(variables, kind_of=self._kind_of)
            self._watch(variables, key)
            if len(self._plans) > _KEPT:
                self._forget(next(iter(self._plans)))
        else:
            self._plans.move_to_end(key)
        return plan

    def _watch(self, variables: Sequence[Variable], key: tuple[int, ...]) -> None:
        """Ends the plan when one of the variables is gone, since numbers of objects come again."""
        cache = weakref.ref(self)

        def end(_: object) -> None:
            if (alive := cache()) is not None:
                alive._forget(key)

        self._watched[key] = [weakref.ref(variable, end) for variable in variables]

    def _forget(self, key: tuple[int, ...]) -> None:
        self._plans.pop(key, None)
        self._watched.pop(key, None)
