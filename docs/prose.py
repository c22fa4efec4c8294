"""Checks the English of pages and docstrings: prints what is not plain, and what to write instead.

The rules name habits that translated English has. Code is not looked at.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: A phrase, and what to write instead.
RULES = {
    r"gone on with": "continued",
    r"begins? anew|began anew|begun anew|made anew": "starts again; starts from the beginning; new",
    r"(?<!\w)the own (?!er)": "its own, their own",
    r"(?:is|are|was|were) mended|what is mended|\bmend\b": "fixed; correct",
    r"(?:is|are) content with": "needs only",
    r"for want of": "for lack of",
    r"in the place of": "instead of",
    r"in place of (?=\d)": "instead of",
    r"\btake it (?:for|with|where|in)\b": "use it",
    r"\bpretended\b": "simulated",
    r"(?:is|are) to be (?:large|small|divided|written)": "must be, should be",
    r"\bof one's own\b": "your own",
    r"leaves? word": "reports",
    r"with a word(?! of)": "with a message",
    r"a word that": "a message that",
    r"put in, and said": "inserted and reported",
    r"if need be|than they need be": "if necessary; than necessary",
    r"\bbe it (?:on|in|by|as)\b": "even, also",
    r"\bas ever\b": "as before, as usual",
    r"\brightly\b": "correctly",
    r"what becomes of": "what happens to",
    r"made on purpose": "deliberate, injected",
    r"step by step to the number": "say from what to what",
    r"\bwhatever else\b": "any other",
    r"\bdealt out\b|\bdeals? out\b": "distributed; distribute",
    r"\bcomes? twice\b": "is repeated",
    r"\b(?:has|have) not (?:the|their|its)\b": "does not have, do not have",
    r"\bis weighed by\b": "is weighted by",
    r"\ball else\b(?= is\b| has\b)": "everything else",
    r"\bmakes? no sense\b": "is out of range, is invalid",
    r"\bno such (?:replica|state|axis)\b": "not a replica; lacks the axis",
    r"\butili[sz]e": "use",
    r"\bin order to\b": "to",
    r"\bsimply\b|\bobviously\b|\bof course\b": "nothing",
    r"\bthe the\b|\ba a\b|\bis is\b|\bto to\b|\bof of\b": "the word once",
}
#: What was written before the rules, and the page that a program writes.
_SKIPPED = ("CHANGELOG.md", "docs/reference/errors.md")
#: The packages whose docstrings are checked too.
_PACKAGES = ("torch", "jax", "keras", "checkpoint", "distribute")
_CODE = re.compile(r"^```.*?^```|^    .*?$|``.*?``|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, phrase and advice for each phrase in ``text`` that a rule names."""
    prose = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    for rule, advice in RULES.items():
        for match in re.finditer(rule.replace(" ", r"\s+"), prose, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), advice


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """First line and text of each docstring in a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring


def main() -> int:
    """Prints what it finds in all pages and docstrings; the exit code is 1 if there is any."""
    findings = 0
    for package in _PACKAGES:
        for module in sorted((ROOT / "distopt" / package).rglob("*.py")):
            for start, docstring in docstrings(module.read_text()):
                for line, phrase, advice in found(docstring):
                    findings += 1
                    name = module.relative_to(ROOT).as_posix()
                    print(f"{name}:{start + line - 1}: '{phrase}': write: {advice}")
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        name = page.relative_to(ROOT).as_posix()
        if name in _SKIPPED:
            continue
        for line, phrase, advice in found(page.read_text()):
            findings += 1
            print(f"{name}:{line}: '{phrase}': write: {advice}")
    return min(findings, 1)


if __name__ == "__main__":
    sys.exit(main())
