"""``python -m distopt_launch``: the same as ``distoptrun``."""

import sys

from .interpreter import keeps_path

if __name__ == "__main__":
    if not keeps_path():
        del sys.path[0]  # the working directory
    from .cli import main

    sys.exit(main())
