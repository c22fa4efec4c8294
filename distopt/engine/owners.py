"""Updates in Python code: one replica of the node, the owner, runs the update of each variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distopt.comm import Communicator
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["VariableUpdate", "SavedArray", "constrain", "owners", "run_owned"]

#: A variable, all variables that its update writes, and the update.
VariableUpdate = tuple[Variable, Sequence[Variable], Callable[[], None]]
#: Memory that was overwritten, and its old values.
SavedArray = tuple[Array, Array]


def owners(costs: Sequence[float], parts: int) -> list[int]:
    """Assigns variables to ``parts`` replicas: in order of decreasing cost, each to the least loaded one.

    >>> owners([5, 3, 3], 2)
    [0, 1, 1]
    """
    load = [0.0] * parts
    result = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        result[i] = min(range(parts), key=lambda p: (load[p], p))
        load[result[i]] += max(costs[i], 1)
    return result


def run_owned(
    node: Communicator,
    job: Communicator,
    updates: Sequence[VariableUpdate],
    saved: Sequence[SavedArray] = (),
    costs: Sequence[float] = (),
) -> None:
    """Runs each update on its owner, which writes to the shared memory of the node; collective.

    If an update raises, all replicas restore the values from before the step, and raise too.

    Args:
        node: the replicas that share the variables.
        job: all replicas that make the step.
        updates: the same ones, in the same order, on all replicas.
        saved: the memory that this replica has overwritten in this step before, in order.
        costs: the relative cost of each update, the same on all replicas; by default the variable's size.
    """
    cost: dict[int, float] = {}
    for (v, _, _), each in zip(updates, costs or [v.size for v, _, _ in updates], strict=True):
        cost[id(v)] = cost.get(id(v), 0) + each
    owner = dict(zip(cost, owners(list(cost.values()), node.size), strict=True))
    mine = [each for each in updates if owner[id(each[0])] == node.rank]
    before = {id(v): (v, as_array(v).copy()) for _, written, _ in mine for v in written}
    error: BaseException | None = None
    try:
        for _, written, run in mine:
            _write_through(written, True)
            try:
                run()
            finally:
                _write_through(written, False)
    except BaseException as problem:
        error = problem
    words = job.gather_bytes(repr(error).encode() if error else b"")
    failed = [replica for replica, word in enumerate(words) if word]
    if failed:
        for v, value in before.values():
            as_array(v)[...] = value
        node.barrier()
        for memory, value in reversed(saved):
            memory[...] = value
        node.barrier()
    for v in {id(v): v for _, written, _ in updates for v in written}.values():
        v.storage.changed()  # also if another replica wrote it
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(  # not ReplicaFailed: after that, this replica would drop slots that others keep
            f"nothing was applied, because replica {failed[0]} could not update its variables: "
            f"{words[failed[0]].decode()}"
        )


def constrain(variable: Variable) -> None:
    """Applies the variable's constraint to it, if it has one. The constraint may raise any error."""
    if variable.constraint is not None:
        variable.assign(variable.constraint(variable))


def _write_through(variables: Sequence[Variable], on: bool) -> None:
    """Sets whether assignments write to shared memory directly, instead of to a private copy."""
    for v in variables:
        v.storage.write_through = on
