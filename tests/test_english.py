"""Docstrings, comments, messages and pages use plain English and the field's terms; variables say what they hold.

CONTRIBUTING.md has the glossary. A word is listed here once it has made readers stop.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas

PACKAGE = Path(nas.__file__).parent
ROOT = PACKAGE.parent
# What is not written, and what to write in its place.
WORDS = {
    "behind": "after",
    "dear": "expensive",
    "dearer": "more expensive",
    "dearest": "most expensive",
    "said": "given, reported, stated",
    "told": "given, reported, passed to",
    "beside": "besides, next to, during",
    "anew": "again",
    "goes on": "continues, resumes",
    "go on": "continue, resume",
    "went on": "continued, resumed",
    "going on": "continuing, running",
    "held against": "compared with",
    "come along": "is included",
    "comes along": "is included",
    "of its own": "separate, its own",
    "by itself": "automatically, alone",
    "is spared": "is not measured, is skipped",
    "hours were over": "time budget was exhausted",
    "early epochs told": "rank correlation of early and final accuracy",
    "trials as lines": "parallel coordinates",
}
NAMES = {"found", "own", "said", "told"}  # of variables and arguments: what did it find, whose own, who said what?
PATTERN = re.compile(r"\b(" + "|".join(WORDS).replace(" ", r"\s+") + r")\b", re.IGNORECASE)
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
]


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Strings and comments of a Python file, with their lines."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def unclear_words(text: str, line: int = 1) -> list[str]:
    return [
        f"line {line + text.count(chr(10), 0, match.start())}: {match.group()!r}; write: {WORDS[' '.join(match.group().lower().split())]}"
        for match in PATTERN.finditer(text)
    ]


def unclear_names(source: str) -> list[str]:
    stored = (
        (node.lineno, node.id if isinstance(node, ast.Name) else node.arg)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    )
    return [f"line {line}: the variable {name!r}; say what it holds" for line, name in stored if name in NAMES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_in_plain_english(path):
    source = path.read_text(encoding="utf-8")
    assert [word for line, text in prose(source) for word in unclear_words(text, line)] + unclear_names(source) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_in_plain_english(path):
    assert unclear_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["# goes\n#on behind it", 'f"{x} is said twice"', '"""Dear reader"""'])
def test_what_is_unclear_is_found(text):
    assert any(unclear_words(part) for _, part in prose(text + "\n"))


def test_what_is_clear_is_let_through():
    assert unclear_words("The aforesaid lies behindhand.") == []
    assert unclear_names("best = found_architecture = 1") == []
    assert unclear_names("def f(found):\n    own = 1")
