"""The input of the last softmax or sigmoid: the logits.

Cross-entropy of probabilities loses digits, and its gradient vanishes where they are clipped; of the
logits behind them it does neither. So the layers note which logits gave which probabilities, and a
compiled loss asks when it is handed probabilities. A pair is kept as long as its probabilities live.
"""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["logits_behind", "note_logits"]

#: By the probabilities' id: themselves, the logits, and the activation between. Process-wide, since
#: arrays take no attributes, and an id is unique in the process.
_known: dict[int, tuple[weakref.ref[Any], Any, str]] = {}


def note_logits(probabilities: Any, logits: Any, activation: str) -> Any:
    """Notes that ``probabilities`` are ``activation`` of ``logits``; returns the probabilities."""
    key = id(probabilities)
    _known[key] = weakref.ref(probabilities, lambda _: _known.pop(key, None)), logits, activation
    return probabilities


def logits_behind(probabilities: Any, activation: str) -> Any:
    """The logits behind this very object, None if that is not known."""
    found, logits, noted = _known.get(id(probabilities), (None, None, ""))
    return logits if found is not None and found() is probabilities and noted == activation else None
