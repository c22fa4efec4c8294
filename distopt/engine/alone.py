"""Updates of one replica's own copies with its own gradients."""

from __future__ import annotations

from functools import partial

from distopt.comm import Communicator, SoloCommunicator
from distopt.core.indexed_slices import IndexedSlices
from distopt.engine import kernels, sparse
from distopt.engine.constraints import constrain
from distopt.engine.owners import run_owned
from distopt.engine.update import Update, Updates

__all__ = ["update_alone"]


def update_alone(job: Communicator, updates: Updates) -> None:
    """Updates memory that is this replica's own; first what has a constraint, which may raise.

    Args:
        job: all replicas: where one's constraint raises, none makes the step.
        updates: the same variables on all replicas.
    """
    bound = [u for u in updates if u.variable.constraint is not None]
    if bound:
        jobs = [(u.variable, (u.variable, *u.slots), partial(_update, u)) for u in bound]
        run_owned(SoloCommunicator(), job, jobs)
    for u in updates:
        if u.variable.constraint is None:
            _update(u)


def _update(u: Update) -> None:
    if isinstance(u.gradient, IndexedSlices):
        sparse.apply_rows(u, *sparse.summed(u.gradient), SoloCommunicator())
    else:
        flat, *slots = (v._array().reshape(-1) for v in (u.variable, *u.slots))
        kernels.dense(u.rule, flat, u.gradient.ravel(), tuple(slots), u.coefficients)
    for v in (u.variable, *u.slots):
        v._touch()
    constrain(u.variable)
