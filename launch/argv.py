"""Encodes a program's arguments for the command line of an MPI launcher.

MPI launchers interpret some arguments of the program: all of them end the arguments at ``:``. So the
arguments are passed as ``program=...``, joined with spaces, and special characters are percent-encoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

_HEAD = "program="
#: Printable ASCII characters that are not encoded: all but space, ``%`` and the single quote.
_KEPT = "".join(map(chr, range(0x21, 0x7F))).translate({ord(mark): None for mark in "%'"})
#: The largest piece, in bytes. Linux allows 131,071 bytes in one argument, and more in all together.
_LONGEST = 100_000


def encode_argv(arguments: Iterable[str]) -> tuple[str, ...]:
    """The arguments as ``program=...``; in several pieces if they are long."""
    text = " ".join(quote_from_bytes(os.fsencode(argument), safe=_KEPT) for argument in arguments)
    return tuple(_HEAD + text[at : at + _LONGEST] for at in range(0, max(1, len(text)), _LONGEST))


def decode_argv(pieces: Iterable[str]) -> list[str]:
    """The inverse of `encode_argv`. Ignores arguments that do not start with ``program=``."""
    text = "".join(piece.removeprefix(_HEAD) for piece in pieces if piece.startswith(_HEAD))
    return [os.fsdecode(unquote_to_bytes(argument)) for argument in text.split(" ")]
