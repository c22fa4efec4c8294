"""Constraints: Python code that runs after a variable's update, and may raise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from distopt.comm import Communicator
from distopt.core.variable import Variable
from distopt.engine.owners import Old, run_owned
from distopt.engine.plan import Group, Plan
from distopt.engine.update import Updates

__all__ = ["constrain", "update_constrained"]


def update_constrained(
    node: Communicator,
    job: Communicator,
    plan: Plan,
    updates: Updates,
    update: Callable[[Group], None],
    old: list[Old],
) -> None:
    """Updates what has a constraint, then constrains it; if that raises, all is put back on all replicas.

    This comes before the other updates, so that what has to be kept until then is little.

    Args:
        node: the replicas that share the variables.
        job: all replicas.
        plan: the step's.
        updates: likewise.
        update: updates a group.
        old: what this replica has written so in this step, and what stood there; it grows.
    """
    if not plan.bound:
        return
    for group in plan.constrained:
        old += [(memory, memory.copy()) for memory in group.state()]
        update(group)
    node.barrier()
    bound = [updates.variables[i] for i in plan.bound]
    for variable in bound:
        variable._touch()
    run_owned(node, job, [(v, (v,), partial(constrain, v)) for v in bound], old)


def constrain(variable: Variable) -> None:
    """Assigns what the variable's constraint makes of it, if it has one."""
    if variable.constraint is not None:
        variable.assign(variable.constraint(variable))
