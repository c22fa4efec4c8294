"""How much time and memory a benchmark may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EFFORTS", "Effort"]


@dataclass(frozen=True)
class Effort:
    """Sizes and repetitions.

    Attributes:
        name: ``tiny`` only shows that the benchmark runs; ``quick`` gives the documented cases;
            ``full`` adds the largest sizes and more rounds.
        rounds: how often each peer has its turn.
        seconds: about how long a turn lasts.
        timeout: after so many seconds a job is killed.
        only: a part of the names of the cases that are wanted, where a benchmark has such names; "" for all.
    """

    name: str
    rounds: int
    seconds: float
    timeout: float
    only: str = ""

    @property
    def tiny(self) -> bool:
        """Whether figures are of no account."""
        return self.name == "tiny"

    @property
    def full(self) -> bool:
        """Whether the largest sizes are wanted."""
        return self.name == "full"


EFFORTS = {
    "tiny": Effort("tiny", rounds=2, seconds=0.0, timeout=100.0),
    "quick": Effort("quick", rounds=7, seconds=0.3, timeout=600.0),
    "full": Effort("full", rounds=15, seconds=1.0, timeout=3600.0),
}
