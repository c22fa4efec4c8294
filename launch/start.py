"""Calls ``main()`` of the module that its first argument names: what all commands of this package begin with.

Run by path. ``python -m`` would put the working directory first on ``sys.path``, where anybody's ``json.py``
may lie.
"""

import sys


def main() -> None:
    """Takes its folder off ``sys.path``, its word off ``sys.argv``; leaves with the module's exit code."""
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        del sys.path[0]
    import importlib

    sys.exit(importlib.import_module(sys.argv.pop(1)).main())


if __name__ == "__main__":
    main()
