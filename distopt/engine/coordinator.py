"""StepCoordinator: the checks and exchanges between the stages of a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from distopt.core.tensor import as_array
from distopt.core.variable import Variable, VariableSynchronization
from distopt.distribute import ReplicaContext
from distopt.engine import fingerprint, sparse
from distopt.engine.audit import audit
from distopt.engine.batch import GradientBatch
from distopt.engine.error_barrier import ErrorBarrier, broadcast_error
from distopt.engine.shared_parameters import SharedParameters
from distopt.typing import Array

__all__ = ["StepCoordinator"]

_DRIFTED = "Something changed it on one replica only, such as unaggregated gradients or an assignment"
_NOT_EQUAL = (
    "Nothing was applied. Aggregators and transformers must return the same on all replicas; gradients that "
    "are each replica's own go to apply_gradients(..., experimental_aggregate_gradients=False)"
)


class StepCoordinator:
    """Synchronizes one replica with the others. All methods except :meth:`error_barrier` are collective.

    ``call`` is the name of the call, for messages, e.g. ``"apply_gradients of Adam"``.

    Args:
        context: the replica's context.
        parameters: the memory of its variables.

    Attributes:
        step_key: the number of the current step, to be combined with the fingerprint of its headers.
    """

    def __init__(self, context: ReplicaContext, parameters: SharedParameters) -> None:
        self._context, self._parameters = context, parameters
        self.step_key = 0

    def check(self, call: str, variables: Sequence[Variable], flags: int = 0) -> list[int]:
        """Exchanges a header: checks that all replicas are in this call, on these variables, without error.

        Returns:
            the flags of all replicas.
        """
        header_key = fingerprint.of_variables(variables) ^ self.step_key
        describe = partial(fingerprint.sentence, call, variables)
        return self._context.collective_check.check(call, header_key, describe, flags=flags)

    def unified_pairs(self, call: str, batch: GradientBatch) -> Sequence[tuple[Any, Variable]]:
        """A batch's pairs for aggregation in Python code; dense where any replica's gradient is dense."""
        several = self._context.num_replicas_in_sync > 1
        if several and any(self.check(call, batch.variables, int(bool(batch.sparse)))):
            batch = sparse.densify_mixed(self._context.comm, batch)
        return batch.pairs()

    def gather_messages(self, call: str, message: str) -> dict[int, str]:
        """The messages of all replicas, by replica number, without empty ones.

        If all messages are empty, this costs one header.
        """
        call = f"{call}, checked,"
        flags = self._context.collective_check.check(call, self.step_key, lambda: call, flags=bool(message))
        if not any(flags):
            return {}
        own, several = message.encode(), self._context.num_replicas_in_sync > 1
        messages = self._context.comm.gather_bytes(own) if several else [own]
        return {replica: text.decode() for replica, text in enumerate(messages) if text}

    def gather(self, call: str, array: Array) -> list[Array]:
        """All-gathers an array, of the same shape and dtype on all replicas. Returns them by replica."""
        self._context.collective_check.check(call, self.step_key, lambda: call)
        return self._context.comm.all_gather(array)

    def error_barrier(self, call: str) -> ErrorBarrier:
        """A ``with`` block whose errors are raised on all replicas."""
        return ErrorBarrier(self._context, call)

    def broadcast_error(self, call: str, error: Exception) -> None:
        """Raises ``error`` here, and :exc:`ReplicaFailed` on the other replicas at their next header."""
        broadcast_error(self._context, call, error)

    def audit_gradients(self, call: str, pairs: Sequence[tuple[Any, Variable]]) -> None:
        """Audits the gradients that aggregators and transformers in Python returned."""
        audit(self._context, call, fingerprint.of_gradients(pairs), _NOT_EQUAL)

    def audit(self, call: str, state: Sequence[Variable], settings: str) -> None:
        """Audits state and settings; skips variables that all replicas share, and those that may differ."""
        parameters, shards = self._parameters, self._context.shards
        one_memory = parameters.shared and shards.cross.size == 1
        compared = [
            (repr(v.name), as_array(v))
            for v in state
            if v.synchronization is not VariableSynchronization.ON_READ
            and not parameters.released(v)
            and not (one_memory and parameters.of(v))
        ]
        audit(self._context, call, compared, _DRIFTED, settings)
