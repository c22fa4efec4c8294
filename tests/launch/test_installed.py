"""``--check`` notices another project's ``distopt`` in the same environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from distopt_launch.cli import main
from distopt_launch.errors import JobStartError

import distopt


@pytest.fixture(autouse=True)
def _no_job(monkeypatch):
    """What is asked is answered before MPI is looked for."""

    def refuse(*_args):
        raise JobStartError("no MPI is asked for")

    monkeypatch.setattr("distopt_launch.check.find_library", refuse)


def findings(text):
    """--check's table as one line: long rows are broken there."""
    return " ".join(text.replace("│", " ").split())


def test_this_installation_is_all_right(capsys):
    main(["--check"])
    found = findings(capsys.readouterr().out)
    assert re.search(rf"ok distopt \S+ \({re.escape(str(Path(distopt.__file__).parent))}\)", found)


def test_a_distribution_of_somebody_else(tmp_path, monkeypatch, capsys):
    info = tmp_path / "distopt-1.0a1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: distopt\nVersion: 1.0a1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--check"]) == 1
    found = findings(capsys.readouterr().out)
    assert "WRONG" in found
    for word in ("1.0a1", str(tmp_path), "pip uninstall distopt"):
        assert word in found


@pytest.mark.parametrize("name", ["distopt/__init__.py", "distopt.py"])
def test_a_package_of_somebody_else_comes_first(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('RUN')\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("distoptrun"), "--check"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = findings(done.stdout)
    assert "WRONG" in found
    assert str(file) in found
    assert "PYTHONPATH" in found
    assert "RUN" not in done.stdout
