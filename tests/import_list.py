"""Which public files import, file by file: the table of `docs/import.md`.

Written by `pytest -m slow --import-list docs/import.md tests/interop/test_import_list.py`. A test that imports the models of a file of
timm's records what came of each; lines of files that no test of that run read stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from nas.networks.cost import Cost
from nas.utils.text import format_count

BEGIN, END = "<!-- timm: written by the tests -->", "<!-- timm: end -->"
PLACE = re.compile(r"^[\w., ]+( and \d+ more)?: ")  # where in a network a reason holds


@dataclass(slots=True)
class Imports:
    """Of each file of timm's: costs of the models that were imported, and the first reason against the others."""

    imported: dict[str, dict[str, Cost]] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)

    def record(self, file: str, model: str, outcome: Cost | str) -> None:
        imported, refused = self.imported.setdefault(file, {}), self.refused.setdefault(file, {})
        if isinstance(outcome, Cost):
            imported[model] = outcome
        else:
            refused[model] = PLACE.sub("", outcome)

    def line(self, file: str) -> str:
        """One row: what is imported with its costs, and by reason what is not."""
        imported, refused = self.imported[file], self.refused[file]
        found = ", ".join(
            f"`{model}` {'/'.join(format_count(own).replace(' ', '') for own in (cost.params, cost.macs))}"
            for model, cost in imported.items()
        )
        reasons: dict[str, list[str]] = {}
        for model, reason in refused.items():
            reasons.setdefault(reason, []).append(f"`{model}`")
        others = "; ".join(f"**{reason}**: {', '.join(models)}" for reason, models in reasons.items())
        return f"| {file} | {len(imported)} of {len(imported) + len(refused)} | {found or '–'} | {others or '–'} |"


def rewritten(text: str, imports: Imports) -> str:
    """The page with this session's rows in its table, others kept."""
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    rows = {line.split(" | ")[0][2:]: line for line in table.strip().splitlines()[2:]}
    rows |= {file: imports.line(file) for file in imports.imported}
    head = (
        "| file of timm's | | imported: parameters/multiply-adds | first reason against the others |\n|---|---|---|---|"
    )
    return "\n".join([before + BEGIN, head, *rows.values(), END + after])


def write(path: Path, imports: Imports) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(rewritten(text, imports), encoding="utf-8")
