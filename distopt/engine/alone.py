"""Updates of one replica's own copies with its own gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

from distopt.comm import Communicator, SoloCommunicator
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable
from distopt.engine import kernels, sparse
from distopt.engine.batch import Gradient, GradientBatch
from distopt.engine.constraints import constrain
from distopt.engine.owners import Job, run_owned
from distopt.engine.plan import StepPlan
from distopt.engine.rule import Rule

__all__ = ["update_alone"]


def update_alone(
    job: Communicator, plan: StepPlan, batch: GradientBatch, coefficients: tuple[tuple[Any, ...], ...]
) -> None:
    """Updates memory that is this replica's own; first what has a constraint, which may raise.

    Args:
        job: all replicas: where one's constraint raises, none makes the step.
        plan: that of the batch.
        batch: the same variables on all replicas; one may come twice.
        coefficients: those of the plan's rules.
    """
    constrained: list[Job] = []
    others: list[Job] = []
    for i, (variable, gradient) in enumerate(zip(batch.variables, batch.gradients, strict=True)):
        kind, state = plan.which[i], (variable, *plan.slots[i])
        update = partial(_update, plan.rules[kind], state, gradient, coefficients[kind])
        (others if variable.constraint is None else constrained).append((variable, state, update))
    if constrained:
        run_owned(SoloCommunicator(), job, constrained)
    for _, _, run in others:
        run()


def _update(
    rule: Rule, state: tuple[Variable, ...], gradient: Gradient, coefficients: tuple[Any, ...]
) -> None:
    if isinstance(gradient, IndexedSlices):
        sparse.apply_rows(rule, state, coefficients, *sparse.summed(gradient), SoloCommunicator())
    else:
        w, *slots = (v._array().reshape(-1) for v in state)
        kernels.dense(rule, w, gradient.reshape(-1), tuple(slots), coefficients)
    for v in state:
        v._touch()
    constrain(state[0])
