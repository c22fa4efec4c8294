"""The page on errors shows what the programs that make them are told; and how it is shown in one process."""

import ast
import dataclasses
import sys

import distopt_launch
import pytest
from pages import ROOT
from shown_errors import judge

import distopt

sys.path.append(str(ROOT / "docs"))
import errors
from error_cases import GROUPS

CASES = [case for cases in GROUPS.values() for case in cases]
PAGE = errors.PAGE.read_text()


def each(cases):
    """Parametrizes a test with cases; those that need a package are left out where it is missing."""
    cases = [
        pytest.param(case, marks=getattr(pytest.mark, case.needs) if case.needs else ()) for case in cases
    ]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _needed(request):
    case = getattr(request.node, "callspec", None) and request.getfixturevalue("case")
    if case and case.needs:
        pytest.importorskip(case.needs)


@each(CASES)
def test_the_page_shows_what_is_said(case):
    assert errors.row(case) in PAGE, "run: python docs/errors.py"


def test_the_page_has_nothing_else():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(CASES)
    assert [line[3:] for line in PAGE.splitlines() if line.startswith("## ")] == list(GROUPS)
    assert len({case.name for case in CASES}) == len(CASES)


@each([case for case in CASES if case.program])
def test_in_one_process_it_is_short_and_names_the_line(case):
    code, output = errors.output_of(case)
    assert code != 0
    judge(case, output)


def test_all_frames_are_shown_on_demand():
    case = next(case for case in CASES if case.name == "gradient of one replica")
    code, output = errors.output_of(dataclasses.replace(case, environ={"DISTOPT_DEBUG": "1"}))
    assert code == 1
    assert "optimizer.py" in output
    assert "inprocess.py" in output
    assert "left out" not in output


@each([case for case in CASES if case.argv])
def test_a_job_that_cannot_be_started_is_told_by_a_message(case):
    code, output = errors.output_of(case)
    assert code != 0
    assert output.startswith("distoptrun: ")
    assert "Traceback" not in output


@each([case for case in CASES if case.shown])
def test_messages_that_are_not_provoked_are_in_the_code(case):
    _, _, text = case.shown.rpartition("Error: ")
    pieces = [piece.strip(" (),:") for piece in text.split("...")]
    texts = _texts()
    assert all(any(piece in known for known in texts) for piece in pieces)


def _texts():
    """All texts in the code of distopt and its launcher."""
    found = []
    for package in (distopt, distopt_launch):
        for path in package.__path__:
            for file in sorted((ROOT / path).rglob("*.py")):
                for node in ast.walk(ast.parse(file.read_text())):
                    if isinstance(node, ast.JoinedStr):
                        parts = [getattr(part, "value", "") for part in node.values]
                        found.append("".join(part for part in parts if isinstance(part, str)))
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        found.append(node.value)
    return found
