"""Reduction: how the losses of a batch become one number."""

from __future__ import annotations

from distopt.core.checks import shown

__all__ = ["Reduction"]


class Reduction:
    """The names of reductions.

    Attributes:
        AUTO: SUM_OVER_BATCH_SIZE.
        NONE: no reduction: one loss for each sample.
        SUM: their sum.
        SUM_OVER_BATCH_SIZE: their sum divided by their number. Weights do not change the number.
    """

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"

    @classmethod
    def all(cls) -> tuple[str, str, str, str]:
        """Every reduction."""
        return cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE

    @classmethod
    def validate(cls, key: str) -> None:
        """Checks the name of a reduction.

        Raises:
            ValueError: the name is not one of :meth:`all`.
        """
        if not isinstance(key, str) or key not in cls.all():
            raise ValueError(f"Invalid Reduction Key {shown(key)}. Use one of: {', '.join(cls.all())}")
