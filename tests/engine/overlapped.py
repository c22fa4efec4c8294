"""Compares what programs compute with overlap and without, over nodes."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "distribute"))
import jobs


def compare(module, processes, nodes, folder, names=None):
    """Runs a module with ``PROGRAMS`` as a job; their bits agree, and so much was sent early as they say."""
    names = list(module.PROGRAMS if names is None else names)
    words = (Path(module.__file__), folder, *names)
    done = jobs.run(jobs.mpi(processes, *words), 300, DISTOPT_NODES=str(nodes))
    assert done.code == 0, done.err
    results = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(processes)]
    for name in names:
        _, least = module.PROGRAMS[name]
        with_it, without = zip(*(result[name] for result in results), strict=True)
        assert {bits for bits, _ in with_it} == {bits for bits, _ in without}, name
        assert len({bits for bits, _ in without}) == 1, name
        assert all(early == 0 for _, early in without), name
        assert max(early for _, early in with_it) >= least, name
