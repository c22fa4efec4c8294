"""A program's words, as they travel on an MPI launcher's command line.

Launchers read more than their own options: all of them end a program's words at ``:``. So the words travel
as ``program=...``, separated by spaces, and what could mean something on the way is percent-encoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

_HEAD = "program="
#: Printable ASCII that stays as it is: not the space, which separates, nor ``%``, nor the quote of shells.
_KEPT = "".join(map(chr, range(0x21, 0x7F))).translate({ord(mark): None for mark in "%'"})
#: Linux takes 131,071 bytes in one word; all together may be longer.
_LONGEST = 100_000


def encode_argv(words: Iterable[str]) -> tuple[str, ...]:
    """The words as ``program=...``; in several pieces where they are long."""
    text = " ".join(quote_from_bytes(os.fsencode(word), safe=_KEPT) for word in words)
    return tuple(_HEAD + text[at : at + _LONGEST] for at in range(0, max(1, len(text)), _LONGEST))


def decode_argv(pieces: Iterable[str]) -> list[str]:
    """The reverse of `encode_argv`; what does not begin with ``program=`` is passed over."""
    text = "".join(piece.removeprefix(_HEAD) for piece in pieces if piece.startswith(_HEAD))
    return [os.fsdecode(unquote_to_bytes(word)) for word in text.split(" ")]
