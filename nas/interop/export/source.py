"""Python source in the style of formatters: calls on one line if they fit, else with one argument per line and a trailing comma."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nas.networks.blocks.source import Expression

COLUMNS = 88
INDENT = 4


def lines(expression: Expression, indent: int, before: str = "", after: str = "") -> list[str]:
    """`before` + expression + `after` as lines of at most `COLUMNS`, as far as they can be broken."""
    margin = " " * indent
    whole = f"{margin}{before}{expression}{after}"
    if len(whole) <= COLUMNS or isinstance(expression, str) or not expression.arguments:
        return [whole]
    broken = [f"{margin}{before}{expression.name}("]
    for argument in expression.arguments:
        keyword, value = argument if isinstance(argument, tuple) else ("", argument)
        broken += lines(value, indent + INDENT, f"{keyword}=" if keyword else "", ",")
    return [*broken, f"{margin}){after}"]


def docstring(paragraphs: Sequence[str | list[str]], indent: int) -> list[str]:
    """A docstring of these paragraphs; the lines of a paragraph that is a list are kept."""
    margin = " " * indent
    body: list[str] = []
    for paragraph in paragraphs:
        if isinstance(paragraph, str):
            width = COLUMNS - indent - 3
            paragraph = textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False)
        body += [""] if body else []
        body += [line.rstrip().replace("\\", "\\\\").replace('"', "'") for line in paragraph]
    if len(body) == 1 and len(margin + body[0]) + 6 <= COLUMNS:
        return [f'{margin}"""{body[0]}"""']
    return [f'{margin}"""{body[0]}', *(f"{margin}{line}" if line else "" for line in body[1:]), f'{margin}"""']
