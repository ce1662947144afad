"""The table of faults in docs/reliability.md, written by the tests that make them: `pytest --reliability docs/reliability.md`.

A test that makes a fault takes the fixture `faults` and records what was lost. Rows of tests that did not run are kept, so that the
table can be renewed in parts; a row says when it was measured by nothing but the commit that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- faults: written by the tests -->", "<!-- faults: end -->"
HEADER = "| fault | how it is made | trials lost | trained twice | epochs run twice | what happens |"
RULE = "|---|---|---:|---:|---:|---|"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: counts over the whole run of the test, and in a few words what the user sees."""

    fault: str
    made: str
    lost: int
    trained_twice: int
    epochs_twice: int
    then: str

    def row(self) -> str:
        cells = (self.fault, self.made, self.lost, self.trained_twice, self.epochs_twice, self.then)
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


@dataclass(slots=True)
class Faults:
    """What the tests of this session recorded."""

    rows: dict[str, Fault] = field(default_factory=dict)

    def record(self, fault: str, *, made: str, lost: int, trained_twice: int, epochs_twice: int, then: str) -> None:
        """A row for docs/reliability.md; a fault that several tests or seeds make keeps the worst counts of them."""
        new = Fault(fault, made, lost, trained_twice, epochs_twice, then)
        old = self.rows.get(fault)
        if old is not None:
            new = Fault(
                fault,
                made,
                max(old.lost, lost),
                max(old.trained_twice, trained_twice),
                max(old.epochs_twice, epochs_twice),
                then,
            )
        self.rows[fault] = new


def rewritten(text: str, faults: Iterable[Fault]) -> str:
    """The page with these rows between its markers, in place of rows of the same faults and behind those of others."""
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    kept = {line.split(" | ")[0][2:]: line for line in table.strip().splitlines()[2:]}
    kept.update({row.row().split(" | ")[0][2:]: row.row() for row in faults})
    return "\n".join([before + BEGIN, HEADER, RULE, *kept.values(), END + after])


def write(path: Path, faults: Faults) -> None:
    path.write_text(rewritten(path.read_text(encoding="utf-8"), faults.rows.values()), encoding="utf-8")
