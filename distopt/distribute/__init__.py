"""The replicas of a job, and how to run code on them."""

from __future__ import annotations

from distopt.core import placement as _placement
from distopt.distribute import lifetime as _lifetime
from distopt.distribute import program as _program
from distopt.distribute.collective_lock import collective_call, tells_early_errors
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import current_frame as _current_frame
from distopt.distribute.frames import (
    get_replica_context,
    get_strategy,
    in_cross_replica_context,
    require_replica_context,
)
from distopt.distribute.frames import set_process_frame as _set_process_frame
from distopt.distribute.group import ReplicaGroup
from distopt.distribute.node_context import node_context, within_node
from distopt.distribute.placement import StrategyPlacement as _StrategyPlacement
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.replica_strategy import MPIStrategy
from distopt.distribute.strategy import Strategy
from distopt.distribute.telemetry import log_metrics, telemetry_of, tell, tell_metrics
from distopt.distribute.timing import Report, TimedIterable, report, saving, step_stats, timed
from distopt.distribute.values import PerReplica
from distopt.distribute.virtual import VirtualStrategy

__all__ = [
    "MPIStrategy",
    "PerReplica",
    "ReduceOp",
    "ReplicaContext",
    "ReplicaGroup",
    "Report",
    "Strategy",
    "TimedIterable",
    "VirtualStrategy",
    "collective_call",
    "get_replica_context",
    "get_strategy",
    "has_strategy",
    "in_cross_replica_context",
    "log_metrics",
    "node_context",
    "report",
    "require_replica_context",
    "saving",
    "step_stats",
    "telemetry_of",
    "tell",
    "tell_metrics",
    "tells_early_errors",
    "timed",
    "within_node",
]


def has_strategy() -> bool:
    """Whether a strategy other than the default is active.

    At the top level of a program, this is true if the job has more than one replica.
    """
    frame = _current_frame()
    if frame.kind == "base" and frame.strategy.num_replicas_in_sync == 1:
        return False
    return frame.strategy is not _program.default_strategy()


_lifetime.install()
_set_process_frame(_program.program_frame)
_placement.install(_StrategyPlacement())
