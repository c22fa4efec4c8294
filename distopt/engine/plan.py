"""StepPlan: the precomputed data of a list of variables that stay the same from step to step."""

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

#: Variables of one kind have the same rule and coefficients: a key that the optimizer chooses, and the dtype.
Kind: TypeAlias = "tuple[Hashable, np.dtype[Any]]"

#: The most plans that a cache keeps: for one optimizer, and for one list of variables.
_MOST_PLANS = 32


def device_and_dtype(variable: Variable) -> Kind:
    """The kind of a variable if an optimizer has the same hyperparameters for all variables."""
    return variable.device, variable.dtype


class StepPlan:
    """The plan of one replica for a list of variables, to which it keeps no references.

    Args:
        variables: the variables.
        sparse: the indices of variables with sparse gradients.
        kind_of: returns the kind of a variable.

    Attributes:
        specs: the expected dtypes and shapes of dense gradients; reads their addresses.
        kinds: the distinct kinds (see ``Kind``), in the order of their first variables.
        dtypes: the dtype of each kind.
        which: for each variable, the index of its kind.
        distinct: whether no variable is in the list twice.
        sizes: for each variable, its number of elements if its gradient is dense, else 0.
        compiled: whether all dtypes are float32 or float64, which the compiled code supports.
        constrained: the indices of variables that have a constraint.
        first_executors: how many executors update variables with a constraint. They come first in
            ``executors``: a constraint may raise, and then the step is rolled back.
        rules: the update rule of each kind; empty before the first step.
        slots: for each variable, its slots.
        averages: for each variable, its moving average, in the same kind of memory; empty without averages.
        fingerprint: a hash of names, shapes, dtypes and rules, the same on all replicas.
        executors: ``(kind, executor)`` for dense updates: one executor for each kind's variables with a
            constraint, and one for those without, if there are any.
        adapts: whether some rule is a TrustRatioRule.
        seen: ``Placement.moves`` when all variables were last known to be in shared memory; -1 before that.
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

        self.specs = ArraySpecs(arrays if all(dtype.kind == "f" for dtype in self.dtypes) else ())
        #: The plan whose gradients are all dense: it keeps its siblings, the plans with sparse gradients. A
        #: weak reference, so that there is no reference cycle and memory is freed at once.
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
        """Sets the rule of each kind, and the slots and, if there are any, the average of each variable."""
        self.rules, self.slots, self.averages = rules, slots, averages
        self.adapts = any(isinstance(rule, TrustRatioRule) for rule in rules)
        self._board_memory = None
        self.fingerprint = fingerprint.of_rules(variables, rules, self.which)
        self.executors, self._groups, self.first_executors, self.seen = (), (), 0, -1
        self._siblings = {}

    def with_sparse(self, variables: Sequence[Variable], sparse: tuple[int, ...]) -> StepPlan:
        """The plan for the same variables, where the gradients at the indices ``sparse`` are sparse."""
        root = self._root() or self
        if sparse == root.sparse:
            return root
        plan = root._siblings.get(sparse)
        if plan is None:
            if len(root._siblings) == _MOST_PLANS:
                root._siblings.clear()
            plan = root._siblings[sparse] = StepPlan(variables, sparse, self._kind_of)
            plan.set_rules(variables, root.rules, root.slots, root.averages)
            plan._root = root._root
        return plan

    def state(self, variables: Sequence[Variable]) -> list[Variable]:
        """A flat list: each variable, followed by its slots; then the averages."""
        state = [v for variable, own in zip(variables, self.slots, strict=True) for v in (variable, *own)]
        return [*state, *self.averages]

    def columns(self, variables: Sequence[Variable]) -> list[list[Variable]]:
        """The variables, their first slots, their second slots, ...: lists to allocate contiguously."""
        most = max(map(len, self.slots), default=0)
        slots = [[own[k] for own in self.slots if len(own) > k] for k in range(most)]
        return [list(variables), *slots, *([list(self.averages)] if self.averages else [])]

    def place(self, variables: Sequence[Variable], parameters: SharedParameters) -> None:
        """Creates the executors, once all variables and slots are in their final memory; collective."""
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
        """The boards on which the node's replicas share sums of squares; collective.

        Returns:
            the board of gradients and, if the plan ``adapts``, those of parameters and of directions.
        """
        # A plan does not own this memory: allocating it is collective, and caches of plans may differ.
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
        # Creating an executor is collective, so keep one that is still valid: other replicas keep theirs.
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

    Plans are dropped with the replica's engine, because they keep its shared memory alive.

    Args:
        kind_of: returns the kind of a variable. If its results change, call :meth:`clear`.
    """

    def __init__(self, kind_of: Callable[[Variable], Kind] = device_and_dtype) -> None:
        self._kind_of = kind_of
        self._plans: WeakKeyDictionary[object, _Plans] = WeakKeyDictionary()

    def find(self, engine: object, variables: Sequence[Variable]) -> StepPlan:
        """The plan for these variables: the same object each time, if their order is the same.

        Args:
            engine: the replica's engine; None in cross-replica context.
            variables: the variables.
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
    """An LRU cache of one replica's plans; the key is the ``id`` of each variable."""

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
            if len(self._plans) > _MOST_PLANS:
                self._forget(next(iter(self._plans)))
        else:
            self._plans.move_to_end(key)
        return plan

    def _watch(self, variables: Sequence[Variable], key: tuple[int, ...]) -> None:
        """Drops the plan when one of the variables is deleted, because Python reuses ids."""
        cache = weakref.ref(self)

        def end(_: object) -> None:
            if (alive := cache()) is not None:
                alive._forget(key)

        self._watched[key] = [weakref.ref(variable, end) for variable in variables]

    def _forget(self, key: tuple[int, ...]) -> None:
        self._plans.pop(key, None)
        self._watched.pop(key, None)
