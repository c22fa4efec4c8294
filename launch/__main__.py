"""``python -m distopt_launch``: the same as ``distoptrun``."""

import sys

from .cli import main

sys.exit(main())
