"""The site: its figures, what its reference shows of the code, its style, and that it builds."""

import importlib
import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from distopt_launch.options import PARSER
from pages import ROOT

import distopt

sys.path.append(str(ROOT / "docs"))
import figures
import prose

API = ROOT / "docs/reference/api"
NOTEBOOK = ROOT / "docs/tutorial/four_replicas.ipynb"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_those_that_the_code_draws(name):
    text = (figures.FOLDER / f"{name}.svg").read_text()
    assert text == figures.FIGURES[name]().svg(), "run: python docs/figures.py"
    assert ElementTree.fromstring(text).tag.endswith("svg")


def test_no_other_figure_is_there():
    assert {path.stem for path in figures.FOLDER.glob("*.svg")} == set(figures.FIGURES)


def test_figures_of_speed_are_those_of_the_page():
    page = (ROOT / "docs/explanation/performance.md").read_text()
    for what, _, peer, ours in figures._SPEED[1:]:
        assert f"{peer:g}" in page, what
        assert f"{ours:g}" in page, what


def test_the_style_finds_what_is_not_plain():
    said = list(prose.found("First.\n\nA mean over the\nown share. `the own code`\n\n    the own code\n"))
    assert said == [(3, "the own", "its own, their own")]


def test_every_public_package_is_in_the_reference():
    shown = {
        line.split(":: ")[1]
        for page in API.glob("*.md")
        for line in page.read_text().splitlines()
        if ".. auto" in line
    }
    modules = {f"distopt.{name}" for name in ("errors", "typing", "checkpoint", "testing", "torch", "jax")}
    for package in (distopt, distopt.optimizers, distopt.keras):
        modules |= {
            f"{package.__name__}.{name}"
            for name in package.__all__
            if type(getattr(package, name)).__name__ == "module"
        }
    modules -= {"distopt.compat"}  # the names of TensorFlow 1
    modules -= {
        "distopt.keras.optimizers",
        "distopt.keras.experimental",
    }  # other names of optimizers and schedules
    assert modules <= shown
    for module in shown - {"distopt.torch", "distopt.jax"}:
        assert importlib.import_module(module).__all__, module


def test_the_table_of_options_is_that_of_the_launcher():
    """The rows that the page should have, from the launcher's own help."""
    rows = []
    for action in PARSER._actions:
        value = action.metavar or f"{{{','.join(action.choices or ())}}}"
        words = [f"{word} {value}" if action.nargs is None else word for word in action.option_strings]
        names = ", ".join(f"`{word}`" for word in words).replace("|", "\\|")
        rows.append(f"| {names} | {action.help} |")
    page = (ROOT / "docs/reference/distoptrun.md").read_text()
    assert re.findall(r"^\| `-.*\|$", page, re.MULTILINE) == rows


def test_variables_of_the_environment_are_all_explained():
    pytest.importorskip("sphinx")
    import reference_pages

    rows = reference_pages.settings_rows()
    assert ("DISTOPT_STALL_SECONDS", "60") in [row[:2] for row in rows]
    assert all(meaning for _, _, meaning in rows)


@pytest.mark.slow
def test_the_notebook_runs():
    """All cells, in order; as Jupyter does, in one namespace, and what the last one prints."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "replica 1 has ended its program" in done.stdout


def test_the_notebook_is_stored_without_output():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_builds_strictly(tmp_path):
    for package in ("sphinx", "myst_parser", "pydata_sphinx_theme", "torch", "optax"):
        pytest.importorskip(package)
    words = [
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "-d",
        str(tmp_path / "trees"),
        "docs",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/reference/environment.html").read_text()
    assert "DISTOPT_STALL_SECONDS" in page
    assert 'href="/' not in page, "works from file:// too"
