"""Two files of figures are compared row by row."""

import json

import pytest

from benchmarks import compare
from benchmarks.report import Picture, Report, write_all


def document(effort="quick", higher_is_better=False, **figures):
    """Figures of distopt by case; beside each one of another library, always twice as slow as before."""
    picture = Picture("bars", "case", "peer", "ms")
    report = Report("step", "A step", picture, higher_is_better=higher_is_better)
    for case, value in figures.items():
        report.rows.append({"case": case, "peer": "distopt", "ms": value, "rounds": [value]})
        report.rows.append({"case": case, "peer": "gloo", "ms": 3.0 * value})
    return {"reports": [report.document(effort)]}


def test_more_than_a_tenth_worse_is_a_regression():
    both, alone = compare.changes(document(a=10.0, b=10.0, c=10.0), document(a=11.5, b=10.5, c=5.0))
    assert {change.case: change.regression for change in both if change.ours} == {
        "a, distopt": True,
        "b, distopt": False,
        "c, distopt": False,
    }
    assert not any(change.regression for change in both if "gloo" in change.case)
    assert not alone


def test_less_is_worse_where_higher_is_better():
    before, after = (document(higher_is_better=True, a=a, b=10.0) for a in (90.0, 80.0))
    both, _ = compare.changes(before, after)
    assert [change.case for change in both if change.regression] == ["a, distopt"]


def test_what_only_one_file_has_is_said():
    both, alone = compare.changes(document(a=1.0), document(b=1.0))
    assert not both
    assert "step, a, distopt: only in the first file" in alone
    assert "step, b, distopt: only in the second file" in alone


def test_the_command_prints_a_table_and_tells_by_its_exit_code(tmp_path, capsys):
    old, new = (
        write_all(document(a=a)["reports"], tmp_path / name) for name, a in (("old", 1.0), ("new", 1.2))
    )
    assert compare.main([str(old), str(new)]) == 1
    out = capsys.readouterr().out
    assert "regression" in out
    assert "+20.0%" in out
    assert "2 figures, 1 worse by more than 10%" in out
    assert compare.main([str(old), str(old)]) == 0


def test_files_that_cannot_be_compared(tmp_path, capsys):
    quick, tiny = (
        write_all(document(effort, a=1.0)["reports"], tmp_path / effort) for effort in ("quick", "tiny")
    )
    other = tmp_path / "other.json"
    other.write_text(json.dumps([1]))
    for files, text in (((quick, tiny), "quick in the first"), ((quick, other), "is no file of figures")):
        with pytest.raises(SystemExit, match="2"):
            compare.main([str(file) for file in files])
        assert text in capsys.readouterr().err
