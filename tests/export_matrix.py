"""The matrix of designs and formats in docs/export.md, written by the tests: `pytest -m slow --export-matrix docs/export.md`.

A test that exports a design in a format and loads it again records what came of it. Rows that no test of this session made stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- matrix: written by the tests -->", "<!-- matrix: end -->"
PASS = "pass"


@dataclass(slots=True)
class Matrix:
    """What the tests of this session recorded: (design, format) -> '' for a pass, else the reason."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)

    def record(self, design: str, format_name: str, reason: str = "") -> None:
        self.cells[design, format_name] = reason


def rewritten(text: str, matrix: Matrix, formats: Iterable[str]) -> str:
    """The page with the rows of this session between its markers; the reasons stand below the table, once each."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    columns = list(formats)
    designs = list(dict.fromkeys(design for design, _ in matrix.cells))
    reasons = list(dict.fromkeys(reason for reason in matrix.cells.values() if reason))
    lines = [f"| design | {' | '.join(f'`{name}`' for name in columns)} |", f"|---{'|:-:' * len(columns)}|"]
    for design in designs:
        cells = []
        for name in columns:
            reason = matrix.cells.get((design, name))
            cells.append("" if reason is None else f"no ({reasons.index(reason) + 1})" if reason else PASS)
        lines.append(f"| {design} | {' | '.join(cells)} |")
    lines += ["", *(f"{k}. {reason}" for k, reason in enumerate(reasons, 1))]
    return "\n".join([before + BEGIN, *lines, END + after])


def write(path: Path, matrix: Matrix, formats: Iterable[str]) -> None:
    if matrix.cells:
        path.write_text(rewritten(path.read_text(encoding="utf-8"), matrix, formats), encoding="utf-8")
