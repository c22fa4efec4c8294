"""A program sees of itself what it would see under ``python``, in every way of starting it."""

import json
import os
import py_compile
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from distopt_launch.cli import main
from distopt_launch.interpreter import options

pytestmark = pytest.mark.launches

SHOW = """
import json, os, sys
names = ("__name__", "__file__", "__package__", "__cached__", "__doc__")
seen = {name: globals()[name] for name in names}
spec = __spec__
seen |= {
    "spec": None if spec is None else [spec.name, spec.origin, spec.parent],
    "loader": type(__loader__).__name__,
    "builtins": type(__builtins__).__name__,
    "names": sorted(name for name in globals() if name.startswith("__")),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "path": sys.path,
    "argv": sys.argv,
    "folder": os.getcwd(),
}
with open(os.environ["SEEN"], "w") as file:
    json.dump(seen, file)
"""

#: What stands on the command line, and whether to try it where Python is told to keep sys.path as it is.
PROGRAMS = {
    "script": (["./show.py", "a", "--b=:"], True),
    "script by a way round": (["../work/sub/../show.py"], False),
    "script through a link": (["sub/link.py"], True),
    "compiled script": (["show.pyc"], False),
    "module": (["-m", "show", "-n"], True),
    "package": (["-m", "pkg"], False),
    "module in a package": (["-m", "pkg.inner"], False),
    "folder": (["pkg"], True),
    "zip file": (["./all.zip", "x y"], False),
}
WAYS = {
    "one process": ["-n", "1"],
    "in process": ["--in-process", "2"],
}
SEVERAL = ["-n", "1", "--replicas-per-process", "2"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs") / "work"
    for part in ("sub", "pkg"):
        (folder / part).mkdir(parents=True)
    for name in ("show.py", "pkg/__main__.py", "pkg/inner.py"):
        (folder / name).write_text(SHOW)
    (folder / "pkg/__init__.py").touch()
    (folder / "sub/link.py").symlink_to("../show.py")
    py_compile.compile(str(folder / "show.py"), str(folder / "show.pyc"), doraise=True)
    with zipfile.ZipFile(folder / "all.zip", "w") as file:
        file.writestr("__main__.py", SHOW)
    return folder


def seen(work, *command, safe=False, code=0):
    file = work.parent / "seen"
    file.unlink(missing_ok=True)
    # With a first entry that would be lost if the program's were put in its place.
    environ = {**os.environ, "SEEN": str(file), "PYTHONPATH": str(work) if safe else str(work.parent)}
    environ.pop("PYTHONSAFEPATH", None)
    if safe:
        environ["PYTHONSAFEPATH"] = "1"
    done = subprocess.run(command, cwd=work, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return json.loads(file.read_text())


def distoptrun(*words):
    return [str(Path(sys.executable).with_name("distoptrun")), *words]


CASES = [(name, safe) for name, (_, too) in PROGRAMS.items() for safe in (False, True)[: 1 + too]]
FAST = [("script", True), ("module in a package", False)]


@pytest.mark.parametrize(
    ("name", "safe"), [pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_as_under_python(work, name, safe):
    words = PROGRAMS[name][0]
    expected = seen(work, sys.executable, *words, safe=safe)
    for way, start in WAYS.items():
        assert seen(work, *distoptrun(*start, *words), safe=safe) == expected, way


@pytest.mark.parametrize(
    "name", ["script through a link", pytest.param("module in a package", marks=pytest.mark.slow)]
)
def test_as_under_python_in_other_processes(work, name):
    pytest.importorskip("mpi4py")
    words = PROGRAMS[name][0]
    expected = seen(work, sys.executable, *words)
    assert seen(work, *distoptrun("-n", "2", *words)) == expected
    assert seen(work, *distoptrun(*SEVERAL, *words)) == expected


@pytest.mark.slow
def test_the_module_that_runs_replicas_in_one_process(work):
    expected = seen(work, sys.executable, "sub/link.py")
    module = [sys.executable, "-m", "distopt.testing.inprocess", "--replicas", "2", "sub/link.py"]
    assert seen(work, *module) == expected


@pytest.mark.parametrize("way", WAYS)
def test_pythons_own_options_reach_the_program(work, way):
    (work / "options.py").write_text(
        "import json, os, sys\n"
        "json.dump([sys.flags.optimize, sys.flags.utf8_mode, 'error::FutureWarning' in sys.warnoptions],\n"
        "          open(os.environ['SEEN'], 'w'))\n"
    )
    own = [sys.executable, "-O", "-X", "utf8", "-Werror::FutureWarning", "-m", "distopt_launch"]
    assert seen(work, *own, *WAYS[way], "options.py") == [1, 1, True]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["python", "-m", "distopt_launch", "-X"], []),
        (["python", "-X", "dev", "-Werror", "-m", "distopt_launch"], ["-Xdev", "-Werror"]),
        (["python", "-OOBm", "distopt_launch"], ["-O", "-O", "-B"]),
        (["python", "-i", "-W", "ignore", "-Pm", "x"], ["-Wignore", "-P"]),
        (["python", "-sP", "/usr/bin/distoptrun", "-n", "2"], []),
        (["python", "-c", "import x"], []),
    ],
)
def test_options_before_the_module(argv, expected):
    assert options(argv) == expected


def test_a_folder_without_a_program(work, capsys):
    assert main(["-n", "2", str(work / "sub")]) == 1
    assert f"can't find '__main__' module in '{work}/sub'" in capsys.readouterr().err
