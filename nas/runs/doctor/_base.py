"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["fine", "note", "warning", "repairable", "repaired", "needs you"]
SICK: tuple[Level, ...] = ("repairable", "needs you")  # what keeps a run or a machine from counting as healthy


@dataclass(frozen=True, slots=True)
class Finding:
    """`fine`, a `note`, a `warning` (works, but), `repairable` (by --repair), `repaired`, or `needs you`; `advice` what to do."""

    level: Level
    where: str  # a file of the run, a trial, a part of the machine
    what: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"level": self.level, "where": self.where, "what": self.what, "advice": self.advice}


def healthy(findings: list[Finding]) -> bool:
    return not any(finding.level in SICK for finding in findings)
