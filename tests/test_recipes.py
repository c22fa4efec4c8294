"""What recipes and forms repeat is what pyproject.toml and the package say."""

import re
from pathlib import Path

import pytest

import distopt

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))  # none in a source distribution
OTHERS = [
    *(ROOT / name for name in ("CITATION.cff", "README.md", "SECURITY.md", "CODE_OF_CONDUCT.md")),
    *(file for place in (".github", "packaging") for file in (ROOT / place).rglob("*") if file.is_file()),
]


def test_addresses_are_those_of_the_project():
    (home,) = re.findall(r'^Homepage = "(.*)"$', PROJECT, re.MULTILINE)
    host = home.split("/")[2]
    found = [
        (file.name, url) for file in OTHERS for url in re.findall(r"https?://[^\s\"'`]+", file.read_text())
    ]
    ours = [(name, url) for name, url in found if host in url]
    assert ours
    assert all(re.match(rf"{re.escape(home)}(/|$)", url) for _, url in ours), ours


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CITATION.cff", r"^version: (.*)$"),
        ("packaging/conda-forge/recipe.yaml", r'^  version: "(.*)"$'),
        ("packaging/spack/py-distopt-mpi/package.py", r'^    version\("([^"]*)"'),
        (f"packaging/modulefiles/distopt/{distopt.__version__}.lua", r'"Version: (.*)"'),
        ("packaging/distopt.def", r"^    Version (.*)$"),
    ],
)
def test_versions_are_that_of_the_package(file, pattern):
    assert re.findall(pattern, (ROOT / file).read_text(), re.MULTILINE) == [distopt.__version__]


def test_recipes_need_what_the_package_needs():
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", PROJECT, re.MULTILINE)
    floors = dict(re.findall(r'"(\w+)>=([\d.]+)"', line))
    conda = (ROOT / "packaging/conda-forge/recipe.yaml").read_text()
    spack = (ROOT / "packaging/spack/py-distopt-mpi/package.py").read_text()
    assert len(floors) == 3
    for name, floor in floors.items():
        assert f"- {name} >={floor}\n" in conda
        (version,) = re.findall(rf'"py-{name}@([\d.]+):"', spack)
        assert version.rstrip(".0") == floor.rstrip(".0")


@pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no workflows")
def test_workflows_take_actions_by_hash_and_every_python():
    texts = [file.read_text() for file in WORKFLOWS]
    used = [name for text in texts for name in re.findall(r"uses: (\S+)", text)]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) for name in used), used
    assert all("\npermissions: {}\n" in text for text in texts)
    (pythons,) = re.findall(
        r"^ +python: \[(.*)\]$", (ROOT / ".github/workflows/tests.yml").read_text(), re.MULTILINE
    )
    assert re.findall(r"3\.\d+", pythons) == re.findall(r":: Python :: (3\.\d+)\"", PROJECT)


@pytest.mark.parametrize("recipe", ["Dockerfile", "distopt.def"])
def test_containers_get_all_files_that_a_build_needs(recipe):
    """Those of the source distribution but for documents, tests and tools."""
    text = (ROOT / "packaging" / recipe).read_text()
    copied = {"Dockerfile": r"^COPY (?!--)(.*) \S+$", "distopt.def": r"^    (\S+) /source/\S+$"}[recipe]
    needed = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "distopt", "launch"}
    assert {name for names in re.findall(copied, text, re.MULTILINE) for name in names.split()} == needed
