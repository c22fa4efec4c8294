"""Updates that are Python code: each variable's is run by one replica of the node, its owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distopt.comm import Communicator
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["VariableUpdate", "SavedArray", "constrain", "owners", "run_owned"]

#: A variable, all variables that its update writes, and the update.
VariableUpdate = tuple[Variable, Sequence[Variable], Callable[[], None]]
#: Memory that was written to, and what stood there.
SavedArray = tuple[Array, Array]


def owners(costs: Sequence[float], parts: int) -> list[int]:
    """Deals variables out to ``parts`` replicas, the costliest first, each to the least loaded.

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
    """Runs each update on its owner, which writes to the memory that all of the node see.

    If one raises, what they and earlier updates have written is put back on all replicas.

    Args:
        node: the replicas that share the variables.
        job: all replicas that make the step; an error of one is raised on all.
        updates: the same ones, in the same order, on all of them.
        saved: what this replica has written before in this step, in the order of writing.
        costs: what each update costs, the same on all of them; the sizes of the variables if empty.
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
        v.storage.changed()  # also where another replica wrote
    if error is not None:
        raise error
    if failed:
        raise RuntimeError(  # after ReplicaFailed it would forget slots that the other keeps
            f"nothing was applied, because replica {failed[0]} could not update its variables: "
            f"{words[failed[0]].decode()}"
        )


def constrain(variable: Variable) -> None:
    """Assigns what the variable's constraint makes of it, if it has one; Python code that may raise."""
    if variable.constraint is not None:
        variable.assign(variable.constraint(variable))


def _write_through(variables: Sequence[Variable], on: bool) -> None:
    for v in variables:
        v.storage.write_through = on
