"""The two passes of a step with trust ratios, for all executors of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distopt.collectives import ShardReduce
from distopt.engine.executor import Executor
from distopt.engine.plan import StepPlan
from distopt.engine.trust_executor import TrustRatioExecutor
from distopt.engine.trust_ratio import TrustRatioRule

__all__ = ["adapt", "prepare"]


def prepare(
    reduce: ShardReduce, plan: StepPlan, coefficients: tuple[tuple[Any, ...], ...]
) -> tuple[tuple[Any, ...], ...]:
    """Prepares the executors for the first pass; collective.

    Args:
        reduce: the communicators of the job.
        plan: the plan of the step.
        coefficients: the coefficients of the plan's rules.

    Returns:
        for each rule, the coefficients of its first pass.
    """
    if plan.executors:
        _, parameters, directions = plan.norm_boards(reduce)
        for _, executor in plan.executors:
            if isinstance(executor, TrustRatioExecutor):
                executor.prepare((parameters, directions))
    pairs = zip(plan.rules, coefficients, strict=True)
    return tuple(
        [rule.of_direction(c) if isinstance(rule, TrustRatioRule) else c for rule, c in pairs],
    )


def adapt(
    reduce: ShardReduce,
    executors: Sequence[tuple[int, Executor]],
    coefficients: tuple[tuple[Any, ...], ...],
) -> None:
    """Runs the second pass of executors, after this replica's first pass; collective.

    Args:
        reduce: the communicators of the job.
        executors: executors of a plan, each with the index of its rule.
        coefficients: the coefficients of the plan's rules.
    """
    waiting = [(kind, e) for kind, e in executors if isinstance(e, TrustRatioExecutor)]
    if waiting:
        reduce.node.barrier()  # until all replicas have written their sums of squares
        for kind, executor in waiting:
            executor.adapt(coefficients[kind])
