"""One replica of a benchmark's job: ``python -m benchmarks.worker NAME FOLDER``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    """Calls ``benchmarks.NAME.work`` with the folder's config; one replica writes the result."""
    name, folder = sys.argv[1:]
    config = json.loads(Path(folder, "config.json").read_text())
    result = importlib.import_module(f"benchmarks.{name}").work(config)
    if result is not None:
        Path(folder, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
