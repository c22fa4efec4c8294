"""What stood before the last softmax or sigmoid.

Cross-entropy of probabilities loses digits, and its gradient vanishes where they are clipped; of the
logits behind them it does neither. So the layers note which logits gave which probabilities, and a
compiled loss asks when it is handed probabilities. One pair is kept, the last one of each thread.
"""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["note_logits", "take_logits"]


class _Last(threading.local):
    def __init__(self) -> None:
        self.pair: tuple[Any, Any, str] | None = None


_last = _Last()


def note_logits(probabilities: Any, logits: Any, activation: str) -> Any:
    """Notes that ``probabilities`` are ``activation`` of ``logits``; returns the probabilities."""
    _last.pair = (probabilities, logits, activation)
    return probabilities


def take_logits(probabilities: Any, activation: str) -> Any:
    """The logits behind this very object, None if that is not known; forgets them."""
    pair, _last.pair = _last.pair, None
    if pair is not None and pair[0] is probabilities and pair[2] == activation:
        return pair[1]
    return None
