"""Checks that no other user can put code into Numba's cache, whose files are run as machine code."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"
#: Numba reads this file in the working directory; it may set the cache's folder.
_FILE = ".numba_config.yaml"
#: In a container, shown as the owner of files of all users that it does not map, root included.
_NOBODY = 65534
#: The users that it maps.
_KNOWN = Path("/proc/self/uid_map")


def warning(environ: Mapping[str, str], folder: Path) -> str:
    """The warning to print before a job starts in ``folder``, the working directory; empty for none."""
    given = environ.get(_VARIABLE, "")
    if given and (why := distrust(folder / given)):
        return f"{_VARIABLE}={given}: {why}; they could run code as you. Choose a folder of your own"
    file = folder / _FILE
    if file.exists() and (why := distrust(file)):
        return f"{file} is read by Numba, but {why}; they could run code as you. Start in another folder"
    return ""


def distrust(path: Path) -> str:
    """Why other users could change a file, or the contents of a folder; empty if they cannot.

    Root is trusted, and so is a group that was given write access. A folder that does not exist yet could be
    made by anyone who may write to its parent.
    """
    lexical = Path(os.path.abspath(path))
    for place in dict.fromkeys((lexical, lexical.resolve())):
        found = [part for part in (place, *place.parents) if part.exists()]
        for part in found:
            why = _why(part, sticky_helps=part != found[0])
            if why:
                return why
    return ""


def _why(path: Path, sticky_helps: bool) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    if status.st_uid not in (0, os.geteuid()) and not _is_unknown(status.st_uid):
        return f"{path} belongs to {_user(status.st_uid)}"
    if status.st_mode & stat.S_IWOTH and not (sticky_helps and status.st_mode & stat.S_ISVTX):
        return f"all users may write to {path}"
    return ""


def _is_unknown(number: int) -> bool:
    """Whether a user ID stands for all users that this container does not map."""
    try:
        ranges = [tuple(map(int, line.split())) for line in _KNOWN.read_text().splitlines()]
    except OSError:
        return False
    return number == _NOBODY and not any(first <= number < first + count for first, _, count in ranges)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
