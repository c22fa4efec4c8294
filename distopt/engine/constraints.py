"""Constraints: Python code that runs after a variable's update, and may raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from distopt.comm import Communicator
from distopt.core.variable import Variable
from distopt.engine.owners import Old, run_owned
from distopt.typing import Array

__all__ = ["constrain", "update_constrained"]


def update_constrained(
    node: Communicator,
    job: Communicator,
    variables: Sequence[Variable],
    memory: Sequence[Array],
    update: Callable[[], None],
    old: list[Old],
) -> None:
    """Updates what has a constraint, then constrains it; if that raises, all is put back on all replicas.

    This comes before the other updates, so that what has to be kept until then is little.

    Args:
        node: the replicas that share the variables.
        job: all replicas.
        variables: what has a constraint.
        memory: what this replica writes in the update.
        update: the update.
        old: what this replica has written so in this step, and what stood there; it grows.
    """
    old += [(part, part.copy()) for part in memory]
    update()
    node.barrier()
    for variable in variables:
        variable._touch()
    run_owned(node, job, [(v, (v,), partial(constrain, v)) for v in variables], old)


def constrain(variable: Variable) -> None:
    """Assigns what the variable's constraint makes of it, if it has one."""
    if variable.constraint is not None:
        variable.assign(variable.constraint(variable))
