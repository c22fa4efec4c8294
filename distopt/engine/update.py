"""The updates of a step, after its header: from gradients to updated shards.

Variables with a constraint come first: a constraint may raise, and then the step is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, TypeAlias

from distopt.collectives import ShardReduce, Sums
from distopt.comm import Communicator, SoloCommunicator
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine import kernels, sparse, trust_passes
from distopt.engine.batch import Gradient, GradientBatch
from distopt.engine.epilogue import Epilogue
from distopt.engine.executor import Executor, Step
from distopt.engine.norm_board import Scales
from distopt.engine.overlap import Overlap
from distopt.engine.owners import SavedArray, VariableUpdate, constrain, run_owned
from distopt.engine.plan import StepPlan
from distopt.engine.rule import Rule
from distopt.engine.trust_ratio import AnyRule, TrustRatioRule, update_alone
from distopt.typing import Array

__all__ = [
    "Coefficients",
    "PlannedUpdate",
    "alone",
    "constrained",
    "sum_and_update",
    "unconstrained",
    "update_variable",
]

#: For each kind of a plan's variables, the rule's coefficients: scalars of the dtype that it computes in.
Coefficients: TypeAlias = tuple[tuple[Any, ...], ...]
PlannedUpdate: TypeAlias = tuple[StepPlan, GradientBatch, Coefficients]


def sum_and_update(
    reduce: ShardReduce,
    plan: StepPlan,
    batch: GradientBatch,
    coefficients: Coefficients,
    epilogue: Epilogue,
    staged: bool,
    overlap: Overlap | None = None,
    sums: Sums | None = None,
) -> None:
    """Sums this replica's shards over all replicas and updates them; collective.

    Args:
        reduce: sums shards.
        plan: the plan of the batch.
        batch: this replica's gradients.
        coefficients: the coefficients of the plan's rules.
        epilogue: the division and clip between sum and update.
        staged: whether all replicas have staged the first block.
        overlap: provides the sums, if gradients were sent before the step; else None.
        sums: sums shards over nodes; by default ``reduce``, which is exact.
    """
    begin, board = perf_counter_ns(), None
    if epilogue.needs_norms and plan.executors:
        board = plan.norm_boards(reduce)[0]
    first_pass = trust_passes.prepare(reduce, plan, coefficients) if plan.adapts else coefficients
    steps: list[Step] = []
    for kind, executor in plan.executors:
        steps.append(Step(executor, batch, first_pass[kind], epilogue, staged and not steps, board, sums))
    if overlap is not None:
        for which, block, total in overlap.totals(batch):
            steps[which].take(block, total)
    scales = None
    if board is not None and epilogue.clip is not None:
        for step, (_, executor) in zip(steps, plan.executors, strict=True):
            step.feed(executor.blocks)
        scales = board.scales(epilogue.clip, plan.dtypes[0])
    bound = plan.first_executors
    if plan.constrained:
        update = partial(_finish, reduce, plan, steps[:bound], plan.executors[:bound], coefficients, scales)
        _constrained(reduce, plan, batch, update, [])
    for i in plan.sparse:
        variable = batch.variables[i]
        rows = sparse.reduced(reduce.job, batch.rows(i), len(variable), epilogue.divisor)
        _apply_rows(reduce, plan, batch, i, coefficients, rows)
    _finish(reduce, plan, steps[bound:], plan.executors[bound:], coefficients, scales)
    if reduce.spans.on:
        reduce.spans.add(("X", "sum and update", begin, perf_counter_ns(), {}))


def constrained(
    reduce: ShardReduce,
    plan: StepPlan,
    batch: GradientBatch,
    coefficients: Coefficients,
    saved: list[SavedArray],
) -> None:
    """Updates the variables with a constraint from final gradients; collective.

    Args:
        reduce: the communicators of the job.
        plan: the plan of the batch.
        batch: the gradients, the same on all replicas.
        coefficients: the coefficients of the plan's rules.
        saved: the memory that this step has overwritten so far, with its old values, to roll the step back;
            this call appends to it.
    """
    if plan.constrained:
        first = plan.executors[: plan.first_executors]
        update = partial(_update_own, reduce, plan, first, batch, coefficients)
        _constrained(reduce, plan, batch, update, saved)


def unconstrained(
    reduce: ShardReduce, plan: StepPlan, batch: GradientBatch, coefficients: Coefficients
) -> None:
    """Updates the variables without a constraint; arguments as for :func:`constrained`."""
    for i in plan.sparse:
        _apply_rows(reduce, plan, batch, i, coefficients, sparse.summed(batch.rows(i)))
    _update_own(reduce, plan, plan.executors[plan.first_executors :], batch, coefficients)


def alone(job: Communicator, plan: StepPlan, batch: GradientBatch, coefficients: Coefficients) -> None:
    """Updates this replica's private copies of the variables from its own gradients.

    Args:
        job: all replicas: if a constraint raises on one of them, none makes the step.
        plan: the plan of the batch.
        batch: this replica's gradients of the same variables on all replicas; a variable may come twice.
        coefficients: the coefficients of the plan's rules.
    """
    bound: list[VariableUpdate] = []
    free: list[Callable[[], None]] = []
    for i, (variable, gradient) in enumerate(zip(batch.variables, batch.gradients, strict=True)):
        kind, state = plan.which[i], (variable, *plan.slots[i])
        update = partial(_update_copy, plan.rules[kind], state, gradient, coefficients[kind])
        if variable.constraint is None:
            free.append(update)
        else:
            bound.append((variable, state, update))
    if bound:
        run_owned(SoloCommunicator(), job, bound)
    for run in free:
        run()


def update_variable(
    rule: AnyRule, state: Sequence[Variable], gradient: Gradient, coefficients: tuple[Any, ...]
) -> None:
    """Updates a whole variable and its slots on this replica alone.

    Args:
        rule: the update rule.
        state: the variable and its slots.
        gradient: the final gradient, of the variable's shape and dtype.
        coefficients: the coefficients of the rule.
    """
    if isinstance(rule, TrustRatioRule):
        w, *slots = (as_array(v).reshape(-1) for v in state)
        dense = sparse.densified(gradient, state[0].shape)
        update_alone(rule, w, dense.reshape(-1), slots, coefficients)
    elif isinstance(gradient, IndexedSlices):
        sparse.apply_rows(rule, state, coefficients, *sparse.summed(gradient), SoloCommunicator())
    else:
        w, *slots = (as_array(v).reshape(-1) for v in state)
        kernels.dense(rule, w, gradient.reshape(-1), tuple(slots), coefficients)
    for v in state:
        v.storage.changed()


def _constrained(
    reduce: ShardReduce,
    plan: StepPlan,
    batch: GradientBatch,
    update: Callable[[], None],
    saved: list[SavedArray],
) -> None:
    """Runs ``update``, then the constraints. If one raises, all replicas restore what they overwrote.

    This comes before the other updates, so only the variables with a constraint need to be saved.
    """
    saved += [(array, array.copy()) for _, e in plan.executors[: plan.first_executors] for array in e.state()]
    update()
    reduce.node.barrier()
    variables = [batch.variables[i] for i in plan.constrained]
    for variable in variables:
        variable.storage.changed()
    run_owned(reduce.node, reduce.job, [(v, (v,), partial(constrain, v)) for v in variables], saved)


def _apply_rows(
    reduce: ShardReduce,
    plan: StepPlan,
    batch: GradientBatch,
    i: int,
    coefficients: Coefficients,
    rows: tuple[Array, Array],
) -> None:
    """Updates variable i from a reduced sparse gradient, ``(rows, indices)``."""
    kind, state = plan.which[i], (batch.variables[i], *plan.slots[i])
    rule = plan.rules[kind]
    assert isinstance(rule, Rule)  # a TrustRatioRule gets dense gradients
    sparse.apply_rows(rule, state, coefficients[kind], *rows, reduce.node)


def _finish(
    reduce: ShardReduce,
    plan: StepPlan,
    steps: Sequence[Step],
    executors: Sequence[tuple[int, Executor]],
    coefficients: Coefficients,
    scales: Scales | None,
) -> None:
    """Finishes the steps of some executors, with the second pass of trust ratios."""
    for step in steps:
        step.finish(scales)
    if plan.adapts:
        trust_passes.adapt(reduce, executors, coefficients)


def _update_own(
    reduce: ShardReduce,
    plan: StepPlan,
    executors: Sequence[tuple[int, Executor]],
    batch: GradientBatch,
    coefficients: Coefficients,
) -> None:
    """Updates this replica's shards of some executors from final gradients, with both passes."""
    first_pass = trust_passes.prepare(reduce, plan, coefficients) if plan.adapts else coefficients
    for kind, executor in executors:
        executor.update_own(batch, first_pass[kind])
    if plan.adapts:
        trust_passes.adapt(reduce, executors, coefficients)


def _update_copy(
    rule: AnyRule, state: Sequence[Variable], gradient: Gradient, coefficients: tuple[Any, ...]
) -> None:
    update_variable(rule, state, gradient, coefficients)
    constrain(state[0])
