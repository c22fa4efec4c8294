"""One replica of a benchmark's job: ``python -m benchmarks.worker NAME FOLDER``."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Calls ``benchmarks.NAME.work`` with the folder's config; one replica writes the result."""
    name, folder = sys.argv[1:]
    config = json.loads(Path(folder, "config.json").read_text())
    result = importlib.import_module(f"benchmarks.{name}").work(config)
    if result is not None:
        Path(folder, "result.json").write_text(json.dumps(result))
    if "torch.distributed" in sys.modules:
        _leave()


def _leave() -> None:
    """Ends the process at once: Gloo's threads sometimes abort one that ends in the ordinary way."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None:
        mpi.Finalize()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
