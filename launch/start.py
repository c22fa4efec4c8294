"""Calls ``main()`` of the module named by the first argument. All commands of this package start here.

It is run by path, because ``python -m`` would put the working directory first on ``sys.path``, which may
contain another user's ``json.py``.
"""

import sys


def main() -> None:
    """Removes this folder from ``sys.path`` and the module from ``sys.argv``; exits with its result."""
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        del sys.path[0]
    import importlib

    sys.exit(importlib.import_module(sys.argv.pop(1)).main())


if __name__ == "__main__":
    main()
