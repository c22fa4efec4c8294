"""pdb, without commands that other users have put into the working directory."""

from __future__ import annotations

import os
import pdb
import stat
import sys

from distopt.file_access import open_to_read

__all__ = ["debugger"]

_LONGEST = 1 << 20


def debugger(prompt: str) -> pdb.Pdb:
    """A debugger that has read ``.pdbrc`` in the home and the working directory, as pdb does by default.

    These commands may be any code, so a file that another user could have written is skipped, with a
    message.
    """
    found = pdb.Pdb(readrc=False)
    found.prompt = prompt
    for file in dict.fromkeys(map(os.path.realpath, (os.path.expanduser("~/.pdbrc"), ".pdbrc"))):
        found.rcLines.extend(_commands(file))
    return found


def _commands(file: str) -> list[str]:
    try:
        with open_to_read(file, _LONGEST) as opened:
            status = os.fstat(opened.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
                raise PermissionError(0, "another user could have written it")
            return opened.read(_LONGEST).decode().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        print(f"{file} is not read: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return []
