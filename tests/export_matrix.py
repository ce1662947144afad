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
    """The page with this session's cells in its table, other designs' rows kept; the reasons stand below, once each."""
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    columns = list(formats)
    anew = {design for design, _ in matrix.cells}  # a row is of one session
    cells = {place: cell for place, cell in _read(table).items() if place[0] not in anew} | matrix.cells
    order = list(dict.fromkeys(design for design, _ in (*_read(table), *matrix.cells)))
    reasons = list(dict.fromkeys(cells[d, name] for d in order for name in columns if cells.get((d, name))))
    lines = [f"| design | {' | '.join(f'`{name}`' for name in columns)} |", f"|---{'|:-:' * len(columns)}|"]
    for design in order:
        found = [cells.get((design, name)) for name in columns]
        shown = ["" if c is None else f"no ({reasons.index(c) + 1})" if c else PASS for c in found]
        lines.append(f"| {design} | {' | '.join(shown)} |")
    lines += ["", *(f"{k}. {reason}" for k, reason in enumerate(reasons, 1))]
    return "\n".join([before + BEGIN, *lines, END + after])


def _read(table: str) -> dict[tuple[str, str], str]:
    """The cells of a table that was written before."""
    lines = table.strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    reasons = dict(line.split(". ", 1) for line in lines if line and line[0].isdigit())
    found = {}
    for design, *cells in rows[2:]:
        for name, cell in zip(rows[0][1:], cells, strict=True):
            if cell:
                found[design, name.strip("`")] = "" if cell == PASS else reasons[cell[4:-1]]
    return found


def write(path: Path, matrix: Matrix, formats: Iterable[str]) -> None:
    if matrix.cells:
        path.write_text(rewritten(path.read_text(encoding="utf-8"), matrix, formats), encoding="utf-8")
