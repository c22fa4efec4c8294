"""WireFormat: how float32 numbers travel between nodes. Values may share a scale; then scales come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.suggestions import did_you_mean
from distopt.typing import Array

__all__ = ["EXACT", "WIRE_FORMATS", "WireFormat", "as_wire"]

#: The name under which numbers travel as they are.
EXACT = "float32"


@dataclass(frozen=True)
class WireFormat:
    """What a number becomes.

    Attributes:
        name: the format's name.
        dtype: what holds a value's bits.
        group: so many elements, counted from the start of a variable, have a scale; 0 if there are no scales.
    """

    name: str
    dtype: np.dtype[Any]
    group: int

    def scales(self, pieces: Array) -> int:
        """How many scales come before the values of some pieces."""
        return int((-(-pieces[:, 2] // self.group)).sum()) if self.group else 0

    def nbytes(self, scales: int, values: int) -> int:
        """The bytes of a message."""
        return 4 * scales + values * self.dtype.itemsize

    def parts(self, message: Array, scales: int) -> tuple[Array, Array]:
        """The scales and the values of a message."""
        return message[: 4 * scales].view(np.float32), message[4 * scales :].view(self.dtype)


#: By name. A group is a divisor of the pieces between which shards are cut, so that scales never depend on
#: how many replicas there are.
WIRE_FORMATS = {
    "bf16": WireFormat("bf16", np.dtype(np.uint16), 0),
    "fp16": WireFormat("fp16", np.dtype(np.uint16), 4096),
    "int8": WireFormat("int8", np.dtype(np.int8), 512),
}


def as_wire(name: Any) -> str:
    """The name of a wire format.

    Raises:
        ValueError: there is no such format.
    """
    known = (EXACT, *WIRE_FORMATS)
    if not isinstance(name, str) or name not in known:
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        raise ValueError(f"wire must be one of {', '.join(map(repr, known))}; got {name!r}.{hint}")
    return name
