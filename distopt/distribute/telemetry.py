"""Messages of a replica to distoptrun about the training, for its reports and metrics files."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Mapping
from typing import Any

from distopt.core.checks import as_count, shown
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import require_replica_context
from distopt.telemetry import MetricsLog, Telemetry

__all__ = ["log_metrics", "tell", "tell_metrics", "telemetry_of"]


def telemetry_of(context: ReplicaContext) -> Telemetry:
    """The channel of a replica to distoptrun; created at the first call."""
    found: Telemetry | None = context.attached.get(Telemetry)
    if found is None:
        found = context.attached[Telemetry] = Telemetry()
    return found


def tell(context: ReplicaContext, kind: str, **members: Any) -> None:
    """Sends a message about the whole job to distoptrun. Does nothing on replicas other than 0."""
    if context.replica_id_in_sync_group == 0:
        telemetry_of(context).send(kind, **members)


def tell_metrics(logs: Mapping[str, Any]) -> None:
    """Sends the numbers in ``logs``, the results of an epoch of ``fit``, as metrics."""
    context = require_replica_context("fit()")
    values = {name: float(value) for name, value in logs.items() if isinstance(value, (int, float))}
    tell(context, "metrics", step=context.collective_check.steps, values=values)


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Sends numbers such as the loss to ``distoptrun --report`` and ``--metrics``.

    Only the numbers of replica 0 are used; other replicas may call it or not. Without distoptrun it does
    nothing. ``fit`` calls it for each epoch. Numbers that arrive within a tenth of a second are averaged.

    Args:
        metrics: a dict from names to numbers. ``val_loss`` is plotted with ``loss``.
        step: the step of the numbers. By default the number of optimizer steps so far.

    Raises:
        TypeError: ``metrics`` is not a dict from names to numbers.
        RuntimeError: called in cross-replica context.
    """
    context = require_replica_context("log_metrics()")
    values = {}
    for name, value in metrics.items():
        try:
            values[str(name)] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"log_metrics() takes numbers; {name!r} is {shown(value)}") from None
    step = context.collective_check.steps if step is None else as_count(step, "log_metrics(): step", least=0)
    if context.replica_id_in_sync_group == 0 and telemetry_of(context).wanted:
        log: MetricsLog | None = context.attached.get(MetricsLog)
        if log is None:
            log = context.attached[MetricsLog] = MetricsLog(telemetry_of(context))
            weak = weakref.WeakMethod(log.flush)
            atexit.register(lambda: (flush := weak()) and flush())
        log.add(values, step)
