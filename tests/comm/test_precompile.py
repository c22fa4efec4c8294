"""What is kept on disk is compiled anew when a source of it changes, also one in another file."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import distopt
from distopt.comm import precompile

PACKAGE = Path(distopt.__file__).parent
#: What compiled code takes nothing from.
NOT_COMPILED = {
    *("typing.py", "settings.py", "comm/precompile.py", "collectives/arrays.py", "collectives/__init__.py"),
    *("engine/compiled.py", "engine/rule.py", "engine/loops.py"),
}
PROGRAM = """
import numpy as np
from distopt.comm.spin import signal
counters = np.zeros(64, np.int64)
signal(counters, 1, 7)
print(counters.argmax(), sum(signal.stats.cache_hits.values()))
"""


def imported(tree):
    """The files of the package that a module takes something from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distopt"):
            base = "/".join(node.module.split(".")[1:])
            for name in node.names:
                inner = f"{base}/{name.name}.py"
                outer = f"{base}.py" if (PACKAGE / f"{base}.py").exists() else f"{base}/__init__.py"
                yield inner if (PACKAGE / inner).exists() else outer


def test_all_that_is_inlined_is_part_of_the_key():
    compiled = {}
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text()
        if "numba" in text or "import precompiled" in text or "inlined" in text:
            compiled[file.relative_to(PACKAGE).as_posix()] = set(imported(ast.parse(text)))
    assert len(compiled) > 15
    needed = set().union(*compiled.values()) & {*compiled, *precompile._INLINED} - NOT_COMPILED
    constants = {"collectives/ledger_layout.py", "collectives/partition.py", "comm/compiled.py"}
    assert needed | constants <= set(precompile._INLINED), needed - set(precompile._INLINED)


@pytest.mark.slow
def test_an_edit_of_a_constant_elsewhere(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "distopt", ignore=shutil.ignore_patterns("__pycache__"))
    edited = tmp_path / "distopt/comm/compiled.py"

    def run():
        environ = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    stride, hits = run()
    assert hits == 0
    assert run() == [stride, 1]
    text = edited.read_text()
    assert f"\nSTRIDE = {stride}\n" in text
    edited.write_text(text.replace(f"\nSTRIDE = {stride}\n", f"\nSTRIDE = {2 * stride}\n"))
    assert run() == [2 * stride, 0]
