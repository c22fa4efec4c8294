"""ReduceOp: how values of replicas become one."""

from __future__ import annotations

import enum

__all__ = ["ReduceOp"]


class ReduceOp(enum.Enum):
    """The ways to reduce values over replicas."""

    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"

    @staticmethod
    def from_any(op: ReduceOp | str) -> ReduceOp:
        """Returns a ReduceOp from itself or its name, in upper or lower case.

        Raises:
            ValueError: the op is unknown.
        """
        if isinstance(op, ReduceOp):
            return op
        try:
            return ReduceOp(str(op).lower())
        except ValueError:
            known = ", ".join(repr(o.value) for o in ReduceOp)
            raise ValueError(f"{op!r} is not a valid ReduceOp; use one of {known}") from None
