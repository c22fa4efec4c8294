"""Whether others could put code into Numba's cache: what lies there is run as machine code."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"
#: Numba reads this file of the working directory; it may name the cache's folder.
_FILE = ".numba_config.yaml"
#: Shown as the owner of all that belongs to users whom a container does not know, the superuser among them.
_NOBODY = 65534
#: The users whom it knows.
_KNOWN = Path("/proc/self/uid_map")


def warning(environ: Mapping[str, str], folder: Path) -> str:
    """What to say before a job starts in ``folder``, the working directory; empty for nothing."""
    given = environ.get(_VARIABLE, "")
    if given and (why := distrust(folder / given)):
        return f"{_VARIABLE}={given}: {why}; they could run code as you. Choose a folder of your own"
    file = folder / _FILE
    if file.exists() and (why := distrust(file)):
        return f"{file} is read by Numba, but {why}; they could run code as you. Start in another folder"
    return ""


def distrust(path: Path) -> str:
    """Why others could change what lies in a folder, or a file; empty if they cannot.

    The superuser is trusted, and so is a group: it has been given that right. A folder that is still to be
    made could be made by anybody who may write where it will lie.
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
    """Whether a number stands for all users whom a container does not know; elsewhere it is one of them."""
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
