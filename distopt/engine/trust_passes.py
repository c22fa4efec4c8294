"""The two passes of the executors of a plan whose rules have trust ratios."""

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
    """Gets the executors ready for a first pass; collective.

    Args:
        reduce: knows the replicas.
        plan: that of the step.
        coefficients: those of the plan's rules.

    Returns:
        for each rule the coefficients of its first pass.
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
    """Their second pass, when this replica has made their first; collective.

    Args:
        reduce: knows the replicas.
        executors: those of a plan, with the places of their rules.
        coefficients: those of the plan's rules.
    """
    waiting = [(kind, e) for kind, e in executors if isinstance(e, TrustRatioExecutor)]
    if waiting:
        reduce.node.barrier()  # all squares are there
        for kind, executor in waiting:
            executor.adapt(coefficients[kind])
