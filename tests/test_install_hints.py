"""Nobody is told to install under this project's name, which is somebody else's on PyPI."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distopt.errors import MissingExtra

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["distopt", "launch", "docs", "examples", "benchmarks", "chaos", "packaging", "tests"]
KINDS = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".sbatch", ".cfg", ""}
FILES = sorted(
    file
    for place in [ROOT, *(ROOT / folder for folder in FOLDERS)]
    for file in (place.iterdir() if place == ROOT else place.rglob("*"))
    if file.is_file()
    and file.suffix in KINDS
    and not {"__pycache__", "build"} & {*file.relative_to(ROOT).parts}
    if not any(part.endswith(".egg-info") for part in file.parts)
    and file != Path(__file__)
    and file.name[0] != "."
)

#: A requirement of that name, with extras or version, alone among an installer's words; paths are not meant.
NAME = (
    r"['\"]?distopt(?:[-_.]mpi)?(?:\[[^\]]*\])?(?:\s*[=<>~!]=?[^\s'\"]*)?['\"]?"
    r"(?=$|[\s`'\")\].,;:&|])(?!\.\w|/)"
)
INSTALL = re.compile(
    rf"\b(?:pip3?|pipx|uv|uvx|poetry|pdm|hatch|conda|mamba|micromamba|pixi)\b[^\n;&|]*?"
    rf"\b(?:install|download|wheel|add|run)\b(?:[^\n;&|#]*?\s){NAME}"
)
#: Extras of the name that strangers own, wherever they stand.
EXTRAS = re.compile(r"(?<![\w./-])distopt\[[a-z]")
#: A dependency that an installer would fetch under the name.
DEPENDENCY = re.compile(r"\bdependencies\s*=\s*\[[^\]]*['\"]distopt(?:-mpi)?['\"\[=<>~! ]")


def strings(source):
    """The string constants of a program, each whole, as its reader sees it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)


def hints(text):
    return [match[0] for pattern in (INSTALL, EXTRAS, DEPENDENCY) for match in pattern.finditer(text)]


def test_there_are_texts_to_look_at():
    names = {str(file.relative_to(ROOT)) for file in FILES}
    assert {"README.md", "pyproject.toml", "Makefile", "distopt/errors.py", "launch/recipes/pbs.sh"} <= names


@pytest.mark.parametrize(
    "text",
    [
        "pip install distopt",
        "pip install 'distopt[mpich]' now",
        "python -m pip install --upgrade distopt==0.1.0",
        "pip install numpy distopt-mpi.",
        "uv pip install distopt_mpi",
        "uv add distopt",
        'dependencies = ["numpy", "distopt>=0.1"]',
        "The image holds distopt[mpich], the program",
    ],
)
def test_what_counts_as_such_a_hint(text):
    assert hints(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install '.[mpich]'",
        "pip install /work/distopt",
        "pip install ./distopt",
        "pip uninstall distopt",
        "pip install mpi4py mpich; then import distopt",
        "pip install git+https://example.org/distopt.git",
    ],
)
def test_what_does_not(text):
    assert not hints(text)


def test_no_text_names_it():
    found = {}
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        pieces = [text, *(strings(text) if file.suffix == ".py" else [])]
        if told := {hint for piece in pieces for hint in hints(piece)}:
            found[str(file.relative_to(ROOT))] = told
    assert not found


def test_what_a_missing_package_is_said_to_need():
    error = MissingExtra.of("running under MPI", "mpi4py", "mpich")
    assert str(error) == (
        "running under MPI needs the package 'mpi4py', which is not installed. "
        "Install it with: pip install mpi4py mpich"
    )
    assert error.name == "mpi4py"


def test_an_mpi4py_without_an_mpi_is_not_said_to_be_missing(tmp_path):
    """As where mpi4py's wheel meets a machine without the library that it wants."""
    package = tmp_path / "mpi4py"
    package.mkdir()
    (package / "__init__.py").write_text("class rc: initialize = True; finalize = None; threads = True\n")
    (package / "MPI.py").write_text("raise ImportError('libmpi.so.12: cannot open shared object file')\n")
    program = "import distopt; distopt.distribute.get_replica_context()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PMI_SIZE": "2", "PMI_RANK": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "mpi4py cannot load one: libmpi.so.12: cannot open shared object file" in last
    assert "not installed" not in last
