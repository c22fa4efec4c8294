"""Checks that no other user can write to Numba's cache, whose files contain machine code that Numba runs."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"
#: Numba reads this file in the working directory. It can set the folder of the cache.
_FILE = ".numba_config.yaml"
#: The user ID that a container shows for all users that it does not map, including root.
_NOBODY = 65534
#: The user IDs that a container maps.
_KNOWN = Path("/proc/self/uid_map")


def warning(environ: Mapping[str, str], folder: Path) -> str:
    """The warning to print before a job starts in the working directory ``folder``; "" for none."""
    given = environ.get(_VARIABLE, "")
    if given and (why := distrust(folder / given)):
        return f"{_VARIABLE}={given}: {why}; they could run code as you. Choose a folder of your own"
    file = folder / _FILE
    if file.exists() and (why := distrust(file)):
        return f"{file} is read by Numba, but {why}; they could run code as you. Start in another folder"
    return ""


def distrust(path: Path) -> str:
    """Why other users could change a file or the contents of a folder, as text; "" if they cannot.

    Root is trusted, and so are groups with write access. For a folder that does not exist, its first existing
    parent is checked, because anyone who may write there could create it.
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
    """Why others could change ``path`` itself. With ``sticky_helps``, folders like /tmp are safe."""
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
    """Whether the user ID is the one that this container shows for all users that it does not map."""
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
