"""What the user may set in the environment."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import distopt
from distopt.settings import Settings, settings

ROOT = Path(distopt.__file__).parent


def test_each_setting_is_read():
    """An attribute of that name is read somewhere in the package."""
    trees = [ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py")) if file.name != "settings.py"]
    read = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value).split(".")[-1] in ("settings()", "options", "settings", "limits", "base")
    }
    assert {field.name for field in fields(Settings)} <= read


def test_what_is_no_setting_is_refused():
    with pytest.raises(ValueError, match="DISTOPT_UPDATE"):
        settings({"DISTOPT_UPDATE": "sharded"})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DISTOPT_NODES", "two", "DISTOPT_NODES='two' is not a whole number"),
        ("DISTOPT_AUDIT_EVERY", "-1", "DISTOPT_AUDIT_EVERY='-1' is not a whole number of at least 0"),
        ("DISTOPT_ABORT_SECONDS", "-3", "DISTOPT_ABORT_SECONDS='-3' is not a number of at least 0"),
        ("DISTOPT_STALL_SECONDS", "nan", "DISTOPT_STALL_SECONDS='nan' is not a number of at least 0"),
        ("DISTOPT_STALL_SECONDS", "5s", "DISTOPT_STALL_SECONDS='5s' is not a number"),
        ("DISTOPT_DEBUG", "perhaps", "DISTOPT_DEBUG='perhaps' is not 1 or 0"),
    ],
)
def test_a_value_of_another_kind_is_refused(name, text, words):
    with pytest.raises(ValueError, match=words):
        settings({name: text})


def test_an_empty_variable_is_not_set():
    assert settings({f"DISTOPT_{field.name.upper()}": "" for field in fields(Settings)}) == Settings()
