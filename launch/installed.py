"""Checks that the ``distopt`` that programs import is the one that this launcher belongs to.

Another project owns the name ``distopt`` on PyPI, and its package has that name too. This project's
distribution is ``distopt-mpi``.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "distopt-mpi"
_PACKAGE = "distopt"


def version() -> str:
    """This installation's version; ``unknown`` if its files were only copied."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def folder() -> Path:
    """The folder of this launcher's ``distopt``: beside the launcher, in a clone as in site-packages."""
    return Path(__file__).resolve().parent.parent / _PACKAGE


def faults() -> list[str]:
    """Problems of the installation, as messages with what was found, where, and what to do.

    [] if there are none.
    """
    found = [
        f"{other.locate_file('')} holds a distribution named {_PACKAGE!r}, version {other.version}: "
        "another project, or an older version of this one. Both have a package with that name: remove the "
        f"other (pip uninstall {_PACKAGE}), then install this one again"
        for other in metadata.distributions(name=_PACKAGE)
    ]
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        return [*found, f"the package {_PACKAGE!r} cannot be imported: install this project again"]
    if not spec.origin or Path(spec.origin).resolve().parent != folder():
        place = spec.origin or ", ".join(spec.submodule_search_locations or [])
        found.append(
            f"'import {_PACKAGE}' finds {place}, but the one of this distoptrun is in {folder()}: "
            "remove or rename the other, or take its folder off PYTHONPATH"
        )
    return found
