"""The launcher stands alone: it must work before, and without, anything heavy."""

import ast
from pathlib import Path

import distopt_launch
import pytest

FILES = sorted(Path(distopt_launch.__file__).parent.glob("*.py"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_imports_and_environment(file):
    tree = ast.parse(file.read_text())
    names = set(imported(tree))
    assert not names & {"distopt", "distopt_launch", "numpy", "numba", "autograd"}
    if file.name not in ("ring.py", "probe.py"):
        assert "mpi4py" not in names
    if file.name not in ("check.py", "live.py"):
        assert "rich" not in names
    reads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert not reads or file.name == "environment.py"


def test_there_are_files_to_look_at():
    assert {"cli.py", "environment.py", "child.py"} <= {file.name for file in FILES}
